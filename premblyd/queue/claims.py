"""A claim: which of the due deliveries start here, with everything that their hooks need. due.py
finds them; shares.py keeps each action's share."""

import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import repeat
from typing import NamedTuple

from premblyd.prembly.payload import StoredEvent
from premblyd.queue import hooks, recovery
from premblyd.queue.due import Queued
from premblyd.queue.end import may_end
from premblyd.queue.jobs import Claimable, Claimed, Due, Job, Room
from premblyd.queue.recovery import ErasedError, UnusableError
from premblyd.queue.shares import Rota, Shares
from premblyd.store.engine import BulkInsert, BulkUpdate, Row, Transaction
from premblyd.store.states import State
from premblyd.store.tables import Attempt, Delivery
from premblyd.store.writer import Deferred


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
            self._try_to_start(
                transaction, delivery, rows.get(delivery.id), actions[delivery.action], now_ms
            )
            for delivery in chosen
        ]
        starts = [start for start in tried if start is not None]
        attempt_ids = self._start(transaction, starts, actions, now_ms)
        gated = [each.delivery.id for each in starts if actions[each.delivery.action].is_gated]
        resume = hooks.of(transaction).resume if gated else ()
        resumed = [each(transaction, gated) for each in resume]
        passed = queue.passed + len(tried) - len(starts)
        has_more = self._has_more(queue, has_changed=bool(starts or passed))
        next_due_ms = queue.asking_next_due()

        def read() -> Claimed:
            jobs: Iterable[Job] = map(self._job, starts, attempt_ids(), repeat(now_ms))
            for each in resumed:
                jobs = each(jobs)
            return Claimed(list(jobs), next_due_ms(), passed, has_more, bool(queue.full))

        return Deferred(read)

    def _has_more(self, queue: Queued, *, has_changed: bool) -> bool:
        """Return whether there are actions with due deliveries that no claim has looked at since
        the last one that changed anything."""
        self._looks_in_vain = 0 if has_changed else self._looks_in_vain + len(queue.looked_at)
        if len(queue.looked_at) < queue.action_count > self._looks_in_vain:
            return True
        self._looks_in_vain = 0
        return False

    def _try_to_start(
        self,
        transaction: Transaction,
        delivery: Due,
        row: Row | None,
        action: Claimable,
        now_ms: int,
    ) -> "_Start | None":
        """Return the delivery's start; None when it has ended instead. `row`: its event's."""
        try:
            if delivery.state == State.RUNNING:
                left = delivery.attempts_left
                if not left and not may_end(transaction, delivery):
                    return None
                if not recovery.interrupt(transaction, delivery.id, left, now_ms, delivery):
                    return None
            return _start_of(transaction, delivery, row, action)
        except (UnusableError, ErasedError) as error:
            state = State.DEAD if isinstance(error, UnusableError) else State.CANCELLED
            if may_end(transaction, delivery):  # else the next claim ends it
                recovery.release(transaction, delivery.id, state, now_ms, str(error), delivery)
            return None

    def _start(
        self,
        transaction: Transaction,
        starts: Sequence["_Start"],
        actions: Mapping[str, Claimable],
        now_ms: int,
    ) -> Callable[[], list[int | None]]:
        """Write down that these start; return what reads the numbers of their attempts."""
        opened: list[Row] = []
        changed: list[Row] = []
        for start in starts:
            delivery = start.delivery
            action = actions[delivery.action]
            token = start.claim_token
            opened.append((delivery.id, start.number, self._worker, action.digest, now_ms, token))
            # One with gates spends it when they let it pass.
            left = delivery.attempts_left - (not action.is_gated)
            changed.append((delivery.id, now_ms + action.lease_ms, start.number, left))
        attempt_ids = transaction.inserting_many(_OPEN_ATTEMPTS, opened)
        transaction.changing_many(_START_DELIVERIES, changed)
        return attempt_ids

    def _job(self, start: "_Start", attempt_id: int | None, now_ms: int) -> Job:
        delivery = start.delivery
        return Job(
            delivery_id=delivery.id,
            attempt_id=attempt_id or 0,
            attempt=start.number,
            attempts_left=delivery.attempts_left - 1,
            claim_token=start.claim_token,
            started_at_ms=now_ms,
            due_at_ms=delivery.due_at_ms,
            action=delivery.action,
            worker=self._worker,
            event=start.event,
            group=delivery.group,
            idempotency_key=start.idempotency_key,
        )


class _Start(NamedTuple):
    """A delivery that begins, as its attempt of this `number`."""

    delivery: Due
    event: StoredEvent
    number: int
    claim_token: str
    idempotency_key: str | None


def _start_of(
    transaction: Transaction, delivery: Due, row: Row | None, action: Claimable
) -> _Start:
    event = recovery.usable_event(row and row[1:])
    newest_number = row[0] if row else 0  # who resets attempt_count by hand has it run again
    if event.is_erased and not action.runs_erased:
        raise ErasedError(recovery.ERASED)
    if action.gets_body and not event.has_body and not event.is_erased:
        raise UnusableError(recovery.BODY_GONE)
    begins = hooks.of(transaction).begin if action.takes_turns else ()
    keys = [begin(transaction, delivery) for begin in begins]
    return _Start(
        delivery,
        event,
        max(delivery.attempt_count, newest_number) + 1,
        secrets.token_hex(8),
        idempotency_key=keys[0] if keys else None,
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
