"""What people change while the daemon runs: replay, cancel, reveal, and what features let them do.
Each change is recorded.

A change is what is done within a transaction of its own, as it locks what it finds. A command runs
it on a connection of its own (`engines.connections.transact`); the daemon hands it to its writer
(`Writer.call`, alone), which is the only one that writes there.

Between the transactions of bulk work there are gaps, in which webhooks are stored. Nobody can store
anything while another transaction writes to SQLite. Who finds it busy looks again after 1 ms, 2, 5,
…, and at last every 100 ms: so a gap that is shorter may pass unseen, and after two seconds the
webhook is refused.
"""

import functools
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from premblyd.queue import hooks, inbox
from premblyd.queue.end import end, lock
from premblyd.queue.hooks import End
from premblyd.queue.inbox import NewDelivery
from premblyd.store.engine import (
    BulkInsert,
    Database,
    Lookup,
    Statement,
    Transaction,
    insert,
    param,
    update,
)
from premblyd.store.states import CANCELLABLE, FINISHED, State
from premblyd.store.tables import Delivery, Event, OperatorAction

BATCH = 50  # rows of one transaction, for which the daemon's own have to wait
MIN_GAP_S = 0.15
MAX_GAP_S = 2.0
GAP_RATIO = 4  # of a gap to the transaction before it: webhooks have the greater part of the time
REPLAYED, CANCELLED = "replay", "cancel"  # what the record calls it
# Who removes or erases events locks this first of all, as who adds to them or holds them does:
# else, on PostgreSQL, it could end after what it did not see.
EVENTS = "holds"
Done = TypeVar("Done")
Change = Callable[[Transaction], Done]

_HAS_ID = Delivery.id == param("delivery_id")
_CANCEL = update(
    Delivery,
    *("state", "due_at_ms", "finished_at_ms", "held_by"),
    where=_HAS_ID & Delivery.state.in_(CANCELLABLE),
)
_CANCEL_DEAD = update(
    Delivery,
    *("state", "finished_at_ms"),
    where=_HAS_ID & (Delivery.state == State.DEAD),
)
_HASTEN = update(
    Delivery,
    "due_at_ms",
    where=_HAS_ID & (Delivery.state == State.PENDING) & Delivery.held_by.is_null(),
)
_FIND = Statement(
    Delivery.select(Delivery.id)
    .where(Delivery.event == param("event_id"), Delivery.action == param("action"))
    .limit(1)
)
_EVENTS = Lookup(Event.select(Event.id, Event.reference), Event.id)
_RECORD = insert(
    OperatorAction, "at_ms", "actor", "action", "event_id", "delivery_id", "note", "part_of_id"
)
_ABOUT_NOTHING = {"event_id": None, "delivery_id": None, "note": None}
_RECORD_MANY = BulkInsert(
    OperatorAction, "at_ms", "actor", "action", "delivery_id", "note", "part_of_id"
)
_RECORD_EVENTS = BulkInsert(OperatorAction, "at_ms", "actor", "action", "event_id", "part_of_id")
ONLY_SOME = f"only a {' or '.join(CANCELLABLE)} one can be cancelled"


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedReveal:
    """Shows that it is on record who sees this event's personal data: `showing.revealed` takes no
    event without it."""

    event_id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Operator:
    """Makes the changes that a person asks for, the `actor`, whom the record names: each of them,
    with `part_of_id` as a part of what `many` recorded."""

    actor: str
    part_of_id: int | None = None

    def many(self, about: str, now_ms: int, action: str = REPLAYED) -> "Change[Operator]":
        """Record what is done to many deliveries or events, and return the operator who does it: so
        the log has one line for it, and behind that which these were."""

        def record(transaction: Transaction) -> Operator:
            number = self._record(transaction, action, now_ms, note=about)
            return Operator(actor=self.actor, part_of_id=number)

        return record

    def cancel(self, delivery_id: int, now_ms: int) -> Change[bool]:
        """Take a pending delivery out of the queue, or dismiss a dead one. False: it is neither."""

        def cancel(transaction: Transaction) -> bool:
            lock(transaction, [delivery_id])
            over = {"due_at_ms": None, "held_by": None, "finished_at_ms": now_ms}
            changed = _cancelled(transaction, _CANCEL, [delivery_id], **over)
            if changed:
                self._record(transaction, CANCELLED, now_ms, delivery_id=delivery_id)
            return bool(changed)

        return cancel

    def cancel_dead(self, delivery_ids: Sequence[int], now_ms: int) -> Iterator[Change[int]]:
        """Dismiss those of these deliveries that are dead. Yield the changes, each of which returns
        how many it cancelled."""

        def cancel(transaction: Transaction, part: Sequence[int]) -> int:
            lock(transaction, part)
            cancelled = _cancelled(transaction, _CANCEL_DEAD, part, finished_at_ms=now_ms)
            return self._record_many(transaction, CANCELLED, cancelled, now_ms)

        return _in_batches(delivery_ids, cancel)

    def reveal(self, event_id: int, now_ms: int) -> Change[RecordedReveal]:
        """Record that the actor sees an event's personal data."""

        def record(transaction: Transaction) -> RecordedReveal:
            self._record(transaction, "reveal", now_ms, event_id=event_id)
            return RecordedReveal(event_id=event_id)

        return record

    def replay(
        self,
        attempts: Mapping[int, int],
        now_ms: int,
        terms: Mapping[int, Any] | None = None,
    ) -> Iterator[Change[int]]:
        """Queue the finished of these deliveries again, each with its fresh budget of `attempts`;
        others stay as they are. `terms`: on which each is stored. Yield the changes, each of which
        returns how many it queued."""

        def queue(transaction: Transaction, part: Sequence[int]) -> int:
            lock(transaction, part)
            its_terms = {each: (terms or {}).get(each) for each in part}
            asked = [again(transaction, its_terms) for again in hooks.of(transaction).again]
            queued = []
            for delivery_id in part:
                values = {
                    "state": State.PENDING,
                    "due_at_ms": now_ms,
                    "attempts_left": attempts[delivery_id],
                    "finished_at_ms": None,
                    "ran_instead_id": None,
                }
                for columns in asked:
                    values |= columns(delivery_id)
                if transaction.change(_replay(tuple(values)), delivery_id=delivery_id, **values):
                    queued.append(delivery_id)
            for anew in hooks.of(transaction).anew:
                anew(transaction, queued)
            return self._record_many(transaction, REPLAYED, queued, now_ms)

        return _in_batches([*attempts], queue)

    def make_due_now(self, delivery_ids: Sequence[int], now_ms: int) -> Iterator[Change[int]]:
        """Make pending deliveries due now, except those that a feature holds; they keep the
        attempts that they have left. Yield the changes, each of which returns how many are due."""

        def make_due_now(transaction: Transaction, part: Sequence[int]) -> int:
            hastened = _changed(transaction, _HASTEN, part, due_at_ms=now_ms)
            for anew in hooks.of(transaction).anew:
                anew(transaction, hastened)
            return self._record_many(transaction, REPLAYED, hastened, now_ms, "was pending")

        return _in_batches(delivery_ids, make_due_now)

    def add(
        self,
        event_ids: Sequence[int],
        action: str,
        attempts: int,
        now_ms: int,
        terms: Any = None,
    ) -> Iterator[Change[int]]:
        """Queue a delivery of `action` for each of these events that has none, on these terms.
        Yield the changes, each of which returns how many it queued."""
        new = NewDelivery(action, attempts, terms)

        def add(transaction: Transaction, event_id: int) -> bool:
            if transaction.row(_FIND, event_id=event_id, action=action) is not None:
                return False
            delivery_id = inbox.add_delivery(transaction, event_id, new, now_ms)
            about = {"event_id": event_id, "delivery_id": delivery_id}
            self._record(transaction, REPLAYED, now_ms, note="new delivery", **about)
            return True

        def add_all(transaction: Transaction, part: Sequence[int]) -> int:
            transaction.lock([EVENTS])
            transaction.lock([f"add {action}"])  # else two operators add the same at once
            there: dict[int, Any] = dict(transaction.look_up(_EVENTS, part))
            if terms is not None:
                inbox.lock_references(
                    transaction, [each for each in there.values() if isinstance(each, str)]
                )
            return sum(add(transaction, event_id) for event_id in sorted(there))

        return _in_batches(event_ids, add_all)

    def _record_many(
        self,
        transaction: Transaction,
        action: str,
        delivery_ids: Sequence[int],
        now_ms: int,
        note: str | None = None,
    ) -> int:
        rows = [(now_ms, self.actor, action, id_, note, self.part_of_id) for id_ in delivery_ids]
        return len(transaction.insert_many(_RECORD_MANY, rows))

    def record_events(
        self, action: str, event_ids: Sequence[int], now_ms: int, size: int | None = None
    ) -> Iterator[Change[int]]:
        """Record of each of these events that the actor did this. Yield the changes, each of which
        returns of how many."""

        def record(transaction: Transaction, part: Sequence[int]) -> int:
            rows = [(now_ms, self.actor, action, number, self.part_of_id) for number in part]
            return len(transaction.insert_many(_RECORD_EVENTS, rows))

        return _in_batches(event_ids, record, size)

    def _record(
        self, transaction: Transaction, action: str, now_ms: int, **about: Any
    ) -> int | None:
        own = {"at_ms": now_ms, "actor": self.actor, "part_of_id": self.part_of_id}
        return transaction.insert(_RECORD, action=action, **own, **(_ABOUT_NOTHING | about))


def write_down(
    transaction: Transaction, actor: str, action: str, now_ms: int, note: str | None = None
) -> None:
    """Put on record that the actor did this. `note` names no person."""
    own = {"at_ms": now_ms, "actor": actor, "action": action, "part_of_id": None}
    transaction.insert(_RECORD, **own, **(_ABOUT_NOTHING | {"note": note}))


@functools.cache
def _replay(columns: tuple[str, ...]) -> Statement:
    return update(Delivery, *columns, where=_HAS_ID & Delivery.state.in_(FINISHED))


def _cancelled(
    transaction: Transaction, statement: Statement, ids: Sequence[int], **values: Any
) -> list[int]:
    """Return which of these deliveries the statement cancelled."""
    over = values | {"state": State.CANCELLED}
    ends = [End(each, State.CANCELLED) for each in ids]
    return end(transaction, ends, lambda: _changed(transaction, statement, ids, **over))


def _changed(
    transaction: Transaction, statement: Statement, ids: Sequence[int], **values: Any
) -> list[int]:
    """Return which of these deliveries the statement changed."""
    return [id_ for id_ in ids if transaction.change(statement, delivery_id=id_, **values)]


def _in_batches(
    ids: Sequence[int],
    change: Callable[[Transaction, Sequence[int]], int],
    size: int | None = None,
) -> Iterator[Change[int]]:
    """Yield changes that each change up to `size` rows, or BATCH, and return how many they
    changed."""
    size = size or BATCH

    def batch(part: Sequence[int]) -> Change[int]:
        return lambda transaction: change(transaction, part)

    for start in range(0, len(ids), size):
        yield batch(ids[start : start + size])


def gap_s(took_s: float) -> float:
    """Return how long to leave the database alone after a transaction that took so long."""
    return min(max(MIN_GAP_S, GAP_RATIO * took_s), MAX_GAP_S)


def transact_all(database: Database, changes: Iterable[Change[Done]]) -> Iterator[Done]:
    """Make each change in a transaction of its own, beside a daemon, and yield what it returns.
    Raise StoreUnavailableError when one of them can't be kept."""
    wait_s = 0.0
    for change in changes:
        time.sleep(wait_s)
        began = time.monotonic()
        yield database.transact(change)
        wait_s = gap_s(time.monotonic() - began)
