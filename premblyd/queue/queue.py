"""The queue of deliveries: claim, finish, and recover after a crash. claims.py chooses;
recovery.py decides about deliveries that can't run.

`due_at_ms` is the queue: the first try, the retry time or the end of a lease; NULL is out of it.
Each claim has a random token, in its attempt: a report about a claim that was superseded, or lost
by a failover, changes nothing. The attempt row is written at claim, so a crash leaves it open and
it is closed as interrupted; a hook that kills the daemon spends its attempts and ends dead instead
of looping.

The database is open to other programs. A delivery whose row or event somebody changed so that its
hook can't run ends dead with that reason, and the others go on.
"""

import asyncio
import functools
from collections.abc import Callable, Collection, Mapping
from typing import Any, TypeVar

from premblyd.config.models import Action
from premblyd.feature import added, installed
from premblyd.queue import hooks, recovery
from premblyd.queue.claims import Claims
from premblyd.queue.due import IS_QUEUED, NEVER_MS
from premblyd.queue.finishing import FINISH, Report, is_claimed_by
from premblyd.queue.hooks import runs_erased, withheld
from premblyd.queue.jobs import Claimable, Claimed, Ending, Job, Result, Room
from premblyd.queue.recovery import RUNNING_OF, UNSTARTED, release
from premblyd.store.engine import Statement, Transaction, param
from premblyd.store.states import State
from premblyd.store.tables import IS_HELD, Delivery, Host, Record
from premblyd.store.writer import Step, Writer

Done = TypeVar("Done")


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
                    recovery.close_open_attempt(transaction, delivery_id, now_ms, UNSTARTED)
                    transaction.write(_REFUND_ATTEMPT, id=delivery_id)
                    release(transaction, delivery_id, State.PENDING, now_ms, UNSTARTED)
            return True

        return self._writer.call(operation, Step.CLAIMS)

    def let_go(self) -> "asyncio.Future[int]":
        """Make due what a feature holds back that is not installed. Return how many that were."""
        return self._writer.call(lambda transaction: transaction.change(_LET_GO))

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
        names = [name for locks in hooks.of(self._writer).locks_to_end for name in locks(job)]
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


_REFUND_ATTEMPT = Statement(
    Delivery.update(attempts_left=Delivery.attempts_left + 1).where(Delivery.id == param("id"))
)
_LET_GO = Statement(
    Delivery.update(
        held_by=None,
        due_at_ms=Delivery.created_at_ms,  # so they begin as they came
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
