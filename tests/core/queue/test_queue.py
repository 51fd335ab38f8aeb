"""The queue's contract: what is claimed, what a report changes, and what a crash leaves."""

import asyncio
from dataclasses import fields
from typing import Any

import pytest

from premblyd.prembly.payload import Verdict, Webhook
from premblyd.queue.due import NO_ACTION
from premblyd.queue.end import CRASHED
from premblyd.queue.inbox import NewDelivery
from premblyd.queue.jobs import Claimed, Job, Result
from premblyd.record.operating import Operator
from premblyd.run.dispatcher import Actions
from premblyd.store.states import State
from tests.support.jobs import action as an_action
from tests.support.jobs import ending
from tests.support.queue import (
    ATTEMPTS,
    DELIVERIES,
    FAILED,
    INTERRUPTED,
    LATER_MS,
    LEASE_MS,
    SUCCEEDED,
    TIMED_OUT,
    add_many,
    claim,
    everything,
    finish,
    ids,
    recover,
)
from tests.support.store import NOW_MS, Store, new_event


def test_a_job_holds_all_that_its_hook_needs(store: Store) -> None:
    added, event = store.add("crm", attempts=3), new_event()
    [job] = claim(store, NOW_MS + 5, crm=1).jobs
    assert (job.delivery_id, job.attempt_id, job.attempt, job.attempts_left) == (1, 1, 1, 2)
    assert (job.action, job.event.id, job.event.key) == ("crm", added.event_id, added.key)
    for name in {field.name for field in fields(Webhook)}:
        assert getattr(job.event, name) == getattr(event, name)
    assert job.event.verdict.face_match is True
    [attempt] = store.rows("SELECT worker, action_digest FROM attempt")
    assert attempt == ("host:1:boot", "crm")
    names = {field.name for field in fields(Verdict)} - {"kind", "type", "outcome", "doubt"}
    nothing: dict[str, Any] = dict.fromkeys(names)
    store.add("crm", body=b"says nothing", **nothing)
    [job] = claim(store, crm=1).jobs
    assert {getattr(job.event.verdict, name) for name in names} == {None}


def test_claims_follow_the_order_in_which_deliveries_became_due(store: Store) -> None:
    for number, (action, due_at_ms) in enumerate([("b", 30), ("a", 20), ("b", 10), ("a", 10)]):
        store.add(action, body=b"%d" % number, received_at_ms=NOW_MS + due_at_ms)
    assert ids(claim(store, NOW_MS + 9, a=9, b=9)) == []
    assert ids(claim(store, NOW_MS + 10, a=9, b=9)) == [3, 4]
    assert ids(claim(store, NOW_MS + 30, a=9, b=9)) == [2, 1]


def test_a_claim_has_a_limit_for_each_action_and_one_for_all(store: Store) -> None:
    add_many(store, 4, "a", "b")
    before = everything(store)
    for limit in (0, -1):
        assert ids(claim(store, limit=limit, a=9, b=9)) == []
    assert everything(store) == before
    assert ids(claim(store, limit=3, a=9, b=9)) == [1, 2, 3]
    assert ids(claim(store, a=0)) == []
    assert ids(claim(store, a=1)) == [5]


@pytest.mark.parametrize(
    ("result", "retry_at_ms", "then"),
    [
        (SUCCEEDED, None, ("succeeded", None, 1, 2, NOW_MS + 9, None)),
        (FAILED, NOW_MS + 50, ("pending", NOW_MS + 50, 1, 2, None, "status 502")),
        (TIMED_OUT, NOW_MS + 50, ("pending", NOW_MS + 50, 1, 2, None, "timeout")),
        (FAILED, None, ("dead", None, 1, 2, NOW_MS + 9, "status 502")),
        (INTERRUPTED, NOW_MS + 9, ("pending", NOW_MS + 9, 1, 3, None, "the daemon stopped")),
    ],
)
def test_a_report_closes_the_attempt_and_moves_the_delivery(
    store: Store, result: Result, retry_at_ms: int | None, then: tuple[Any, ...]
) -> None:
    store.add("crm", "other", attempts=3)
    [job] = claim(store, NOW_MS + 1, crm=1, other=0).jobs
    assert store.rows(ATTEMPTS) == [(1, 1, NOW_MS + 1, None, None, None)]
    assert finish(store, job, result, retry_at_ms, NOW_MS + 9)
    assert store.rows(DELIVERIES) == [(1, *then), (2, "pending", NOW_MS, 0, 3, None, None)]
    assert store.rows(ATTEMPTS)[0][3] == NOW_MS + 9
    columns = "outcome, exit_code, http_status, error, output, output_truncated"
    [stored] = store.rows(f"SELECT {columns} FROM attempt")
    assert stored == tuple(getattr(result, name) for name in columns.split(", "))


def test_what_somebody_makes_pending_by_hand_runs_again(store: Store) -> None:
    """With its count begun anew, too: an index that refuses the attempt would stop all hooks."""
    store.add("crm", attempts=1)
    [job] = claim(store, NOW_MS, crm=1).jobs
    finish(store, job, FAILED, None, NOW_MS)
    store.by_hand(
        "UPDATE delivery SET state = 'pending', attempt_count = 0, attempts_left = 1,"
        f" due_at_ms = {NOW_MS}, finished_at_ms = NULL"
    )
    [again] = claim(store, NOW_MS, crm=1).jobs
    assert (again.delivery_id, again.attempt) == (job.delivery_id, 2)
    assert store.rows("SELECT attempt_count FROM delivery") == [(2,)]


def test_a_late_report_changes_nothing(store: Store) -> None:
    store.add("crm")
    [late] = claim(store, crm=1).jobs
    [current] = claim(store, LATER_MS, crm=1).jobs
    assert (current.delivery_id, current.attempt) == (late.delivery_id, 2)
    before = everything(store)
    for result in (SUCCEEDED, FAILED, INTERRUPTED):
        assert not finish(store, late, result, NOW_MS)
    assert everything(store) == before
    assert finish(store, current, SUCCEEDED, None, LATER_MS + 5)
    assert store.rows(ATTEMPTS) == [
        (1, 1, NOW_MS, LATER_MS, "interrupted", CRASHED),
        (1, 2, LATER_MS, LATER_MS + 5, "succeeded", None),
    ]
    assert not finish(store, current, FAILED, NOW_MS, LATER_MS + 5)
    assert store.rows("SELECT state FROM delivery") == [("succeeded",)]


def test_a_claim_that_a_failover_has_lost_closes_no_other_of_the_same_numbers(store: Store) -> None:
    """The new primary gives event, delivery and attempt the same numbers again, and the worker may
    be the same: the claim alone is another."""
    store.add("crm")
    (lost,) = claim(store, crm=1).jobs
    store.by_hand("UPDATE attempt SET claim_token = 'of another event'")
    before = everything(store)
    assert not finish(store, lost, SUCCEEDED)
    assert everything(store) == before
    store.by_hand(f"UPDATE attempt SET outcome = 'succeeded', finished_at_ms = {NOW_MS}")
    store.by_hand("UPDATE delivery SET state = 'succeeded', due_at_ms = NULL, finished_at_ms = 1")
    assert not finish(store, lost, SUCCEEDED), "another one was told so"


def test_after_a_crash_what_ran_is_due_now_and_the_last_attempt_is_dead(store: Store) -> None:
    store.add("crm", attempts=2)
    store.add("crm", attempts=1, body=b"last")
    store.add("crm", attempts=3, body=b"done")
    jobs = claim(store, crm=3).jobs
    finish(store, jobs[2], SUCCEEDED)
    store.add("crm", attempts=3, body=b"not begun", received_at_ms=LATER_MS)
    now_ms = NOW_MS + 7  # the leases have not ended
    assert recover(store, now_ms) == [job.delivery_id for job in jobs[:2]]
    assert store.rows(DELIVERIES) == [
        (1, "pending", now_ms, 1, 1, None, CRASHED),
        (2, "dead", None, 1, 0, now_ms, CRASHED),
        (3, "succeeded", None, 1, 2, NOW_MS, None),
        (4, "pending", LATER_MS, 0, 3, None, None),
    ]
    assert store.rows(ATTEMPTS) == [
        (1, 1, NOW_MS, now_ms, "interrupted", CRASHED),
        (2, 1, NOW_MS, now_ms, "interrupted", CRASHED),
        (3, 1, NOW_MS, NOW_MS, "succeeded", None),
    ]
    assert recover(store, now_ms) == []
    assert [job.attempt for job in claim(store, now_ms, crm=9).jobs] == [2]


def test_a_spent_lease_is_claimed_again_unless_it_was_the_last_attempt(store: Store) -> None:
    store.add("crm", attempts=3)
    finish(store, claim(store, crm=1).jobs[0], FAILED, NOW_MS)
    store.add("crm", attempts=1, body=b"last")
    assert ids(claim(store, crm=9)) == [1, 2]
    assert ids(claim(store, NOW_MS + LEASE_MS - 1, crm=9)) == []
    assert ids(claim(store, NOW_MS + LEASE_MS, crm=9)) == [1]
    assert store.rows(DELIVERIES)[1] == (2, "dead", None, 1, 0, NOW_MS + LEASE_MS, CRASHED)
    assert [row[4] for row in store.rows(ATTEMPTS)] == ["failed", *["interrupted"] * 2, None]


def test_a_lease_outlasts_its_hook_by_what_a_kill_and_a_report_take() -> None:
    [action] = Actions([an_action("crm", timeout="10s")]).claimable.values()
    assert action.lease_ms == 10_000 + 60_000


def test_what_runs_here_is_not_claimed_again_and_hides_nothing_behind_it(store: Store) -> None:
    add_many(store, 2, "crm")
    running = ids(claim(store, crm=2))
    for body in (b"due after", b"these leases"):
        store.add("crm", body=body, received_at_ms=LATER_MS)
    assert ids(claim(store, LATER_MS, crm=1, running=running)) == [3]
    assert ids(claim(store, LATER_MS, crm=9, running=[*running, 3])) == [4]
    assert {row[4] for row in store.rows(ATTEMPTS)} == {None}


def test_deliveries_of_a_removed_action_end_dead_and_can_be_replayed(store: Store) -> None:
    store.add("gone", "crm")
    [lost] = claim(store, gone=1, crm=0).jobs
    store.add("gone", body=b"waits", received_at_ms=NOW_MS + 1)
    store.add("gone", body=b"not due", received_at_ms=LATER_MS + 1)
    assert ids(claim(store, LATER_MS, crm=1)) == [2]
    assert [row for row in store.rows(DELIVERIES) if row[0] != 2] == [
        (1, "dead", None, 1, 2, LATER_MS, NO_ACTION),
        (3, "dead", None, 0, 3, LATER_MS, NO_ACTION),
        (4, "pending", LATER_MS + 1, 0, 3, None, None),
    ]
    assert store.rows(ATTEMPTS)[0] == (1, 1, NOW_MS, LATER_MS, "interrupted", CRASHED)
    assert not finish(store, lost, SUCCEEDED)
    (replay,) = Operator(actor="ada").replay({1: 5, 3: 6}, LATER_MS)
    assert store.call(replay) == 2
    again = claim(store, LATER_MS, gone=9).jobs
    assert [(job.attempt, job.attempts_left) for job in again] == [(2, 4), (1, 5)]


def test_the_next_due_time_is_that_of_actions_with_a_free_slot(store: Store) -> None:
    assert claim(store, a=1, b=1) == Claimed([], None)
    for action, more in (("a", 50), ("b", 40), ("b", 90)):
        store.add(action, body=b"%d" % more, received_at_ms=NOW_MS + more)
    assert claim(store, a=1, b=1).next_due_ms == NOW_MS + 40
    assert claim(store, a=1, b=0).next_due_ms == NOW_MS + 50
    assert claim(store, a=0, b=0).next_due_ms is None
    claimed = claim(store, NOW_MS + 40, a=0, b=2)
    assert claimed.next_due_ms == NOW_MS + 90
    finish(store, claimed.jobs[0], FAILED, NOW_MS + 70)
    assert claim(store, NOW_MS + 41, a=0, b=1).next_due_ms == NOW_MS + 70
    claim(store, NOW_MS + 90, a=1, b=9)
    assert claim(store, NOW_MS + 91, a=1, b=1).next_due_ms == NOW_MS + 90 + LEASE_MS


def test_of_many_ends_told_at_once_each_counts_whose_claim_stands(store: Store) -> None:
    """As if each were told alone; also one that is told twice, and those whose leases were lost."""
    add_many(store, 90, "crm")
    jobs = claim(store, limit=90, crm=90).jobs
    taken = claim(store, LATER_MS, limit=30, crm=30).jobs
    assert sorted(job.delivery_id for job in taken) == list(range(1, 31))

    def end(job: Job) -> "asyncio.Future[bool]":
        if job.delivery_id % 2:
            return store.queue.finish(job, SUCCEEDED, ending(job, State.SUCCEEDED, LATER_MS))
        again = ending(job, State.PENDING, LATER_MS, due_at_ms=LATER_MS + 5)
        return store.queue.finish(job, FAILED, again)

    ended = store.wait_all([end(job) for job in (*jobs, *taken, jobs[-1], taken[-1])])
    assert ended == [*(30 * [False]), *(60 * [True]), *(30 * [True]), True, True]
    states = "SELECT state, due_at_ms, count(*) FROM delivery GROUP BY 1, 2 ORDER BY 1"
    assert store.rows(states) == [("pending", LATER_MS + 5, 45), ("succeeded", None, 45)]
    outcomes = "SELECT number, outcome, count(*) FROM attempt GROUP BY 1, 2 ORDER BY 1, 2"
    assert store.rows(outcomes) == [
        *((1, "failed", 30), (1, "interrupted", 30), (1, "succeeded", 30)),
        *((2, "failed", 15), (2, "succeeded", 15)),
    ]


@pytest.mark.parametrize("by_ms", [3_600_000, -3_600_000])
def test_setting_the_clock_moves_due_times_and_leases_alone(store: Store, by_ms: int) -> None:
    for number, action in enumerate(("run", "end", "wait")):
        store.add(action, body=b"%d" % number)
    running, ended = claim(store, run=1, end=1, wait=0).jobs
    finish(store, ended, SUCCEEDED)
    store.wait(store.queue.shift(by_ms, NOW_MS + 1 + by_ms, lambda: NOW_MS + 1 + by_ms))
    assert store.rows(DELIVERIES) == [
        (1, "running", NOW_MS + LEASE_MS + by_ms, 1, 2, None, None),
        (2, "succeeded", None, 1, 2, NOW_MS, None),
        (3, "pending", NOW_MS + by_ms, 0, 3, None, None),
    ]
    assert finish(store, running, SUCCEEDED)


def test_a_clock_that_is_set_back_and_on_again_in_part_makes_nothing_due_early(
    store: Store,
) -> None:
    store.add("crm")
    for by_ms, now_ms in ((-9_000_000, NOW_MS - 9_000_000), (3_600_000, NOW_MS - 5_400_000)):
        store.wait(store.queue.shift(by_ms, now_ms, lambda now_ms=now_ms: now_ms))  # type: ignore[misc]
    assert store.rows("SELECT due_at_ms FROM delivery") == [(NOW_MS - 5_400_000,)]


@pytest.mark.parametrize("by_ms", [3_600_000, -3_600_000])
def test_what_waits_for_its_commit_goes_by_the_clock_it_was_made_by(
    store: Store, by_ms: int
) -> None:
    """All in one transaction: what failed or came before the clock was set, and after."""
    add_many(store, 2, "crm")
    before, after = claim(store, crm=2).jobs

    def fail(job: Job, now_ms: int) -> "asyncio.Future[bool]":
        again = ending(job, State.PENDING, now_ms, due_at_ms=now_ms + 1000)
        return store.queue.finish(job, FAILED, again)

    def arrive(body: bytes, now_ms: int) -> "asyncio.Future[Any]":
        return store.inbox.add(new_event(body, received_at_ms=now_ms), [NewDelivery("mail", 3)])

    later_ms = NOW_MS + by_ms
    waiting: list[asyncio.Future[Any]] = [fail(before, NOW_MS), arrive(b"early", NOW_MS)]
    waiting += [store.queue.shift(by_ms, later_ms, lambda: later_ms), fail(after, later_ms)]
    if by_ms > 0:
        waiting.append(arrive(b"late", later_ms))
    store.wait_all(waiting)
    due = "SELECT DISTINCT due_at_ms FROM delivery WHERE action = ?"
    assert store.rows(due, "crm") == [(later_ms + 1000,)]
    assert store.rows(due, "mail") == [(later_ms,)]
