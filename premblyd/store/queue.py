"""The queue of deliveries: claim, finish, and what a crash leaves behind.

`due_at_ms` is the queue: the first try, the retry time or the end of a lease; NULL is out of it.
`attempt_count` is the fencing token: a report about an attempt that was superseded changes
nothing. The attempt row is written at claim, so a crash leaves it open and it is closed as
interrupted; a hook that kills the daemon spends its attempts and ends dead instead of looping.
"""

import asyncio
import sqlite3
from collections.abc import Collection, Mapping
from typing import Any

from premblyd.prembly.payload import Kind, Outcome, Verdict
from premblyd.store import queue_sql as sql
from premblyd.store.inbox import VERDICT_COLUMNS
from premblyd.store.jobs import Claimable, Claimed, Job, Result, StoredEvent
from premblyd.store.models import AttemptOutcome, State
from premblyd.store.writer import Writer

CRASHED = "the daemon stopped while the hook ran"
NO_ACTION = "the action is no longer in the configuration"
_NEVER_MS = 1 << 62
_MAX_BURIALS = 500  # a claim's worth: the rest follows with the next claim


class Queue:
    """The deliveries that wait or run."""

    def __init__(self, writer: Writer, worker: str) -> None:
        self._writer = writer
        self._worker = worker

    def recover(self, now_ms: int) -> "asyncio.Future[list[tuple[str, int, int]]]":
        """Make what the last process left running due now. Return those runs, each as event
        key, delivery and attempt: their hooks may still be there."""

        def operation(connection: sqlite3.Connection) -> list[tuple[str, int, int]]:
            rows = connection.execute(sql.RUNNING, {"state": State.RUNNING}).fetchall()
            for _, delivery_id, _, attempts_left in rows:
                _interrupt(connection, delivery_id, attempts_left, now_ms)
            return [(key, delivery_id, attempt) for key, delivery_id, attempt, _ in rows]

        return self._writer.call(operation)

    def known(
        self, runs: Collection[tuple[str, int, int]]
    ) -> "asyncio.Future[set[tuple[str, int, int]]]":
        """Return those of `runs` that this database has attempts of; see `recover`."""

        def operation(connection: sqlite3.Connection) -> set[tuple[str, int, int]]:
            keys = {key for key, _, _ in runs}
            rows = [row for key in keys for row in connection.execute(sql.RUNS, {"key": key})]
            return set(rows).intersection(runs)

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
            waiting = [name for (name,) in connection.execute(sql.WAITING_ACTIONS)]
            for name in waiting:
                if name not in actions:
                    _bury(connection, name, running, now_ms)
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
                sql.FINISH_DELIVERY,
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
                sql.CLOSE_ATTEMPT,
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

    def shift(self, by_ms: int, now_ms: int) -> "asyncio.Future[None]":
        """Move due times by `by_ms`: the wall clock was set to `now_ms`, but delays are durations.

        What came since is due by the new clock already. (After a step back that can't be told
        from what came before; moving it makes it due a moment earlier, which it is anyway.)
        """
        before_ms = now_ms if by_ms > 0 else _NEVER_MS

        def operation(connection: sqlite3.Connection) -> None:
            connection.execute(sql.SHIFT, {"by_ms": by_ms, "before_ms": before_ms})

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
            sql.START_DELIVERY,
            {"state": State.RUNNING, "due_at_ms": now_ms + action.lease_ms, "id": delivery_id},
        )
        row = connection.execute(sql.JOB, {"id": delivery_id}).fetchone()
        number, attempts_left, *event_row = row
        attempt = connection.execute(
            sql.OPEN_ATTEMPT,
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
    return connection.execute(sql.DUE, values).fetchall()


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


def _bury(
    connection: sqlite3.Connection, action: str, running: Collection[int], now_ms: int
) -> None:
    """End deliveries whose action has left the configuration. Replay works when it returns."""
    for _, delivery_id, _, _, state in _due(connection, action, now_ms, _MAX_BURIALS):
        if delivery_id in running:
            continue
        if state == State.RUNNING:
            _close_open_attempt(connection, delivery_id, now_ms)
        _release(connection, delivery_id, State.DEAD, now_ms, NO_ACTION)


def _close_open_attempt(connection: sqlite3.Connection, delivery_id: int, now_ms: int) -> None:
    connection.execute(
        sql.CLOSE_OPEN_ATTEMPT,
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
        sql.RELEASE,
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
        connection.execute(sql.FIRST_DUE, {"action": name}).fetchone()[0]
        for name in waiting
        if name not in actions or actions[name].slots
    ]
    return min((time for time in times if time is not None), default=None)


def _stored_event(row: list[Any]) -> StoredEvent:
    values = dict(zip(sql.EVENT_COLUMNS, row, strict=True))
    verdict = {name: values.pop(name) for name in VERDICT_COLUMNS}
    verdict["kind"], verdict["outcome"] = Kind(verdict["kind"]), Outcome(verdict["outcome"])
    if verdict["face_match"] is not None:
        verdict["face_match"] = bool(verdict["face_match"])
    return StoredEvent(verdict=Verdict(**verdict), **values)
