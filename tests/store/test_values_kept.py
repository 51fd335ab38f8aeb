"""Values that are hard to keep: both engines keep them, or fail that webhook alone."""

import pytest

from tests.support.store import Store, is_fault, new_event


def test_a_body_of_sixteen_mib_is_kept(store: Store) -> None:
    body = bytes(range(256)) * (1 << 16)
    store.add("crm", body=body)
    assert store.bodies() == [body]


def test_a_text_with_nul_is_kept_or_marked(store: Store) -> None:
    store.add("crm", reference="a\0b")
    [(reference,)] = store.rows("SELECT reference FROM event")
    assert reference in ("a\0b", "a\N{REPLACEMENT CHARACTER}b")  # PostgreSQL has no NUL in a text


@pytest.mark.usefixtures("lines")
def test_a_text_that_is_no_unicode_fails_alone(store: Store) -> None:
    bad = store.inbox.add(new_event(b"bad", reference="\ud800"), [])
    good = store.inbox.add(new_event(b"good"), [])
    assert is_fault(store.wait_all([bad, good])[0])
    assert store.bodies() == [b"good"]


def test_texts_sort_by_their_bytes(store: Store) -> None:
    for number, reference in enumerate(["é", "a", "_", "B", "~1", "A"]):
        store.add("crm", body=b"%d" % number, reference=reference)
    rows = store.rows("SELECT reference FROM event ORDER BY reference")
    assert [reference for (reference,) in rows] == ["A", "B", "_", "a", "~1", "é"]
