"""Values that are hard to keep: both engines keep them, or fail that webhook alone."""

import random
from typing import Any

import pytest

from premblyd.prembly.payload import MAX_TEXT_BYTES
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


NAMES = ("response_code", "reference", "user_ref", "session_id")


def test_the_longest_texts_that_are_read_are_kept(store: Store) -> None:
    names: dict[str, Any] = {name: _text(MAX_TEXT_BYTES) for name in NAMES}
    store.wait(store.inbox.add(new_event(**names), []))
    assert store.rows(f"SELECT {', '.join(NAMES)} FROM event") == [tuple(names.values())]


@pytest.mark.usefixtures("lines")
@pytest.mark.parametrize("name", NAMES)
def test_a_text_that_is_too_long_for_an_index_fails_alone(store: Store, name: str) -> None:
    bad = store.inbox.add(new_event(b"bad", **{name: _text(10_000)}), [])
    good = store.inbox.add(new_event(b"good"), [])
    store.wait_all([bad, good])
    assert b"good" in store.bodies()
    assert store.writer.last_error is None


def _text(length: int) -> str:
    """Return a text that can't be compressed, as PostgreSQL would do."""
    return "".join(random.Random(length).choices("0123456789abcdefghijklmnopqrstuvwxyz", k=length))


def test_texts_sort_by_their_bytes(store: Store) -> None:
    for number, reference in enumerate(["é", "a", "_", "B", "~1", "A"]):
        store.add("crm", body=b"%d" % number, reference=reference)
    rows = store.rows("SELECT reference FROM event ORDER BY reference")
    assert [reference for (reference,) in rows] == ["A", "B", "_", "a", "~1", "é"]
