"""A rehearsal: for which past events another configuration chooses more, fewer or other actions
than those that have deliveries in the record. Begin with `rehearse`.

Nothing is run, asked or written. Events are decided as the daemon decides when one arrives, by
their types, response codes and `when`, and read in portions, so that no snapshot of the database is
kept for long.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from peewee import fn

from premblyd.config.models import Config
from premblyd.config.routing import Routing
from premblyd.ground.times import HOUR_MS
from premblyd.prembly import events, payload
from premblyd.prembly.payload import StoredEvent
from premblyd.queue.arrivals import EVENT_COLUMNS, of_size, usable_event
from premblyd.queue.queue import BODY_GONE, ERASED
from premblyd.record import lists, queries
from premblyd.record.queries import By
from premblyd.store.engine import Database
from premblyd.store.tables import Delivery, Event

MOST_ROWS = 500
MOST_BYTES = 4 << 20  # of the bodies of a portion, unless one alone has more


class Difference(StrEnum):
    """How what another configuration does differs from what the record has."""

    NONE = "same"
    MORE = "more"  # it chooses the action, and the record has no delivery for it
    FEWER = "fewer"  # it does not choose it, and the record has one
    UNSAID = "unsaid"  # its `when` looks at what is not there any more


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """The result for an event and an action."""

    event_id: int
    action: str
    difference: Difference
    why: str = ""


def rehearse(database: Database, settings: Config, since_ms: int) -> Iterator[list[Compared]]:
    """Yield the result for each event since a time, in the order of receipt: of each action that
    the record or the configuration has for it."""
    stage = _Stage(settings)
    for ids in _portions(database, since_ms):
        yield from (
            stage.compare(event, recorded) for event, recorded in _past_events(database, ids)
        )


def _portions(database: Database, since_ms: int) -> Iterator[list[int]]:
    """Yield the numbers of the events since a time that are there now."""
    start = lists.first_since(database, Event, Event.received_at_ms, since_ms - HOUR_MS)
    last = queries.value(database, Event.select(fn.MAX(Event.id))) or 0
    while start <= last:
        ahead = (
            Event.select(Event.id, Event.received_at_ms, Event.body_bytes)
            .from_(By(Event, None))
            .where(Event.id.between(start, last))
            .order_by(Event.id)
            .limit(MOST_ROWS)
        )
        rows = queries.tuples(database, ahead)
        if not rows:
            return
        sizes = [(row[0], row[2]) for row in rows if row[1] >= since_ms]
        yield from filter(None, of_size(sizes, MOST_BYTES))
        start = rows[-1][0] + 1


def _past_events(
    database: Database, ids: Sequence[int]
) -> Iterator[tuple[StoredEvent, Collection[str]]]:
    """Yield these events, as far as they are there, with the actions that have deliveries."""
    query = Delivery.select(Delivery.event, Delivery.action).where(Delivery.event.in_(ids))
    # Before their events: what is removed meanwhile is left out, and not taken for one that ran
    # nothing.
    actions: dict[int, list[str]] = {number: [] for number in ids}
    for number, action in queries.tuples(database, query.order_by(Delivery.id)):
        actions[number].append(str(action))
    found = Event.select(*(getattr(Event, name) for name in EVENT_COLUMNS))
    for row in queries.tuples(database, found.where(Event.id.in_(ids)).order_by(Event.id)):
        event = usable_event(row)
        yield event, actions[event.id]


class _Stage:
    """A configuration, and what it does with past events."""

    def __init__(self, settings: Config) -> None:
        self._actions = {action.name: action for action in settings.actions}
        self._routing = Routing(settings.actions)
        self._endpoints = {endpoint.name: endpoint for endpoint in settings.endpoints}

    def compare(self, event: StoredEvent, recorded: Collection[str]) -> list[Compared]:
        """Return what differs for an event, and what does not."""
        if event.has_body and event.verified_by != events.STORED_BY:
            endpoint = self._endpoints.get(event.endpoint)
            fields = endpoint.fields if endpoint else None
            event = replace(event, verdict=payload.read(event.body, fields))
        found = []
        for name in dict.fromkeys([*self._actions, *recorded]):
            why_not = self._why_not(name, event)
            has_one = name in recorded
            if why_not is None and self._is_unsaid(name, event):
                difference = Difference.UNSAID
                why_not = ERASED if event.is_erased else BODY_GONE
            elif why_not is None:
                difference = Difference.NONE if has_one else Difference.MORE
            elif has_one:
                difference = Difference.FEWER
            else:
                continue
            found.append(
                Compared(event_id=event.id, action=name, difference=difference, why=why_not or "")
            )
        event.drop_document()
        return found

    def _is_unsaid(self, name: str, event: StoredEvent) -> bool:
        return not event.has_body and self._actions[name].when is not None

    def _why_not(self, name: str, event: StoredEvent) -> str | None:
        """Return why an action is not for an event; None: it is, or may be."""
        if event.endpoint not in self._endpoints:
            return f"there is no endpoint {event.endpoint}"
        if name not in self._actions:
            return "there is no action of this name"
        action, verdict = self._actions[name], event.verdict
        if not event.has_body:
            return self._routing.why_not_told(action, verdict.type, verdict.response_code)
        return self._routing.why_not(action, event)
