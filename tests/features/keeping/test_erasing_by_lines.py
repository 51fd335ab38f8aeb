"""Who was erased after a copy was made is erased again in it, by lines."""

import functools
import itertools
import sqlite3
from collections.abc import Iterable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

from premblyd.features.asking.states import InquiryResult, Purpose
from premblyd.features.keeping import erasing, erasurelines, holds
from premblyd.features.keeping.erasurelines import AppliedAgain, Line, all_lines, union
from premblyd.features.keeping.persons import Named
from premblyd.ground.times import DAY_MS
from premblyd.queue.inbox import NewDelivery
from premblyd.store.connections import connect_operator, connect_read_only
from tests.features.asking.questions import ask
from tests.features.keeping.test_erasing import (
    ABOUT_PERSON,
    ADA,
    KEYED,
    arrive,
    canary,
    erase,
    fill,
    left,
    texts,
)
from tests.features.names.linked import name_one
from tests.support.store import NOW_MS, Store, store_at

PARTS = "SELECT removed_parts FROM event ORDER BY id"
ERASED_AT_MS = NOW_MS + DAY_MS


def lines_about(store: Store, named: Named = ADA, at_ms: int = ERASED_AT_MS) -> list[Line]:
    """Return the lines that an erasure would leave, if it took place elsewhere."""
    with closing(connect_read_only(store.place)) as database:
        found = database.look(functools.partial(erasing.look, named=named, now_ms=NOW_MS))
    said = [*((0, name) for name in found.digests), *found.keys.items()]
    about: dict[str, Any] = {"at_ms": at_ms, "number": 40, "found_by": named.by, "actor": "dpo"}
    return [Line(event_id=event_id, key=key, **about) for event_id, key in said]


def again(store: Store, lines: Iterable[Line]) -> AppliedAgain:
    with closing(connect_operator(store.place)) as database:
        return erasurelines.erase_again(database, lines, NOW_MS)


def known_lines(store: Store) -> list[Line]:
    with closing(connect_read_only(store.place)) as database:
        return union(all_lines(database))


def copied(path: Path, to: Path) -> Path:
    """Return a copy of a SQLite database as it is now, with what its log has."""
    with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(to)) as target:
        source.backup(target)
    return to


# --- Monday's copy, Tuesday's erasure --------------------------------------------------------


def test_nobody_of_tuesday_is_in_any_column_of_mondays_copy(path: Path, tmp_path: Path) -> None:
    with store_at(path) as store:
        fill(store)
        monday = copied(path, tmp_path / "monday.db")
        done = erase(store, Named.user(canary(ABOUT_PERSON[0], "user_ref")))
        lines, after = known_lines(store), dict(texts(store))
    with store_at(monday) as store:
        assert left(store) > KEYED
        assert again(store, lines) == AppliedAgain(erasures=1, events=1)
        assert left(store) == KEYED
        differs = {table for table, text in texts(store) if text != after[table]}
        assert differs <= {"erasure", "awaited", "operator_action"}, "reasons, times, who did it"
        listed = "SELECT at_ms, actor, found_by, events FROM erasure"
        assert store.rows(listed) == [(done.at_ms, "dpo", "user_ref", 1)]
        assert known_lines(store) == lines, "so that the next copy has them too"
        assert again(store, lines) == AppliedAgain(), "and all was done"


def test_who_was_erased_is_so_on_every_engine(store: Store) -> None:
    fill(store)
    lines = lines_about(store, Named.user(canary(ABOUT_PERSON[0], "user_ref")))
    assert (again(store, lines).events, left(store)) == (1, KEYED)
    assert {each[2:4] for each in known_lines(store)} == {each[2:4] for each in lines}
    assert again(store, lines) == AppliedAgain()


def test_others_stay_and_what_comes_later_is_stored_erased(store: Store) -> None:
    for number in range(3):
        arrive(store, number)
    lines = lines_about(store)
    arrive(store, 3, user_ref="eve", reference="ref-eve", session_id=None)
    assert again(store, lines).events == 3
    arrive(store, 4)
    assert store.rows(PARTS) == [("erased",)] * 3 + [(None,), ("erased",)]
    assert "ref-eve" in dict(texts(store))["event"]


@pytest.mark.parametrize("changed", ["number", "key"])
def test_only_an_event_with_both_number_and_key_is_emptied(store: Store, changed: str) -> None:
    """After a failover a number comes again, of somebody else."""
    lines = lines_about(store, Named.event(arrive(store, 1)))
    if changed == "key":
        store.by_hand("UPDATE event SET key = 'other'")
    else:
        store.by_hand("UPDATE event SET id = id + 1")
    assert again(store, lines) == AppliedAgain()
    assert store.rows(PARTS) == [(None,)]
    assert store.rows("SELECT id FROM erasure") == []


def test_rows_about_no_event_say_no_name_any_more(store: Store) -> None:
    arrive(store, 1, session_id="session-ada")
    ask(store, Purpose.RECONCILE, InquiryResult.NOT_FOUND, "ref-ada", event_id=None)
    ask(store, Purpose.RECONCILE, InquiryResult.NOT_FOUND, "ref-eve", event_id=None)
    noted = "INSERT INTO operator_action (at_ms, actor, action, note) VALUES (?, 'ops', 'x', ?)"
    for note in ("of ref-ada", "of ada-lovelace", "of session-ada", "of ref-eve"):
        store.by_hand(noted, NOW_MS, note)
    paused = "INSERT INTO pause (action, since_ms, reason) VALUES ('crm', 1, 'as ref-ada said')"
    store.by_hand(paused)
    store.call(lambda each: name_one(each, ["ref-ada", "ver-ada"], NOW_MS))
    again(store, lines_about(store))
    said = dict(texts(store))
    for table in ("inquiry", "operator_action", "pause", "verification_name", "event"):
        for name in ("ref-ada", "ver-ada", "ada-lovelace", "session-ada"):
            assert name not in said[table], (table, name)
    assert "ref-eve" in said["inquiry"]
    assert "of ref-eve" in said["operator_action"]


def test_a_hold_forbids_nothing_and_ends(store: Store) -> None:
    """It had ended before its person was erased; the copy was made before that."""
    arrive(store, 1)
    lines = lines_about(store)
    for each in (ADA, Named.reference("ref-ada"), Named.user("eve")):
        store.call(holds.place(each, actor="court", now_ms=NOW_MS))
    again(store, lines)
    assert store.rows(PARTS) == [("erased",)]
    held = "SELECT user_ref, reference, reason, ended_at_ms FROM hold ORDER BY id"
    ended = (None, None, None, NOW_MS)
    assert store.rows(held) == [ended, ended, ("eve", None, None, None)]


# --- Crashes, and what else may come between -------------------------------------------------


def test_wherever_it_was_ended_it_goes_on(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(erasing, "MOST_AT_ONCE", 2)
    for number in range(5):
        arrive(store, number, NewDelivery("crm", 3))
    lines = lines_about(store)
    with closing(connect_operator(store.place)) as database:
        whole = database.transact
        for ended_after in itertools.count():
            left = iter(range(ended_after))

            def transact(work: Any, **how: Any) -> Any:
                if next(left, None) is None:  # noqa: B023
                    raise KeyboardInterrupt
                return whole(work, **how)

            monkeypatch.setattr(database, "transact", transact)
            with suppress(KeyboardInterrupt):
                erasurelines.erase_again(database, lines, NOW_MS)
                break
    assert store.rows(PARTS) == [("erased",)] * 5
    assert store.rows("SELECT events, cancelled FROM erasure") == [(5, 5)]
    assert store.rows("SELECT id FROM to_erase") == []
    assert {each.key for each in known_lines(store)} == {each.key for each in lines}
