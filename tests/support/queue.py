"""Claiming deliveries and reporting how their hooks ended."""

from collections.abc import Collection
from typing import Any

from premblyd.queue.inbox import NewDelivery
from premblyd.queue.jobs import Claimable, Claimed, Job, Result, Room
from premblyd.queue.register import Hosts, Identity
from premblyd.store.states import AttemptOutcome, State
from tests.support.jobs import ending
from tests.support.store import NOW_MS, Store, new_event

LEASE_MS = 60_000
LATER_MS = NOW_MS + LEASE_MS + 1
DELIVERIES = """SELECT id, state, due_at_ms, attempt_count, attempts_left, finished_at_ms,
    last_error FROM delivery ORDER BY id"""
ATTEMPTS = """SELECT delivery_id, number, started_at_ms, finished_at_ms, outcome, error
    FROM attempt ORDER BY id"""
SUCCEEDED = Result(outcome=AttemptOutcome.SUCCEEDED, exit_code=0, output="done")
FAILED = Result(outcome=AttemptOutcome.FAILED, http_status=502, error="status 502")
TIMED_OUT = Result(outcome=AttemptOutcome.TIMED_OUT, error="timeout", output_truncated=True)
INTERRUPTED = Result(outcome=AttemptOutcome.INTERRUPTED, error="the daemon stopped")


def claim(
    store: Store, now_ms: int = NOW_MS, limit: int = 9, running: Collection[int] = (), **slots: int
) -> Claimed:
    """Claim with this number of free slots for each action of the configuration."""
    actions = {
        name: Claimable(slots=free, lease_ms=LEASE_MS, digest=name) for name, free in slots.items()
    }
    return store.wait(store.queue.claim(actions, Room(limit=limit, running=running), now_ms))


def claim_once(
    store: Store, now_ms: int = NOW_MS, *, slots: int = 9, running: Collection[int] = ()
) -> Claimed:
    """Claim for the actions crm and other, which run once for each reference and outcome."""
    action = Claimable(slots=slots, lease_ms=LEASE_MS, digest="", takes_turns=True)
    actions = {"crm": action, "other": action}
    return store.wait(store.queue.claim(actions, Room(limit=9, running=running), now_ms))


def ids(claimed: Claimed) -> list[int]:
    return [job.delivery_id for job in claimed.jobs]


def finish(
    store: Store, job: Job, result: Result, retry_at_ms: int | None = None, now_ms: int = NOW_MS
) -> bool:
    """Report how a job ended; its hook runs again at `retry_at_ms`."""
    if result is SUCCEEDED:
        state = State.SUCCEEDED
    else:
        state = State.DEAD if retry_at_ms is None else State.PENDING
    more = 1 if result is INTERRUPTED else 0
    its_ending = ending(job, state, now_ms, due_at_ms=retry_at_ms, more_attempts=more)
    return store.wait(store.queue.finish(job, result, its_ending))


def everything(store: Store) -> list[Any]:
    return [store.rows(f"SELECT * FROM {table} ORDER BY id") for table in ("delivery", "attempt")]


def add_many(store: Store, count: int, *actions: str, first: int = 0) -> None:
    store.wait_all(
        store.inbox.add(new_event(b"%d" % number), [NewDelivery(action, 3) for action in actions])
        for number in range(first, first + count)
    )


def recover(store: Store, now_ms: int = NOW_MS, name: str = "next") -> list[int]:
    """Have the next daemon start, after the one that claimed has died. Return what is due now."""
    return sorted(store.wait(Hosts(store.writer, Identity.of_this_process(name)).join(now_ms)))


def crash(store: Store, model: dict[int, Any], jobs: dict[int, Job], now_ms: int) -> None:
    """Have the daemon die and the next start. What ran is due again in a model of deliveries."""
    recover(store, now_ms)
    for number in jobs:
        model[number].state, model[number].due_ms = "pending", now_ms
    jobs.clear()
