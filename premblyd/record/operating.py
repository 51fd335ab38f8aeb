"""What people change: replay and cancel, while the daemon runs. Each is recorded."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from peewee import SqliteDatabase, fn

from premblyd.prembly.payload import Kind, Outcome, Verdict
from premblyd.prembly.webhook import StoredEvent
from premblyd.store.inbox import VERDICT_COLUMNS
from premblyd.store.models import FINISHED, Delivery, Event, OperatorAction, State
from premblyd.store.sqlite.opening import translated

BATCH = 200  # a transaction's worth: the daemon waits for it
_EVENT_COLUMNS = (
    *("id", "key", "endpoint", "received_at_ms", "remote_ip", "token", "headers", "body"),
    "verified_by",
    *VERDICT_COLUMNS,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayFilter:
    """Which deliveries are meant; None does not filter."""

    event_id: int | None = None
    delivery_id: int | None = None
    state: State | None = None
    action: str | None = None
    since_ms: int | None = None
    due_after_ms: int | None = None


@dataclass(frozen=True, slots=True)
class FoundDelivery:
    """A delivery that a command is about."""

    id: int
    event_id: int
    action: str
    state: State


@dataclass(frozen=True, slots=True)
class FoundEvent:
    """An event that has no delivery of an action, and its response code."""

    id: int
    response_code: str | None


class Operator:
    """Changes deliveries in the name of `actor`."""

    def __init__(self, database: SqliteDatabase, actor: str) -> None:
        self._database = database
        self._actor = actor

    def find(self, wanted: ReplayFilter) -> list[FoundDelivery]:
        """Return the deliveries that `wanted` names, oldest first."""
        query = Delivery.select(
            Delivery.id, Delivery.event, Delivery.action, Delivery.state
        ).order_by(Delivery.id)
        for field, value in (
            (Delivery.id, wanted.delivery_id),
            (Delivery.event, wanted.event_id),
            (Delivery.action, wanted.action),
            (Delivery.state, wanted.state),
        ):
            if value is not None:
                query = query.where(field == value)
        if wanted.due_after_ms is not None:
            query = query.where(Delivery.due_at_ms > wanted.due_after_ms)
        if wanted.since_ms is not None:
            query = query.join(Event).where(Event.received_at_ms >= wanted.since_ms)
        return [
            FoundDelivery(number, event, action, State(state))
            for number, event, action, state in self._rows(query)
        ]

    def actions(self) -> set[str]:
        """Return the name of every action that has a delivery."""
        return {name for (name,) in self._rows(Delivery.select(Delivery.action).distinct())}

    def events_without(
        self, action: str, *, event_id: int | None = None, since_ms: int | None = None
    ) -> list[FoundEvent]:
        """Return the events that have no delivery of `action`, oldest first."""
        has_one = Delivery.select(Delivery.id).where(
            Delivery.event == Event.id, Delivery.action == action
        )
        query = (
            Event.select(Event.id, Event.response_code)
            .where(~fn.EXISTS(has_one))
            .order_by(Event.id)
        )
        if event_id is not None:
            query = query.where(Event.id == event_id)
        if since_ms is not None:
            query = query.where(Event.received_at_ms >= since_ms)
        return [FoundEvent(*row) for row in self._rows(query)]

    def event(self, event_id: int) -> StoredEvent:
        """Return a whole event, as its hooks get it."""
        columns = [getattr(Event, name) for name in _EVENT_COLUMNS]
        (row,) = self._rows(Event.select(*columns).where(Event.id == event_id))
        values = dict(zip(_EVENT_COLUMNS, row, strict=True))
        verdict = {name: values.pop(name) for name in VERDICT_COLUMNS}
        verdict |= {"kind": Kind(verdict["kind"]), "outcome": Outcome(verdict["outcome"])}
        values["body"] = bytes(values["body"])
        return StoredEvent(verdict=Verdict(**verdict), **values)

    def replay(
        self, delivery_ids: Sequence[int], attempts: Mapping[int, int], now_ms: int
    ) -> Iterator[int]:
        """Queue finished deliveries again, each with its fresh budget of `attempts`. Yield after
        every transaction how many were queued; others than finished ones stay as they are."""

        def queue(delivery_id: int) -> bool:
            changes = {
                "state": State.PENDING,
                "due_at_ms": now_ms,
                "attempts_left": attempts[delivery_id],
                "finished_at_ms": None,
            }
            changed = self._update(delivery_id, FINISHED, changes)
            if changed:
                self._record("replay", now_ms, delivery_id=delivery_id)
            return changed

        return self._in_batches(delivery_ids, queue)

    def hasten(self, delivery_ids: Sequence[int], now_ms: int) -> Iterator[int]:
        """Make pending deliveries due now; the attempts that are left stay. Yield after every
        transaction how many were."""

        def queue(delivery_id: int) -> bool:
            changed = self._update(delivery_id, (State.PENDING,), {"due_at_ms": now_ms})
            if changed:
                self._record("replay", now_ms, delivery_id=delivery_id, note="was pending")
            return changed

        return self._in_batches(delivery_ids, queue)

    def add(
        self, event_ids: Sequence[int], action: str, attempts: int, now_ms: int
    ) -> Iterator[int]:
        """Queue a delivery of `action` for each of these events that has none. Yield after every
        transaction how many were."""

        def queue(event_id: int) -> bool:
            if self._rows(
                Delivery.select(Delivery.id)
                .where(Delivery.event == event_id, Delivery.action == action)
                .limit(1)
            ):
                return False
            delivery_id = (
                Delivery.insert(
                    event=event_id,
                    action=action,
                    state=State.PENDING,
                    due_at_ms=now_ms,
                    attempt_count=0,
                    attempts_left=attempts,
                    created_at_ms=now_ms,
                )
                .bind(self._database)
                .execute()
            )
            self._record(
                "replay", now_ms, event_id=event_id, delivery_id=delivery_id, note="new delivery"
            )
            return True

        return self._in_batches(event_ids, queue)

    def cancel(self, delivery_id: int, now_ms: int) -> bool:
        """Take a pending delivery out of the queue. False: it is not pending."""
        with translated(), self._database.atomic("IMMEDIATE"):
            changes = {"state": State.CANCELLED, "due_at_ms": None, "finished_at_ms": now_ms}
            changed = self._update(delivery_id, (State.PENDING,), changes)
            if changed:
                self._record("cancel", now_ms, delivery_id=delivery_id)
        return changed

    def record_reveal(self, event_id: int, now_ms: int) -> None:
        """Record that the actor saw an event's personal data."""
        with translated(), self._database.atomic("IMMEDIATE"):
            self._record("reveal", now_ms, event_id=event_id)

    def _in_batches(self, ids: Sequence[int], change: Callable[[int], bool]) -> Iterator[int]:
        for start in range(0, len(ids), BATCH):
            with translated(), self._database.atomic("IMMEDIATE"):
                changed = sum(change(number) for number in ids[start : start + BATCH])
            yield changed

    def _update(
        self, delivery_id: int, states: Sequence[State], changes: Mapping[str, Any]
    ) -> bool:
        """Change a delivery that is in one of `states`. False: it is not."""
        query = Delivery.update(**changes).where(
            Delivery.id == delivery_id, Delivery.state.in_(states)
        )
        return bool(query.bind(self._database).execute())

    def _rows(self, query: Any) -> list[tuple[Any, ...]]:
        with translated():
            return list(query.bind(self._database).tuples())

    def _record(
        self,
        action: str,
        now_ms: int,
        *,
        event_id: int | None = None,
        delivery_id: int | None = None,
        note: str | None = None,
    ) -> None:
        OperatorAction.insert(
            at_ms=now_ms,
            actor=self._actor,
            action=action,
            event_id=event_id,
            delivery_id=delivery_id,
            note=note,
        ).bind(self._database).execute()
