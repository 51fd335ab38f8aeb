"""What is paused waits, at no cost and in its place, and holds up nothing else."""

from dataclasses import replace
from typing import Any

from premblyd.features.keeping import personrows
from premblyd.features.pause import pauses
from premblyd.features.pause.shown import PAUSED_MS
from premblyd.features.statistics import shown as statistics
from premblyd.features.turns.settings import Then
from premblyd.queue.due import NO_ACTION
from premblyd.queue.inbox import NewDelivery
from premblyd.queue.jobs import Claimable, Job, Room
from premblyd.record import troubles
from premblyd.record.told import Item, Situation
from premblyd.record.troubles import LATE_MS
from premblyd.store.engine import Database
from tests.core.queue.test_claims import cost as cost  # noqa: PLC0414 (a fixture)
from tests.support.engines import place as place  # noqa: PLC0414 (a fixture)
from tests.support.jobs import action, settings
from tests.support.queue import (
    DELIVERIES,
    FAILED,
    LATER_MS,
    LEASE_MS,
    SUCCEEDED,
    add_many,
    claim,
    finish,
    ids,
    recover,
)
from tests.support.store import NOW_MS, Store, new_event

DONE = "SELECT actor, action, note FROM operator_action ORDER BY id"
PAUSED = "SELECT action, since_ms, until_ms, reason FROM pause ORDER BY action"


def pause(store: Store, name: str, until_ms: int | None = None, **more: Any) -> None:
    how = {"now_ms": NOW_MS, "reason": None} | more
    store.call(pauses.pause("ops", name, how["now_ms"], until_ms, how["reason"]))


def resume(store: Store, name: str, now_ms: int = NOW_MS) -> bool:
    return store.call(pauses.resume("ops", name, now_ms))


def test_what_is_paused_waits_at_no_cost_and_runs_in_its_order_when_it_is_resumed(
    store: Store,
) -> None:
    add_many(store, 3, "crm", "mail")
    before = store.rows(DELIVERIES)
    pause(store, "crm", reason="it is moved")
    assert [job.action for job in claim(store, crm=9, mail=9).jobs] == ["mail"] * 3
    assert claim(store, crm=9, mail=9).jobs == []
    still = [row for row in store.rows(DELIVERIES) if row[1] == "pending"]
    assert still == [row for row in before if row in still]
    assert len(still) == 3
    assert resume(store, "crm") is True
    assert ids(claim(store, crm=9)) == [row[0] for row in still]
    assert resume(store, "crm") is False
    assert store.rows(DONE) == [("ops", "pause", "crm: it is moved"), ("ops", "resume", "crm")]


def test_a_pause_ends_by_itself_and_a_claim_says_when(store: Store) -> None:
    store.add("crm")
    pause(store, "crm", NOW_MS + 500)
    claimed = claim(store, NOW_MS + 499, crm=1)
    assert (claimed.jobs, claimed.next_due_ms) == ([], NOW_MS + 500)
    assert len(claim(store, NOW_MS + 500, crm=1).jobs) == 1
    assert resume(store, "crm", NOW_MS + 500) is False, "it is over"


def test_a_pause_that_was_resumed_stays_over_though_the_clock_is_set_back(store: Store) -> None:
    before_ms = NOW_MS - 3_600_000
    store.add("crm", received_at_ms=before_ms)
    for until_ms in (None, LATER_MS):
        pause(store, "crm", until_ms)
        assert resume(store, "crm") is True
        assert resume(store, "crm", before_ms) is False
    assert len(claim(store, before_ms, crm=1).jobs) == 1


def test_a_pause_that_is_said_again_lasts_since_its_beginning(store: Store) -> None:
    pause(store, "crm", NOW_MS + 500, reason="first")
    pause(store, "crm", reason="second", now_ms=NOW_MS + 1)
    assert store.rows(PAUSED) == [("crm", NOW_MS, None, "second")]
    pause(store, "crm", NOW_MS + 9, now_ms=NOW_MS + 2)
    pause(store, "crm", now_ms=NOW_MS + 9)
    assert store.rows(PAUSED) == [("crm", NOW_MS + 9, None, None)], "the first one was over"


def test_what_has_begun_ends_as_it_does_and_its_next_attempt_waits(store: Store) -> None:
    """Also of what ran when its daemon died."""
    add_many(store, 3, "crm")
    first, second, third = claim(store, crm=3).jobs
    pause(store, "crm")
    assert finish(store, first, SUCCEEDED) is True
    assert finish(store, second, FAILED, retry_at_ms=NOW_MS + 1) is True
    assert recover(store, NOW_MS) == [third.delivery_id]
    assert claim(store, LATER_MS, crm=9).jobs == []
    assert resume(store, "crm") is True
    again = claim(store, LATER_MS, crm=9)
    assert (sorted(ids(again)), {job.attempt for job in again.jobs}) == ([2, 3], {2})


def test_what_is_paused_with_once_or_order_holds_up_no_other_action(store: Store) -> None:
    then: Then = "wait"
    names = {"crm": None, "other": None, "line": then, "free": then}
    for number in range(3):
        event = new_event(b"%d" % number, reference="one")
        deliveries = [NewDelivery(name, 3, its) for name, its in names.items()]
        store.wait(store.inbox.add(event, deliveries))
    lines = "SELECT state, held_by FROM delivery WHERE action IN ('crm', 'line') ORDER BY id"
    before = store.rows(lines)
    for name in ("crm", "line"):
        pause(store, name)
    plain = Claimable(slots=9, lease_ms=LEASE_MS, digest="")
    actions = {name: replace(plain, takes_turns=its is None) for name, its in names.items()}

    def claimed(now_ms: int) -> dict[str, Job]:
        found = store.wait(store.queue.claim(actions, Room(limit=9), now_ms))
        return {job.action: job for job in found.jobs}

    jobs = claimed(NOW_MS)
    assert jobs.keys() == {"other", "free"}
    assert all(finish(store, job, SUCCEEDED) for job in jobs.values())
    assert claimed(LATER_MS).keys() == {"free"}
    assert store.rows(lines) == before, "each stands as it stood"


def test_what_an_action_that_is_gone_has_left_ends_dead_only_once_its_pause_is_over(
    store: Store,
) -> None:
    store.add("crm")
    pause(store, "crm")
    assert claim(store, mail=1).passed == 0
    assert store.rows("SELECT state FROM delivery") == [("pending",)]
    resume(store, "crm")
    assert claim(store, mail=1).passed == 1
    assert store.rows("SELECT state, last_error FROM delivery") == [("dead", NO_ACTION)]


def found(record: Database, now_ms: int, *names: str) -> list[Item]:
    known = with_actions(*names)
    kinds = ["late", "failing", "paused"]
    return troubles.items(Situation(record=record, now_ms=now_ms, settings=known), kinds=kinds)


def with_actions(*names: str) -> Any:
    return settings().model_copy(update={"actions": tuple(action(name) for name in names)})


def test_what_is_paused_is_neither_late_nor_failing_and_overdue_in_no_metric(
    store: Store, record: Database
) -> None:
    add_many(store, 3, "crm")
    for job in claim(store, crm=3).jobs:
        finish(store, job, FAILED, retry_at_ms=NOW_MS)
    late_ms = NOW_MS + LATE_MS + 1
    assert [item.kind for item in found(record, late_ms, "crm")] == ["late", "failing"]
    pause(store, "crm")
    assert found(record, late_ms, "crm") == []
    [figures] = statistics.actions(record, since_ms=0, now_ms=late_ms)
    assert (figures.overdue, figures.waiting) == (0, 4), "with the one of the record"
    assert figures.pause is not None
    resume(store, "crm", late_ms)
    soon_ms = late_ms + LATE_MS
    assert [item.kind for item in found(record, soon_ms - 1, "crm")] == ["failing"], "it may begin"
    assert [item.kind for item in found(record, soon_ms, "crm")] == ["late", "failing"]


def test_a_pause_needs_somebody_who_may_have_forgotten_it(store: Store, record: Database) -> None:
    pause(store, "crm", reason="it is moved")
    pause(store, "mail", NOW_MS + 9 * PAUSED_MS)
    assert found(record, NOW_MS + PAUSED_MS, "crm", "mail") == []
    [item] = found(record, NOW_MS + PAUSED_MS + 1, "crm", "mail")
    assert item.text == "crm has been paused since 2023-11-14 22:13:20 UTC.", (
        "alerts take no reason along"
    )
    assert item.command == "premblyd resume crm"


def test_a_reason_that_names_who_is_erased_goes(store: Store) -> None:
    pause(store, "crm", reason="because of usr_000051 alone")
    pause(store, "mail", reason="because of usr_0000512")
    names = personrows.Names(frozenset({"usr_000051"}), frozenset(), frozenset())
    rows = store.call(lambda each: personrows.eventless(each, names))
    assert len(rows["pause"]) == 1
    store.call(lambda each: personrows.erase_eventless(each, rows))
    assert store.rows("SELECT action, reason FROM pause ORDER BY action") == [
        ("crm", None),
        ("mail", "because of usr_0000512"),
    ]
