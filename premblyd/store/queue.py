"""The queue of deliveries: claim, finish, and what a crash leaves behind.

`due_at_ms` is the queue: the first try, the retry time or the end of a lease; NULL is out of it.
`attempt_count` is the fencing token: a report about an attempt that was superseded changes
nothing. The attempt row is written at claim, so a crash leaves it open and it is closed as
interrupted; a hook that kills the daemon spends its attempts and ends dead instead of looping.
"""

import asyncio
import sqlite3
from collections.abc import Collection, Mapping
from dataclasses import fields
from typing import Any

from peewee import SQL, fn

from premblyd.prembly.payload import Kind, Outcome, Verdict
from premblyd.store.inbox import VERDICT_COLUMNS
from premblyd.store.jobs import Claimable, Claimed, Job, Result, StoredEvent
from premblyd.store.models import (
    Attempt,
    AttemptOutcome,
    Delivery,
    Event,
    State,
)
from premblyd.store.statements import insert, param, statement, update
from premblyd.store.writer import Writer

CRASHED = "the daemon stopped while the hook ran"
NO_ACTION = "the action is no longer in the configuration"
_MAX_BURIALS = 500  # a claim's worth: the rest follows with the next claim


class Queue:
    """The deliveries that wait or run."""

    def __init__(self, writer: Writer, worker: str) -> None:
        self._writer = writer
        self._worker = worker

    def recover(self, now_ms: int) -> "asyncio.Future[int]":
        """Make what the last process left running due now; return how many those are."""

        def operation(connection: sqlite3.Connection) -> int:
            rows = connection.execute(_RUNNING, {"state": State.RUNNING}).fetchall()
            for delivery_id, attempts_left in rows:
                _interrupt(connection, delivery_id, attempts_left, now_ms)
            return len(rows)

        return self._writer.call(operation)

    def claim(
        self,
        actions: Mapping[str, Claimable],
        limit: int,
        running: Collection[int],
        now_ms: int,
    ) -> "asyncio.Future[Claimed]":
        """Open an attempt for up to `limit` due deliveries, within each action's free slots, in
        the order in which they became due. `running` are this process's own: their lease may
        look spent after the clock was set, but they are not claimed twice.

        Deliveries of actions that are not in `actions` end dead.
        """

        def operation(connection: sqlite3.Connection) -> Claimed:
            due: list[tuple[int, int, str, int, str]] = []
            waiting = [name for (name,) in connection.execute(_WAITING_ACTIONS)]
            for name in waiting:
                if name not in actions:
                    _bury(connection, name, now_ms)
                elif slots := actions[name].slots:
                    rows = _due(connection, name, now_ms, slots + len(running))
                    free = [row for row in rows if row[1] not in running]
                    due += free[:slots]
            due.sort()
            jobs = []
            for _, delivery_id, name, attempts_left, state in due[: max(0, limit)]:
                if state == State.RUNNING and not _interrupt(
                    connection, delivery_id, attempts_left, now_ms
                ):
                    continue
                jobs.append(self._start(connection, delivery_id, name, actions[name], now_ms))
            return Claimed(jobs, _next_due(connection, waiting, actions))

        return self._writer.call(operation)

    def finish(
        self, job: Job, result: Result, retry_at_ms: int | None, now_ms: int
    ) -> "asyncio.Future[bool]":
        """Close the job's attempt. The delivery has succeeded, waits until `retry_at_ms`, or is
        dead. An interrupted attempt is not counted. False: the lease was lost, nothing changed.
        """
        succeeded = result.outcome is AttemptOutcome.SUCCEEDED
        interrupted = result.outcome is AttemptOutcome.INTERRUPTED
        if succeeded:
            state, due_at_ms = State.SUCCEEDED, None
        elif retry_at_ms is not None:
            state, due_at_ms = State.PENDING, retry_at_ms
        else:
            state, due_at_ms = State.DEAD, None
        finished_at_ms = None if state is State.PENDING else now_ms
        attempts_left = job.attempts_left + (1 if interrupted else 0)

        def operation(connection: sqlite3.Connection) -> bool:
            moved = connection.execute(
                _FINISH_DELIVERY,
                {
                    "state": state,
                    "due_at_ms": due_at_ms,
                    "finished_at_ms": finished_at_ms,
                    "attempts_left": attempts_left,
                    "last_error": result.error,
                    "id": job.delivery_id,
                    "running": State.RUNNING,
                    "attempt_count": job.attempt,
                },
            )
            if not moved.rowcount:
                return False
            connection.execute(
                _CLOSE_ATTEMPT,
                {
                    "finished_at_ms": now_ms,
                    "outcome": result.outcome,
                    "exit_code": result.exit_code,
                    "http_status": result.http_status,
                    "error": result.error,
                    "output": result.output,
                    "output_truncated": result.output_truncated,
                    "id": job.attempt_id,
                },
            )
            return True

        return self._writer.call(operation)

    def shift(self, by_ms: int) -> "asyncio.Future[None]":
        """Move every due time by `by_ms`: the wall clock was set, but delays are durations."""

        def operation(connection: sqlite3.Connection) -> None:
            connection.execute(_SHIFT, {"by_ms": by_ms})

        return self._writer.call(operation)

    def _start(
        self,
        connection: sqlite3.Connection,
        delivery_id: int,
        name: str,
        action: Claimable,
        now_ms: int,
    ) -> Job:
        connection.execute(
            _START_DELIVERY,
            {"state": State.RUNNING, "due_at_ms": now_ms + action.lease_ms, "id": delivery_id},
        )
        row = connection.execute(_JOB, {"id": delivery_id}).fetchone()
        number, attempts_left, *event_row = row
        attempt = connection.execute(
            _OPEN_ATTEMPT,
            {
                "delivery_id": delivery_id,
                "number": number,
                "worker": self._worker,
                "action_digest": action.digest,
                "started_at_ms": now_ms,
            },
        )
        return Job(
            delivery_id=delivery_id,
            attempt_id=attempt.lastrowid or 0,
            attempt=number,
            attempts_left=attempts_left,
            action=name,
            event=_stored_event(event_row),
        )


def _due(
    connection: sqlite3.Connection, action: str, now_ms: int, limit: int
) -> list[tuple[int, int, str, int, str]]:
    values = {"action": action, "now_ms": now_ms, "limit": limit}
    return connection.execute(_DUE, values).fetchall()


def _interrupt(
    connection: sqlite3.Connection, delivery_id: int, attempts_left: int, now_ms: int
) -> bool:
    """Close the attempt that a dead process left open. False: it was the last one."""
    _close_open_attempt(connection, delivery_id, now_ms)
    if attempts_left:
        _release(connection, delivery_id, State.PENDING, now_ms, CRASHED)
    else:
        _release(connection, delivery_id, State.DEAD, now_ms, CRASHED)
    return attempts_left > 0


def _bury(connection: sqlite3.Connection, action: str, now_ms: int) -> None:
    """End deliveries whose action has left the configuration. Replay works when it returns."""
    for _, delivery_id, _, _, state in _due(connection, action, now_ms, _MAX_BURIALS):
        if state == State.RUNNING:
            _close_open_attempt(connection, delivery_id, now_ms)
        _release(connection, delivery_id, State.DEAD, now_ms, NO_ACTION)


def _close_open_attempt(connection: sqlite3.Connection, delivery_id: int, now_ms: int) -> None:
    connection.execute(
        _CLOSE_OPEN_ATTEMPT,
        {
            "finished_at_ms": now_ms,
            "outcome": AttemptOutcome.INTERRUPTED,
            "error": CRASHED,
            "delivery_id": delivery_id,
        },
    )


def _release(
    connection: sqlite3.Connection, delivery_id: int, state: State, now_ms: int, error: str
) -> None:
    pending = state is State.PENDING
    connection.execute(
        _RELEASE,
        {
            "state": state,
            "due_at_ms": now_ms if pending else None,
            "finished_at_ms": None if pending else now_ms,
            "last_error": error,
            "id": delivery_id,
        },
    )


def _next_due(
    connection: sqlite3.Connection, waiting: list[str], actions: Mapping[str, Claimable]
) -> int | None:
    times = [
        connection.execute(_FIRST_DUE, {"action": name}).fetchone()[0]
        for name in waiting
        if name not in actions or actions[name].slots
    ]
    return min((time for time in times if time is not None), default=None)


def _stored_event(row: list[Any]) -> StoredEvent:
    values = dict(zip(_EVENT_COLUMNS, row, strict=True))
    verdict = {name: values.pop(name) for name in VERDICT_COLUMNS}
    verdict["kind"], verdict["outcome"] = Kind(verdict["kind"]), Outcome(verdict["outcome"])
    if verdict["face_match"] is not None:
        verdict["face_match"] = bool(verdict["face_match"])
    return StoredEvent(verdict=Verdict(**verdict), **values)


_EVENT_COLUMNS = (
    *(field.name for field in fields(StoredEvent) if field.name != "verdict"),
    *VERDICT_COLUMNS,
)

# The distinct actions in the queue by one index seek each, however many deliveries wait.
# Peewee's SELECT DISTINCT walks the whole index: 10 ms with 100,000 waiting, on every claim.
_WAITING_ACTIONS = """
WITH RECURSIVE waiting (name) AS (
    SELECT min(action) FROM delivery WHERE due_at_ms IS NOT NULL
    UNION ALL
    SELECT (SELECT min(action) FROM delivery WHERE due_at_ms IS NOT NULL AND action > name)
    FROM waiting WHERE name IS NOT NULL
)
SELECT name FROM waiting WHERE name IS NOT NULL
"""
_RUNNING = statement(
    Delivery.select(Delivery.id, Delivery.attempts_left).where(Delivery.state == param("state"))
)
_DUE = statement(
    Delivery.select(
        Delivery.due_at_ms, Delivery.id, Delivery.action, Delivery.attempts_left, Delivery.state
    )
    .where(Delivery.action == param("action"), Delivery.due_at_ms <= param("now_ms"))
    .order_by(Delivery.due_at_ms)
    .limit(param("limit"))
)
_FIRST_DUE = statement(
    Delivery.select(fn.MIN(Delivery.due_at_ms)).where(
        Delivery.action == param("action"), Delivery.due_at_ms.is_null(False)
    )
)
_START_DELIVERY = statement(
    Delivery.update(
        state=param("state"),
        due_at_ms=param("due_at_ms"),
        attempt_count=Delivery.attempt_count + SQL("1"),
        attempts_left=Delivery.attempts_left - SQL("1"),
    ).where(Delivery.id == param("id"))
)
_JOB = statement(
    Delivery.select(
        Delivery.attempt_count,
        Delivery.attempts_left,
        *(getattr(Event, name) for name in _EVENT_COLUMNS),
    )
    .join(Event)
    .where(Delivery.id == param("id"))
)
_OPEN_ATTEMPT = insert(Attempt, "delivery_id", "number", "worker", "action_digest", "started_at_ms")
_CLOSE_ATTEMPT = update(
    Attempt,
    *("finished_at_ms", "outcome", "exit_code", "http_status", "error", "output"),
    "output_truncated",
    where=Attempt.id == param("id"),
)
_CLOSE_OPEN_ATTEMPT = update(
    Attempt,
    *("finished_at_ms", "outcome", "error"),
    where=(Attempt.delivery == param("delivery_id")) & Attempt.outcome.is_null(),
)
_FINISH_DELIVERY = update(
    Delivery,
    *("state", "due_at_ms", "finished_at_ms", "attempts_left", "last_error"),
    where=(Delivery.id == param("id"))
    & (Delivery.state == param("running"))
    & (Delivery.attempt_count == param("attempt_count")),
)
_RELEASE = update(
    Delivery,
    *("state", "due_at_ms", "finished_at_ms", "last_error"),
    where=Delivery.id == param("id"),
)
_SHIFT = statement(
    Delivery.update(due_at_ms=Delivery.due_at_ms + param("by_ms")).where(
        Delivery.due_at_ms.is_null(False)
    )
)
