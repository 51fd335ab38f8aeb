"""The numbers of what is stored: on SQLite one follows another."""

import itertools

import pytest

from premblyd.queue.inbox import NewDelivery
from tests.support.store import Store, is_fault, new_event

MIXED = ["".join(pattern) for pattern in itertools.product("no", repeat=4)]


@pytest.mark.usefixtures("lines")
def test_numbers_have_no_gaps_whatever_was_a_duplicate_or_failed(store: Store) -> None:
    """A number that is missing is a deletion, to an auditor."""
    old = new_event(b"old")
    for number, pattern in enumerate(MIXED):
        webhooks = [
            new_event(b"%d %d" % (number, place)) if letter == "n" else old
            for place, letter in enumerate(pattern)
        ]
        store.wait_all(store.inbox.add(each, [NewDelivery("crm", 3)]) for each in webhooks * 2)
        failing = store.inbox.add(new_event(b"%d bad" % number), [NewDelivery("huge", 1 << 64)])
        beside = store.inbox.add(new_event(b"%d good" % number), [])
        assert is_fault(store.wait_all([failing, beside])[0])
    for table in ("event", "delivery"):
        ids = [number for (number,) in store.rows(f"SELECT id FROM {table} ORDER BY id")]
        assert ids == [*range(1, len(ids) + 1)]
    [(events,)] = store.rows("SELECT count(*) FROM event")
    assert events == "".join(MIXED).count("n") + 1 + len(MIXED)
