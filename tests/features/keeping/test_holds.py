"""Who is held, until when, and what is on record of it."""

import asyncio
import functools
from typing import Any
from unittest import mock

import pytest

from premblyd.features.keeping import holds, listing
from premblyd.features.keeping.persons import Named
from premblyd.features.keeping.retention import Remover
from premblyd.features.keeping.settings import Retention
from premblyd.features.keeping.tables import Removed
from premblyd.ground.times import DAY_MS
from premblyd.record.operating import Operator
from premblyd.store.engine import Database, Statement
from premblyd.store.tables import Event
from tests.features.names.linked import name_one
from tests.support.store import NOW_MS, Store, transaction_open
from tests.support.waiting import wait_until

WAITING = """
SELECT count(*) FROM pg_locks JOIN pg_database ON pg_database.oid = pg_locks.database
WHERE datname = current_database() AND NOT granted
"""
UUID = "0b6ba2e4-6d83-4c43-ae3c-7a3ce2b1a001"
SPELT = UUID.replace("-", "_").upper()
LATER_MS = NOW_MS + 1000


def add(store: Store, *, user_ref: str | None, reference: str | None, **more: Any) -> int:
    """Store an event with a body of its own."""
    body = f"{user_ref} {reference} {more}".encode()
    more.setdefault("session_id", None)
    return store.add(body=body, user_ref=user_ref, reference=reference, **more).event_id


def hold(store: Store, **about: Any) -> int:
    user_ref, reference = about.pop("user_ref", None), about.pop("reference", None)
    named = Named.user(user_ref) if user_ref is not None else Named.reference(reference)
    return store.call(holds.place(named, actor="ada", now_ms=NOW_MS, **about))


def held(store: Store, now_ms: int = NOW_MS) -> set[int]:
    """Return which events are held."""

    def look(transaction: Any) -> set[int]:
        everything = [row[0] for row in transaction.rows(Statement(Event.select(Event.id)))]
        return holds.held(transaction, everything, now_ms)

    return store.call(look)


def test_a_hold_on_a_person_holds_what_names_him_and_what_has_his_references(store: Store) -> None:
    named = add(store, user_ref="u", reference=UUID)
    nameless = add(store, user_ref=None, reference=SPELT)
    add(store, user_ref="other", reference=UUID)  # may be forged: it is another person's
    add(store, user_ref=None, reference="r")
    hold(store, user_ref="u")
    assert held(store) == {named, nameless}


def test_a_hold_on_a_reference_holds_it_in_every_spelling_and_by_every_name(store: Store) -> None:
    spellings = [add(store, user_ref=None, reference=each) for each in (UUID, SPELT)]
    other_name = add(store, user_ref="someone", reference="r-2")
    add(store, user_ref=None, reference="r-3")
    store.call(lambda it: name_one(it, [UUID, "r-2"], NOW_MS))
    hold(store, reference=SPELT)
    assert held(store) == {*spellings, other_name}


def test_a_hold_follows_a_session_and_may_be_on_its_id(store: Store) -> None:
    named = add(store, user_ref="u", reference="r", session_id="s")
    alone = add(store, user_ref=None, reference=None, session_id="s")
    other = add(store, user_ref="v", reference="r-2", session_id="t")
    hold(store, user_ref="u")
    assert store.call(lambda it: holds.held(it, range(1, other + 1), NOW_MS)) == {named, alone}
    hold(store, reference="t")
    assert store.call(lambda it: holds.held(it, [other], NOW_MS)) == {other}


def test_a_person_of_whom_nothing_is_stored_is_held_when_something_comes(store: Store) -> None:
    both = [hold(store, user_ref="same"), hold(store, reference="same")]
    assert held(store) == set()
    number = add(store, user_ref="same", reference="r")
    assert held(store) == {number}
    assert store.call(lambda it: holds.on(it, ["same"], ["same"], NOW_MS)) == both


def test_a_hold_ends_when_its_time_is_over_and_then_names_nobody(store: Store) -> None:
    number = add(store, user_ref="u", reference="r")
    hold(store, user_ref="u", until_ms=LATER_MS, reason="a claim")
    hold(store, reference="other", reason="lasts")
    assert held(store, LATER_MS - 1) == {number}
    assert held(store, LATER_MS) == set()
    assert store.wait(store.writer.call(lambda it: holds.forget_ended(it, LATER_MS))) == 1
    said = "SELECT user_ref, reference, reason FROM hold ORDER BY id"
    assert store.rows(said) == [(None, None, None), (None, "other", "lasts")]


def test_each_hold_on_a_person_ends_on_its_own(store: Store) -> None:
    number = add(store, user_ref="u", reference=UUID)
    first, second = hold(store, user_ref="u"), hold(store, reference=UUID, reason="a claim")

    def end(which: int) -> bool:
        return store.call(holds.end(which, actor="bola", now_ms=LATER_MS))

    assert end(first)
    assert held(store, LATER_MS) == {number}
    assert not end(first)
    assert end(second)
    assert held(store, LATER_MS) == set()
    ended = "SELECT user_ref, reference, reason, ended_at_ms, ended_by FROM hold"
    assert store.rows(ended) == [(None, None, None, LATER_MS, "bola")] * 2
    recorded = store.rows("SELECT actor, action, note FROM operator_action ORDER BY id")
    placed = [("ada", "hold", f"hold {each}") for each in (first, second)]
    assert recorded == [*placed, *(("bola", "end-hold", note) for _, _, note in placed)]


def test_the_list_has_what_is_in_force(store: Store, database: Database) -> None:
    over, lasts = hold(store, user_ref="u", until_ms=LATER_MS), hold(store, reference=SPELT)
    rows = listing.holds(database, NOW_MS)
    assert [(row.id, row.user_ref or row.reference) for row in rows] == [(over, "u"), (lasts, UUID)]
    assert [row.id for row in listing.holds(database, LATER_MS)] == [lasts]


@pytest.mark.postgresql
@pytest.mark.parametrize("place", ["postgresql"], indirect=True)
def test_what_is_held_at_the_moment_of_its_removal_stays(store: Store) -> None:
    """On SQLite nobody reads holds for a removal while another transaction writes one."""
    add(store, user_ref="u", reference="r")
    other = store.beside("b")
    periods = Retention.model_validate({"record": "1h"})
    remover = Remover(retention=periods, now_ms=NOW_MS + DAY_MS)
    portion = functools.partial(remover.remove, removed=Removed.RECORD, after=None)
    with transaction_open(store, holds.place(Named.user("u"), actor="ada", now_ms=NOW_MS)):
        removal = other.writer.call(portion)
        store.wait(asyncio.sleep(0))  # the writer's thread has it now
        wait_until(lambda: store.rows(WAITING) != [(0,)])
    assert store.wait(removal).count == 0
    other.close()
    assert store.rows("SELECT count(*) FROM event") == [(1,)]


@pytest.mark.postgresql
@pytest.mark.parametrize("place", ["postgresql"], indirect=True)
def test_nothing_is_queued_for_an_event_that_another_host_removes_meanwhile(store: Store) -> None:
    """On SQLite one waits for the other."""
    for number in (1, 2):
        store.add(body=b"%d" % number, received_at_ms=NOW_MS + number * DAY_MS)
    other = store.beside("b")
    periods = Retention.model_validate({"record": "1h"})
    remover = Remover(retention=periods, now_ms=NOW_MS + 2 * DAY_MS)
    portion = functools.partial(remover.remove, removed=Removed.RECORD, after=None)
    [change] = Operator(actor="ada").add([1, 2], "crm", 3, NOW_MS)
    with transaction_open(store, portion):
        queueing = other.writer.call(change, alone=True)
        store.wait(asyncio.sleep(0))  # the writer's thread has it now
        wait_until(lambda: store.rows(WAITING) != [(0,)])
    assert store.wait(queueing) == 1
    other.close()
    assert store.rows("SELECT event_id FROM delivery") == [(2,)]


def test_what_many_events_lead_to_is_looked_up_once_though_all_are_held(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    about: dict[str, Any] = {"user_ref": None, "reference": "r", "session_id": "s"}
    many = [add(store, token=str(number), **about) for number in range(20)]
    add(store, user_ref="u", reference="r")
    number = hold(store, user_ref="u")

    def look_ups(transaction: Any, event_ids: list[int]) -> int:
        look_up = mock.Mock(wraps=transaction.look_up)
        with monkeypatch.context() as patched:
            patched.setattr(transaction, "look_up", look_up)
            assert holds.held(transaction, event_ids, NOW_MS) == set(event_ids)
        assert holds.on_events(transaction, event_ids, NOW_MS) == [number]
        return look_up.call_count

    of_one = store.call(lambda it: look_ups(it, many[:1]))
    of_all = store.call(lambda it: look_ups(it, many))
    assert of_one == of_all
