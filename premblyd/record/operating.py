"""What people change while the daemon runs: replay, cancel, reveal. Each change is recorded.

An operation is what is done within one transaction. A command runs it on a connection of its own
(`perform`); the daemon hands it to its writer, which is the only one that writes there.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from peewee import Database, SqliteDatabase

from premblyd.store.models import FINISHED, Delivery, OperatorAction, State
from premblyd.store.sqlite.opening import translated

BATCH = 200  # deliveries of one transaction: the daemon waits for it
Done = TypeVar("Done")
Operation = Callable[[Database], Done]  # on a database with an open transaction


def perform(database: SqliteDatabase, operation: Operation[Done]) -> Done:
    """Run `operation` in a transaction of its own. Raise StoreUnavailableError when nothing of it
    could be kept."""
    with translated(), database.atomic("IMMEDIATE"):
        return operation(database)


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedReveal:
    """It is on record who sees this event's personal data. Nothing is revealed without it."""

    event_id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Operator:
    """Makes the operations that a person asks for. `actor`: who that is, for the record."""

    actor: str

    def cancel(self, delivery_id: int, now_ms: int) -> Operation[bool]:
        """Take a pending delivery out of the queue. False: it is not pending."""

        def cancel(transaction: Database) -> bool:
            changes = {"state": State.CANCELLED, "due_at_ms": None, "finished_at_ms": now_ms}
            changed = _update(transaction, delivery_id, (State.PENDING,), changes)
            if changed:
                self._record(transaction, "cancel", now_ms, delivery_id=delivery_id)
            return changed

        return cancel

    def reveal(self, event_id: int, now_ms: int) -> Operation[RecordedReveal]:
        """Record that the actor sees an event's personal data."""

        def record(transaction: Database) -> RecordedReveal:
            self._record(transaction, "reveal", now_ms, event_id=event_id)
            return RecordedReveal(event_id=event_id)

        return record

    def replay(
        self, delivery_ids: Sequence[int], attempts: Mapping[int, int], now_ms: int
    ) -> Iterator[Operation[int]]:
        """Queue finished deliveries again, each with its fresh budget of `attempts`; others stay
        as they are. Yield the operations, each of which returns how many it queued."""

        def queue(transaction: Database, delivery_id: int) -> bool:
            changes = {
                "state": State.PENDING,
                "due_at_ms": now_ms,
                "attempts_left": attempts[delivery_id],
                "finished_at_ms": None,
            }
            changed = _update(transaction, delivery_id, FINISHED, changes)
            if changed:
                self._record(transaction, "replay", now_ms, delivery_id=delivery_id)
            return changed

        return _in_batches(delivery_ids, queue)

    def hasten(self, delivery_ids: Sequence[int], now_ms: int) -> Iterator[Operation[int]]:
        """Make pending deliveries due now; the attempts that are left stay. Yield the operations,
        each of which returns how many are due."""

        def hasten(transaction: Database, delivery_id: int) -> bool:
            changed = _update(transaction, delivery_id, (State.PENDING,), {"due_at_ms": now_ms})
            if changed:
                self._record(
                    transaction, "replay", now_ms, delivery_id=delivery_id, note="was pending"
                )
            return changed

        return _in_batches(delivery_ids, hasten)

    def add(
        self, event_ids: Sequence[int], action: str, attempts: int, now_ms: int
    ) -> Iterator[Operation[int]]:
        """Queue a delivery of `action` for each of these events that has none. Yield the
        operations, each of which returns how many it queued."""

        def add(transaction: Database, event_id: int) -> bool:
            if _has_delivery(transaction, event_id, action):
                return False
            delivery = Delivery.insert(
                event=event_id,
                action=action,
                state=State.PENDING,
                due_at_ms=now_ms,
                attempt_count=0,
                attempts_left=attempts,
                created_at_ms=now_ms,
            )
            self._record(
                transaction,
                "replay",
                now_ms,
                event_id=event_id,
                delivery_id=delivery.bind(transaction).execute(),
                note="new delivery",
            )
            return True

        return _in_batches(event_ids, add)

    def _record(
        self,
        transaction: Database,
        action: str,
        now_ms: int,
        *,
        event_id: int | None = None,
        delivery_id: int | None = None,
        note: str | None = None,
    ) -> None:
        OperatorAction.insert(
            at_ms=now_ms,
            actor=self.actor,
            action=action,
            event_id=event_id,
            delivery_id=delivery_id,
            note=note,
        ).bind(transaction).execute()


def _in_batches(
    ids: Sequence[int], change: Callable[[Database, int], bool]
) -> Iterator[Operation[int]]:
    """Yield operations that each change up to BATCH rows and return how many they changed."""

    def batch(part: Sequence[int]) -> Operation[int]:
        return lambda transaction: sum(change(transaction, row_id) for row_id in part)

    for start in range(0, len(ids), BATCH):
        yield batch(ids[start : start + BATCH])


def _update(
    transaction: Database, delivery_id: int, states: Sequence[State], changes: Mapping[str, Any]
) -> bool:
    """Change a delivery that is in one of `states`. False: it is not."""
    query = Delivery.update(**changes).where(Delivery.id == delivery_id, Delivery.state.in_(states))
    return bool(query.bind(transaction).execute())


def _has_delivery(transaction: Database, event_id: int, action: str) -> bool:
    query = Delivery.select(Delivery.id).where(
        Delivery.event == event_id, Delivery.action == action
    )
    return bool(list(query.limit(1).bind(transaction).tuples()))
