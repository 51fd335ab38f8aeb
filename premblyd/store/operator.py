"""What people change: replay and cancel, while the daemon runs. Each is recorded."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from peewee import SqliteDatabase

from premblyd.store.database import translated
from premblyd.store.models import FINISHED, Delivery, Event, OperatorAction, State

BATCH = 200  # a transaction's worth: the daemon waits for it


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayFilter:
    """Which finished deliveries to queue again; None does not filter."""

    event_id: int | None = None
    delivery_id: int | None = None
    dead_only: bool = False
    action: str | None = None
    since_ms: int | None = None


class Operator:
    """Changes deliveries in the name of `actor`."""

    def __init__(self, database: SqliteDatabase, actor: str) -> None:
        self._database = database
        self._actor = actor

    def find(self, wanted: ReplayFilter) -> list[tuple[int, str, str]]:
        """Return (delivery, action, state) of what `wanted` names, oldest first, in any state."""
        query = Delivery.select(Delivery.id, Delivery.action, Delivery.state).order_by(Delivery.id)
        if wanted.dead_only:
            query = query.where(Delivery.state == State.DEAD)
        for field, value in (
            (Delivery.id, wanted.delivery_id),
            (Delivery.event, wanted.event_id),
            (Delivery.action, wanted.action),
        ):
            if value is not None:
                query = query.where(field == value)
        if wanted.since_ms is not None:
            query = query.join(Event).where(Event.received_at_ms >= wanted.since_ms)
        with translated():
            rows: Any = query.bind(self._database).tuples()
            return list(rows)

    def replay(
        self, delivery_ids: Sequence[int], attempts: Mapping[int, int], now_ms: int
    ) -> Iterator[int]:
        """Queue finished deliveries again, each with its fresh budget of `attempts`. Yield after
        every transaction how many were queued; others than finished ones stay as they are."""
        for start in range(0, len(delivery_ids), BATCH):
            queued = 0
            with translated(), self._database.atomic("IMMEDIATE"):
                for delivery_id in delivery_ids[start : start + BATCH]:
                    changed = (
                        Delivery.update(
                            state=State.PENDING,
                            due_at_ms=now_ms,
                            attempts_left=attempts[delivery_id],
                            finished_at_ms=None,
                        )
                        .where(Delivery.id == delivery_id, Delivery.state.in_(FINISHED))
                        .bind(self._database)
                        .execute()
                    )
                    if changed:
                        self._record("replay", now_ms, delivery_id=delivery_id)
                    queued += changed
            yield queued

    def cancel(self, delivery_id: int, now_ms: int) -> bool:
        """Take a pending delivery out of the queue. False: it is not pending."""
        with translated(), self._database.atomic("IMMEDIATE"):
            changed = (
                Delivery.update(state=State.CANCELLED, due_at_ms=None, finished_at_ms=now_ms)
                .where(Delivery.id == delivery_id, Delivery.state == State.PENDING)
                .bind(self._database)
                .execute()
            )
            if changed:
                self._record("cancel", now_ms, delivery_id=delivery_id)
        return bool(changed)

    def record_reveal(self, event_id: int, now_ms: int) -> None:
        """Record that the actor saw an event's personal data."""
        with translated(), self._database.atomic("IMMEDIATE"):
            self._record("reveal", now_ms, event_id=event_id)

    def _record(
        self,
        action: str,
        now_ms: int,
        *,
        event_id: int | None = None,
        delivery_id: int | None = None,
    ) -> None:
        OperatorAction.insert(
            at_ms=now_ms,
            actor=self._actor,
            action=action,
            event_id=event_id,
            delivery_id=delivery_id,
        ).bind(self._database).execute()
