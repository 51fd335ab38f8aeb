"""Past events with their deliveries, in portions: so that no snapshot of the database is kept for
long, and little memory is used."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from peewee import fn

from premblyd.ground.times import HOUR_MS
from premblyd.prembly.payload import StoredEvent, Verdict
from premblyd.queue.recovery import EVENT_COLUMNS, usable_event
from premblyd.record import lists, queries
from premblyd.record.queries import By
from premblyd.store.engine import Database
from premblyd.store.portions import of_size
from premblyd.store.states import State
from premblyd.store.tables import Delivery, Event

MOST_ROWS = 500
MOST_BYTES = 4 << 20  # of the bodies of a portion, unless one alone has more


class Recorded(NamedTuple):
    """A delivery, as the record has it."""

    id: int
    event_id: int
    action: str
    state: str
    ran_instead_id: int | None
    confirmed_facts: Any  # None: Prembly has confirmed nothing

    @property
    def has_run(self) -> bool:
        """Whether its hook ran, runs or is to run: not if `once` has skipped it."""
        return self.state != State.SKIPPED


@dataclass(frozen=True, slots=True, kw_only=True)
class PastEvent:
    """An event with its deliveries by action. `type`, `response_code` and `outcome` are as its row
    has them. `said`: what its body was found to say, by the places where an endpoint's fields
    are."""

    id: int
    type: str
    response_code: str | None
    outcome: str
    endpoint: str
    removed_parts: str | None
    event: StoredEvent
    deliveries: dict[str, Recorded] = field(default_factory=dict)
    said: dict[str, Verdict] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """The events from `first_id` to `last_id` that were received at `since_ms` or later."""

    first_id: int
    last_id: int
    since_ms: int


def span(database: Database, since_ms: int, event_id: int | None = None) -> Span:
    """Return the events since a time that are there now, or those of them up to this one."""
    first = lists.first_since(database, Event, Event.received_at_ms, since_ms - HOUR_MS)
    last = queries.value(database, Event.select(fn.MAX(Event.id))) or 0
    last = last if event_id is None else event_id
    return Span(first_id=first, last_id=last, since_ms=since_ms)


def portions(database: Database, span: Span) -> Iterator[list[PastEvent]]:
    """Yield the events, in the order of receipt."""
    start = span.first_id
    while start <= span.last_id:
        ahead = (
            Event.select(Event.id, Event.received_at_ms, Event.body_bytes)
            .from_(By(Event, None))
            .where(Event.id.between(start, span.last_id))
            .order_by(Event.id)
            .limit(MOST_ROWS)
        )
        rows = queries.tuples(database, ahead)
        if not rows:
            return
        sizes = [(row[0], row[2]) for row in rows if row[1] >= span.since_ms]
        for ids in of_size(sizes, MOST_BYTES):
            if ids:
                yield events(database, ids)
        start = rows[-1][0] + 1


def events(database: Database, ids: Sequence[int]) -> list[PastEvent]:
    """Return these events, as far as they are there."""
    query = _DELIVERIES.where(Delivery.event.in_(ids)).order_by(Delivery.id)
    # Before their events: what is removed meanwhile is left out, and not taken for one that ran
    # nothing.
    deliveries = [Recorded(*row) for row in queries.tuples(database, query)]
    rows = queries.tuples(database, _EVENTS.where(Event.id.in_(ids)).order_by(Event.id))
    found = {each.id: each for each in map(_found, rows)}
    for delivery in deliveries:
        if delivery.event_id in found:
            found[delivery.event_id].deliveries[str(delivery.action)] = delivery
    return list(found.values())


def events_of(database: Database, delivery_ids: Collection[int]) -> dict[int, int]:
    """Return the numbers of the events of these deliveries."""
    if not delivery_ids:
        return {}
    query = Delivery.select(Delivery.id, Delivery.event).where(Delivery.id.in_(list(delivery_ids)))
    return dict(queries.tuples(database, query))


def _found(row: tuple[Any, ...]) -> PastEvent:
    values = dict(zip(EVENT_COLUMNS, row, strict=True))
    names = ("id", "type", "response_code", "outcome", "endpoint", "removed_parts")
    return PastEvent(**{name: values[name] for name in names}, event=usable_event(row))


_EVENTS = Event.select(*(getattr(Event, name) for name in EVENT_COLUMNS))
_DELIVERIES = Delivery.select(
    Delivery.id,
    Delivery.event,
    Delivery.action,
    Delivery.state,
    Delivery.ran_instead,
    Delivery.confirmed_facts,
)
