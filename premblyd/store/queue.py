"""The queue of deliveries: claim, finish, and what a crash leaves behind.

`due_at_ms` is the queue: the first try, the retry time or the end of a lease; NULL is out of it.
`attempt_count` is the fencing token: a report about an attempt that was superseded changes
nothing. The attempt row is written at claim, so a crash leaves it open and it is closed as
interrupted; a hook that kills the daemon spends its attempts and ends dead instead of looping.

The database is open to other programs. A delivery whose row or event somebody changed so that its
hook can't run ends dead with that reason, and the others go on.
"""

import asyncio
import json
import sqlite3
from collections.abc import Collection, Mapping
from typing import Any

from premblyd.store import queue_sql as sql
from premblyd.store import unusable
from premblyd.store.jobs import (
    UNBOUNDED,
    Claimable,
    Claimed,
    Ending,
    Job,
    Result,
    Room,
    counted_bytes,
)
from premblyd.store.models import State
from premblyd.store.sqlite.opening import UNREADABLE
from premblyd.store.sqlite.writer import Writer
from premblyd.store.unusable import CRASHED, UNSTARTED, Due, UnusableError, is_count

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
            return [
                (key, delivery_id, attempt)
                for key, delivery_id, attempt, _ in rows
                if isinstance(key, str) and isinstance(attempt, int)
            ]

        return self._writer.call(operation)

    def release_unstarted(self, running: Collection[int], now_ms: int) -> "asyncio.Future[None]":
        """Make those running deliveries due now that are not in `running`, this process's own, at
        no cost of an attempt: a claim failed, yet the disk may hold it (SQLite reports a COMMIT
        that can't be synced as failed, and finds it whole when it opens the log anew)."""

        def operation(connection: sqlite3.Connection) -> None:
            for _, delivery_id, _, attempts_left in connection.execute(
                sql.RUNNING, {"state": State.RUNNING}
            ).fetchall():
                if delivery_id not in running:
                    unusable.close_open_attempt(connection, delivery_id, now_ms, UNSTARTED)
                    _release(connection, delivery_id, State.PENDING, now_ms, UNSTARTED)
                    if is_count(attempts_left):
                        connection.execute(sql.REFUND_ATTEMPT, {"id": delivery_id})

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
        room: Room = UNBOUNDED,
    ) -> "asyncio.Future[Claimed]":
        """Open an attempt for up to `limit` due deliveries, within each action's free slots, in
        the order in which they became due, as far as their bodies find room. `running` are this
        process's own: their lease may look spent after the clock was set, but they are not
        claimed twice.

        Deliveries of actions that are not in `actions` end dead, and so do unusable ones.
        """

        def operation(connection: sqlite3.Connection) -> Claimed:
            due: list[Due] = []
            waiting = _waiting_actions(connection, now_ms)
            for name in waiting:
                if name not in actions:
                    _bury(connection, name, running, now_ms)
                elif slots := actions[name].slots:
                    rows = _due(connection, name, now_ms, slots + len(running))
                    free = [row for row in rows if row.id not in running]
                    due += free[:slots]
            due.sort(key=lambda row: (row.due_at_ms, row.id))
            jobs: list[Job] = []
            claimed_bytes = 0
            is_full = False
            for delivery in due:
                if len(jobs) >= limit:
                    break
                cost = counted_bytes(_body_bytes(connection, delivery.id))
                # The first that finds no room gets the next: later large ones wait behind it.
                is_full = is_full or not room.fits(cost, claimed_bytes)
                if cost and is_full:
                    continue
                if job := self._try_to_start(
                    connection, delivery, actions[delivery.action], now_ms
                ):
                    jobs.append(job)
                    claimed_bytes += cost
            with_slots = [name for name in waiting if name not in actions or actions[name].slots]
            return Claimed(jobs, _next_due(connection, with_slots, now_ms))

        return self._writer.call(operation)

    def finish(self, job: Job, result: Result, ending: Ending) -> "asyncio.Future[bool]":
        """Close the job's attempt with its result, and move the delivery as `ending` says.
        False: the lease was lost, nothing changed."""

        def operation(connection: sqlite3.Connection) -> bool:
            moved = connection.execute(
                sql.FINISH_DELIVERY,
                {
                    "state": ending.state,
                    "due_at_ms": ending.due_at_ms,
                    "finished_at_ms": ending.finished_at_ms,
                    "attempts_left": ending.attempts_left,
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
                    "finished_at_ms": ending.at_ms,
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

    def _try_to_start(
        self, connection: sqlite3.Connection, delivery: Due, action: Claimable, now_ms: int
    ) -> Job | None:
        """Return the delivery's job; None when it has ended instead."""
        try:
            unusable.require_counts(delivery)
            if delivery.state == State.RUNNING and not _interrupt(
                connection, delivery.id, delivery.attempts_left, now_ms
            ):
                return None
            return self._start(connection, delivery, action, now_ms)
        except UnusableError as error:
            unusable.end_unusable(connection, [delivery.id], str(error), now_ms)
            return None

    def _start(
        self, connection: sqlite3.Connection, delivery: Due, action: Claimable, now_ms: int
    ) -> Job:
        event = unusable.stored_event(connection, delivery.id)
        number = delivery.attempt_count + 1
        due_at_ms = now_ms + action.lease_ms
        connection.execute(
            sql.START_DELIVERY, {"state": State.RUNNING, "due_at_ms": due_at_ms, "id": delivery.id}
        )
        values = {
            "delivery_id": delivery.id,
            "number": number,
            "worker": self._worker,
            "action_digest": action.digest,
            "started_at_ms": now_ms,
        }
        try:
            attempt = connection.execute(sql.OPEN_ATTEMPT, values)
        except sqlite3.IntegrityError:  # there is an attempt of this number
            raise UnusableError(unusable.COUNTS_CHANGED) from None
        return Job(
            delivery_id=delivery.id,
            attempt_id=attempt.lastrowid or 0,
            attempt=number,
            attempts_left=delivery.attempts_left - 1,
            action=delivery.action,
            event=event,
        )


def _waiting_actions(connection: sqlite3.Connection, now_ms: int) -> list[str]:
    """Return the actions that have deliveries in the queue. End those whose action is no text:
    no statement could name it."""
    names = [name for (name,) in connection.execute(sql.WAITING_ACTIONS)]
    readable = [name for name in names if isinstance(name, str) and UNREADABLE not in name]
    if len(readable) < len(names):
        rows = connection.execute(sql.NOT_OF, {"names": json.dumps(readable)}).fetchall()
        unusable.end_unusable(
            connection, [number for (number,) in rows], unusable.ACTION_CHANGED, now_ms
        )
    return readable


def _due(connection: sqlite3.Connection, action: str, now_ms: int, limit: int) -> list[Due]:
    values = {"action": action, "now_ms": now_ms, "limit": limit}
    return [Due(*row) for row in connection.execute(sql.DUE, values)]


def _body_bytes(connection: sqlite3.Connection, delivery_id: int) -> int:
    row = connection.execute(sql.BODY_BYTES, {"id": delivery_id}).fetchone()
    return row[0] if row and isinstance(row[0], int) else 0


def _interrupt(
    connection: sqlite3.Connection, delivery_id: int, attempts_left: Any, now_ms: int
) -> bool:
    """Close the attempt that a dead process left open. False: it was the last one."""
    goes_on = is_count(attempts_left, 1)
    unusable.close_open_attempt(connection, delivery_id, now_ms)
    state = State.PENDING if goes_on else State.DEAD
    _release(connection, delivery_id, state, now_ms, CRASHED)
    return goes_on


def _bury(
    connection: sqlite3.Connection, action: str, running: Collection[int], now_ms: int
) -> None:
    """End deliveries whose action has left the configuration. Replay works when it returns."""
    for delivery in _due(connection, action, now_ms, _MAX_BURIALS):
        if delivery.id in running:
            continue
        if delivery.state == State.RUNNING:
            unusable.close_open_attempt(connection, delivery.id, now_ms)
        _release(connection, delivery.id, State.DEAD, now_ms, NO_ACTION)


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


def _next_due(connection: sqlite3.Connection, actions: list[str], now_ms: int) -> int | None:
    times: list[int] = []
    for action in actions:
        (time_ms,) = connection.execute(sql.FIRST_DUE, {"action": action}).fetchone()
        if isinstance(time_ms, int | float):
            times.append(int(min(max(time_ms, 0), _NEVER_MS)))  # infinite ones too
        elif time_ms is not None:
            rows = connection.execute(sql.NEVER_DUE, {"action": action}).fetchall()
            unusable.end_unusable(
                connection, [number for (number,) in rows], unusable.DUE_CHANGED, now_ms
            )
    return min(times, default=None)
