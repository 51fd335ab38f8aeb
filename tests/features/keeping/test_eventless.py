"""What is private and no event leads to: it goes by its own time."""

from typing import Any

import pytest

from premblyd.features.keeping import holds
from premblyd.features.keeping.persons import Named
from premblyd.ground.times import DAY_MS
from tests.features.keeping.test_retention import LATER_MS, sweep
from tests.features.names.linked import name_one
from tests.support.store import NOW_MS, Store


def count(store: Store, table: str) -> int:
    return int(store.rows(f"SELECT count(*) FROM {table}")[0][0])


def ask(store: Store, at_ms: int) -> None:
    """Have Prembly asked for what never came."""
    store.by_hand(
        "INSERT INTO inquiry (at_ms, purpose, reference, error, result, duration_ms)"
        " VALUES (?, 'reconcile', 'r', 'e', 'not_found', 1)",
        at_ms,
    )


def test_what_is_about_no_event_loses_all_it_says_of_people_and_later_its_row(store: Store) -> None:
    """A question about what never came, and what people did."""
    add = "INSERT INTO operator_action (at_ms, actor, action, note) VALUES (?, 'a', 'sign-in', 'n')"
    for at_ms in (NOW_MS, LATER_MS):
        ask(store, at_ms)
        store.by_hand(add, at_ms)
    sweep(store, identity="1d", record="30d")
    shown = "SELECT at_ms, reference, error FROM inquiry ORDER BY id"
    assert store.rows(shown) == [(NOW_MS, None, None), (LATER_MS, "r", "e")]
    notes = "SELECT actor, note FROM operator_action ORDER BY id"
    assert store.rows(notes) == [("a", None), ("a", "n")]
    sweep(store, NOW_MS + 30 * DAY_MS, record="30d")
    assert store.rows("SELECT at_ms FROM inquiry") == [(LATER_MS,)]
    assert store.rows(notes) == [("a", "n")]


@pytest.mark.parametrize(("left", "names"), [("b", 2), (None, 0)])
def test_names_go_with_the_last_of_their_events(left: str | None, names: int, store: Store) -> None:
    store.call(lambda it: name_one(it, ["a", "b", "session-1"], NOW_MS))
    store.add(reference="a")
    if left is not None:
        store.add(reference=left, received_at_ms=LATER_MS, body=b"2")
    sweep(store, identity="1d")
    assert count(store, "verification_name") == names


def test_what_names_who_is_held_stays_though_it_is_about_no_event(store: Store) -> None:
    """What Prembly was asked, and as which else it knows the verification."""
    ask(store, NOW_MS)

    def note(transaction: Any) -> None:
        name_one(transaction, ["r", "s"], NOW_MS)
        subject = Named.reference("s")
        holds.place(subject, actor="court", now_ms=NOW_MS, until_ms=LATER_MS)(transaction)

    store.call(note)
    tables = ("inquiry", "verification_name")
    sweep(store, LATER_MS - 1, identity="1d", record="2d")
    assert [count(store, table) for table in tables] == [1, 2]
    assert store.rows("SELECT reference FROM inquiry") == [("r",)]
    sweep(store, LATER_MS, identity="1d", record="2d")
    assert [count(store, table) for table in tables] == [0, 0]
