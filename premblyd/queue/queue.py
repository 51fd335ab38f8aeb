"""The queue of deliveries: claim, finish, and recover after a crash. due.py finds what is due;
shares.py keeps each action's share.

`due_at_ms` is the queue: the first try, the retry time or the end of a lease; NULL is out of it.
Each claim has a random token, in its attempt: a report about a claim that was superseded, or lost
by a failover, changes nothing. The attempt row is written at claim, so a crash leaves it open and
it is closed as interrupted; a hook that kills the daemon spends its attempts and ends dead instead
of looping.
"""

import asyncio
import functools
import secrets
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from premblyd.config.models import Action
from premblyd.feature import added, installed
from premblyd.queue import hooks
from premblyd.queue.arrivals import UnusableError, usable_event
from premblyd.queue.due import IS_QUEUED, NEVER_MS, Queued, past
from premblyd.queue.end import (
    FINISH,
    UNSTARTED,
    Report,
    close_open_attempt,
    interrupt,
    is_claimed_by,
    may_end,
    release,
)
from premblyd.queue.hooks import runs_erased, withheld
from premblyd.queue.jobs import Claimable, Claimed, Due, Ending, Job, Result, Room
from premblyd.queue.shares import Rota, Shares
from premblyd.store.engine import BulkInsert, BulkUpdate, Row, Statement, Transaction, param
from premblyd.store.states import State
from premblyd.store.tables import IS_HELD, IS_LAST_ATTEMPT, Attempt, Delivery, Host, Record
from premblyd.store.writer import Deferred, Step, Writer

Done = TypeVar("Done")
ERASED = "its person was erased"
BODY_GONE = "the body of its event was deleted when its retention period expired"


def claimable(action: Action, lease_ms: int, *, is_gated: bool) -> Claimable:
    """Return what a claim needs to know of an action."""
    return Claimable(
        slots=action.concurrency.host,
        lease_ms=lease_ms,
        digest=action.digest,
        cluster=action.concurrency.cluster,
        takes_turns=hooks.takes_turns(action),
        is_gated=is_gated,
        gets_body=action.hook.gets_body,
        runs_erased=runs_erased(action),
    )


class Claims:
    """The claims of this process, the `worker`: what one of them leaves to the next."""

    def __init__(self, worker: str) -> None:
        self._worker = worker
        self._lock = f"claims {worker}"
        self._looks, self._starts = Rota(), Rota()  # of the actions
        self._bookmarks: dict[str, Due] = {}  # where claims go on, see Queued
        self._waits_for_room: str | None = None  # the action that is first when there is room
        self._looks_in_vain = 0  # at actions, since the last one that changed anything

    def are_decided(self, transaction: Transaction) -> bool:
        """Return whether no transaction works on a claim any more. None begins in this one."""
        return transaction.try_lock(self._lock)

    def claim(
        self, transaction: Transaction, actions: Mapping[str, Claimable], room: Room, now_ms: int
    ) -> Deferred[Claimed]:
        """See `Queue.claim`."""
        shares = Shares(actions, room)
        lock = transaction.asking_lock(self._lock)
        queue = Queued(
            transaction, self._worker, actions, shares, room.running, now_ms, self._bookmarks
        )
        queue.find(self._looks.place)
        self._looks.had_turn(queue.looked_at, actions)
        if queue.due and not lock():
            claimed = Claimed([], None, queue.passed, is_full=True)
            return Deferred(lambda: claimed)
        chosen = shares.choose(queue.due, self._starts.place, self._waits_for_room)
        self._waits_for_room = shares.waits_for_room
        self._starts.had_turn((delivery.action for delivery in chosen), actions)
        chosen.sort(key=lambda delivery: (delivery.due_at_ms, delivery.id))
        rows = queue.event_rows(chosen)
        tried = [
            self._job(transaction, each, rows.get(each.id), actions[each.action], now_ms)
            for each in chosen
        ]
        jobs = [job for job in tried if job is not None]
        attempt_ids = self._start(transaction, jobs, actions, now_ms)
        gated = [job.delivery_id for job in jobs if actions[job.action].is_gated]
        resume = hooks.of(transaction).resume if gated else ()
        resumed = [each(transaction, gated) for each in resume]
        passed = queue.passed + len(tried) - len(jobs)
        has_more = self._has_more(queue, has_changed=bool(jobs or passed))
        next_due_ms = queue.asking_next_due()

        def read() -> Claimed:
            started: Iterable[Job] = [
                replace(job, attempt_id=id_ or 0)
                for job, id_ in zip(jobs, attempt_ids(), strict=True)
            ]
            for each in resumed:
                started = each(started)
            return Claimed(list(started), next_due_ms(), passed, has_more, bool(queue.full))

        return Deferred(read)

    def _has_more(self, queue: Queued, *, has_changed: bool) -> bool:
        """Return whether there are actions with due deliveries that no claim has looked at since
        the last one that changed anything."""
        self._looks_in_vain = 0 if has_changed else self._looks_in_vain + len(queue.looked_at)
        if len(queue.looked_at) < queue.action_count > self._looks_in_vain:
            return True
        self._looks_in_vain = 0
        return False

    def _job(
        self,
        transaction: Transaction,
        delivery: Due,
        row: Row | None,
        action: Claimable,
        now_ms: int,
    ) -> Job | None:
        """Return the job of a delivery that begins, which has no attempt yet; None when it has
        ended instead. `row`: its event's."""
        left = delivery.attempts_left
        if delivery.state == State.RUNNING:
            if not left and not may_end(transaction, delivery):
                return None
            if not interrupt(transaction, delivery.id, left, now_ms, delivery):
                return None
        why = None
        try:
            event = usable_event(row)
        except UnusableError as error:
            why, state = str(error), State.DEAD
        else:
            if event.is_erased and not action.runs_erased:
                why, state = ERASED, State.CANCELLED
            elif action.gets_body and not event.has_body and not event.is_erased:
                why, state = BODY_GONE, State.DEAD
        if why is not None:
            if may_end(transaction, delivery):  # else the next claim ends it
                release(transaction, delivery.id, state, now_ms, why, delivery)
            return None
        begins = hooks.of(transaction).begin if action.takes_turns else ()
        keys = [begin(transaction, delivery) for begin in begins]
        return Job(
            delivery_id=delivery.id,
            attempt_id=0,
            attempt=delivery.attempt_count + 1,
            attempts_left=left - 1,
            claim_token=secrets.token_hex(8),
            started_at_ms=now_ms,
            due_at_ms=delivery.due_at_ms,
            action=delivery.action,
            worker=self._worker,
            event=event,
            group=delivery.group,
            idempotency_key=keys[0] if keys else None,
        )

    def _start(
        self,
        transaction: Transaction,
        jobs: Sequence[Job],
        actions: Mapping[str, Claimable],
        now_ms: int,
    ) -> Callable[[], list[int | None]]:
        """Write down that these start; return what reads the numbers of their attempts."""
        opened: list[Row] = []
        changed: list[Row] = []
        for job in jobs:
            id_, number, action = job.delivery_id, job.attempt, actions[job.action]
            opened.append((id_, number, self._worker, action.digest, now_ms, job.claim_token))
            # One with gates spends it when they let it pass.
            left = job.attempts_left + action.is_gated
            changed.append((id_, now_ms + action.lease_ms, number, left))
        attempt_ids = transaction.inserting_many(_OPEN_ATTEMPTS, opened)
        transaction.changing_many(_START_DELIVERIES, changed)
        return attempt_ids


class Queue:
    """The deliveries that wait or run."""

    def __init__(self, writer: Writer, worker: str) -> None:
        self._writer = writer
        self._worker = worker
        self._claims = Claims(worker)

    def release_unstarted(self, running: Collection[int], now_ms: int) -> "asyncio.Future[bool]":
        """Make those of this process's running deliveries due now that are not in `running`, at
        no cost of an attempt: a claim failed, yet the disk may hold it (SQLite reports a COMMIT
        that can't be synced as failed, and finds it whole when it opens the log anew).

        False: that can't be told yet. PostgreSQL still works on a claim that this process has
        given up, because it waits for a standby, say."""

        def operation(transaction: Transaction) -> bool:
            if not self._claims.are_decided(transaction):
                return False
            for delivery_id, _, _ in transaction.rows(RUNNING_OF, worker=self._worker):
                if delivery_id not in running:
                    close_open_attempt(transaction, delivery_id, now_ms, UNSTARTED)
                    transaction.write(_REFUND_ATTEMPT, id=delivery_id)
                    release(transaction, delivery_id, State.PENDING, now_ms, UNSTARTED)
            return True

        return self._writer.call(operation, Step.CLAIMS)

    def let_go(self, now_ms: int) -> "asyncio.Future[int]":
        """Make due what a feature holds back that is not installed. Return how many that were."""
        return self._writer.call(lambda transaction: transaction.change(_LET_GO, now_ms=now_ms))

    def claim(
        self, actions: Mapping[str, Claimable], room: Room, now_ms: int
    ) -> "asyncio.Future[Claimed]":
        """Open an attempt for up to `room.limit` due deliveries, within each action's free slots
        and its share of all (`Shares`), those of an action in the order in which they became due,
        as far as their bodies find room. What runs here is not claimed twice, though its lease may
        look spent after the clock was set.

        Of `actions` there may be thousands, so no claim looks at them all. Deliveries of others end
        dead, and so do unusable ones. A daemon that the others have taken for lost gets nothing,
        until it lives again.
        """
        claimed: asyncio.Future[Any] = self._writer.call(
            lambda transaction: self._claims.claim(transaction, actions, room, now_ms), Step.CLAIMS
        )
        return claimed

    def finish(self, job: Job, result: Result, ending: Ending) -> "asyncio.Future[bool]":
        """Close the job's attempt with its result, and move the delivery as `ending` says.
        False: the lease was lost, nothing changed.

        It may be told again: a COMMIT whose answer was lost may have been kept. Of an event that
        was erased while the hook ran, what that said is not kept, and it does not run again."""
        names: list[str] = []
        if job.group is not None:
            for locks in hooks.of(self._writer).locks_to_end:
                names += locks(job.group)
        return self._writer.submit(FINISH, Report(job, result, ending), names)

    def within_claim(
        self, job: Job, work: Callable[[Transaction], Done], locks: Collection[str] = ()
    ) -> "asyncio.Future[Done | None]":
        """Do this under these locks, if the claim of `job` stands: nobody has taken it over, nor
        erased its event since. None: it does not."""

        def operation(transaction: Transaction) -> Done | None:
            if locks:
                transaction.lock(locks)
            return work(transaction) if _stands(transaction, job) else None

        return self._writer.call(operation, Step.FINISHES, alone=bool(locks))

    def prove(self, job: Job) -> "asyncio.Future[bool]":
        """Return whether the claim of `job` stands: nobody has taken it over, nor erased its event
        since. The others learn in the same transaction that this daemon lives, so that nobody takes
        it over soon."""

        def operation(transaction: Transaction) -> bool:
            is_alive = transaction.change(_SHOW_LIFE, worker=job.worker) > 0
            return _stands(transaction, job) and is_alive

        return self._writer.call(operation, Step.LIFE)

    def shift(
        self, by_ms: int, set_to_ms: int, now_ms: Callable[[], int]
    ) -> "asyncio.Future[None]":
        """Move due times by `by_ms`, those of features too: the wall clock was set to
        `set_to_ms`, but delays are durations. `now_ms` returns what it says by now.

        What was created between is due by the new clock already. (After a step back they
        can't be told from older ones. They are moved too: they become due earlier, and they are
        due anyway.) What `finish` was told before this is moved, and what it is told later is not:
        call this as soon as the clock follows.
        """

        def operation(transaction: Transaction) -> None:
            shift(transaction, by_ms, set_to_ms, now_ms())
            # Else the next start would take it for a clock that was set while no daemon ran.
            transaction.write(_SHIFT_HEARTBEAT, by_ms=by_ms)

        return self._writer.call(operation, Step.FINISHES, alone=True)  # in their order


def shift(transaction: Transaction, by_ms: int, set_to_ms: int, now_ms: int) -> None:
    """See Queue.shift. What was created later than now was so before a step back."""
    before_ms = set_to_ms if by_ms > 0 else NEVER_MS
    for statement in (_SHIFT, *added("hooks", "SHIFTS")):
        transaction.write(statement, by_ms=by_ms, before_ms=before_ms, after_ms=now_ms)


def _stands(transaction: Transaction, job: Job) -> bool:
    held = transaction.row(_holds(), id=job.delivery_id, claim_token=job.claim_token)
    return held is not None and (job.event.is_erased or not held[1])


@functools.cache
def _holds() -> Statement:
    """Return the statement that tells whether a claim stands, and its event was erased."""
    return Statement(Delivery.select(Delivery.id, withheld(Delivery.event)).where(_IS_CLAIMED))


# Of a worker, by the attempts that it has open.
_RUNNING_OF = (
    Delivery.select(Delivery.id, Delivery.attempts_left, Attempt.claim_token)
    .join(Attempt, on=IS_LAST_ATTEMPT)
    .where(Delivery.state == State.RUNNING, Attempt.worker == param("worker"))
)
RUNNING_OF = Statement(_RUNNING_OF)  # all, also those that another transaction has locked
FREE_RUNNING_OF = Statement(_RUNNING_OF, locks=True)  # without them
_REFUND_ATTEMPT = Statement(
    Delivery.update(attempts_left=Delivery.attempts_left + 1).where(Delivery.id == param("id"))
)
_LET_GO = Statement(
    Delivery.update(
        held_by=None,
        due_at_ms=past(Delivery.created_at_ms),  # so they begin as they came
    ).where(IS_HELD, Delivery.held_by.not_in(installed()), Delivery.state == State.PENDING)
)
_IS_CLAIMED = is_claimed_by(param("id"), param("claim_token"))
_SHOW_LIFE = Statement(
    Host.update(beat_count=Host.beat_count + 1).where(
        Host.worker == param("worker"), Host.ended_at_ms.is_null()
    )
)
_SHIFT_HEARTBEAT = Statement(
    Record.update(alive_at_ms=Record.alive_at_ms + param("by_ms")).where(Record.id == 1)
)
_SHIFT = Statement(
    Delivery.update(due_at_ms=Delivery.due_at_ms + param("by_ms")).where(
        IS_QUEUED,
        (Delivery.created_at_ms < param("before_ms"))
        | (Delivery.created_at_ms > param("after_ms")),
    )
)
_OPEN_ATTEMPTS = BulkInsert(
    Attempt, "delivery_id", "number", "worker", "action_digest", "started_at_ms", "claim_token"
)
_START_DELIVERIES = BulkUpdate(
    lambda given: Delivery.update(
        state=State.RUNNING,
        due_at_ms=given.c.due_at_ms,
        attempt_count=given.c.attempt_count,
        attempts_left=given.c.attempts_left,
    ).where(Delivery.id == given.c.id),
    Delivery.id,
    {"id": int, "due_at_ms": int, "attempt_count": int, "attempts_left": int},
)
