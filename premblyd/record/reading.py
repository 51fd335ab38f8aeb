"""Finding what a command is about: an event, deliveries, attempts. Lists are in browsing.py."""

import dataclasses
from collections.abc import Collection, Iterable
from typing import Any

from peewee import Database, Expression, ModelSelect, fn

from premblyd.errors import NotFoundError
from premblyd.model.states import State
from premblyd.model.tables import Attempt, Delivery, Event
from premblyd.prembly import events as events_of_prembly
from premblyd.prembly.payload import StoredEvent
from premblyd.queue.damage import usable_event
from premblyd.queue.queue_statements import EVENT_COLUMNS
from premblyd.record import contradictions, fetching
from premblyd.record.choosing import DeliveryFilter
from premblyd.record.rows import AttemptRow, FoundDelivery, FoundEvent, WholeEvent

COUNTED = 100_000


def event_ids(database: Database, numbers: Collection[int]) -> set[int]:
    """Return those of `numbers` that events have."""
    query = Event.select(Event.id).where(Event.id.in_(list(numbers)))
    return {number for (number,) in fetching.tuples(database, query)}


def last_event_id(database: Database) -> int:
    """Return the number of the newest event; 0 for none."""
    [(event_id,)] = fetching.tuples(database, Event.select(fn.COALESCE(fn.MAX(Event.id), 0)))
    return int(event_id)


def last_event_ms(database: Database) -> int | None:
    """Return when the newest event came; None for none."""
    query = Event.select(Event.received_at_ms).order_by(Event.id.desc()).limit(1)
    found = fetching.tuples(database, query)
    return found[0][0] if found and isinstance(found[0][0], int) else None


def latest_ms(database: Database) -> int | None:
    """Return the latest time at which an event came, whichever came last: the clock may have been
    set. None for none."""
    query = Event.select(Event.received_at_ms).order_by(Event.received_at_ms.desc()).limit(1)
    found = fetching.tuples(database, query)
    return found[0][0] if found and isinstance(found[0][0], int) else None


def last_event_of_prembly_ms(database: Database) -> int | None:
    """Return when Prembly last sent an event unasked; None: none of the newest 500 was."""
    query = Event.select(Event.received_at_ms, Event.verified_by).order_by(Event.id.desc())
    found = fetching.tuples(database, query.limit(500))
    sent = [at_ms for at_ms, verified_by in found if verified_by != events_of_prembly.STORED_BY]
    return next((at_ms for at_ms in sent if isinstance(at_ms, int)), None)


def find_event(database: Database, number_or_key: str) -> WholeEvent:
    """Return a whole event by its number or its key. Raise NotFoundError when there is none."""
    query = Event.select(*fetching.columns(Event, WholeEvent)).where(_has_name(number_or_key))
    found = fetching.rows(database, query, WholeEvent)
    if not found:
        raise _no_event(number_or_key)
    return found[0]


def find_event_id(database: Database, number_or_key: str) -> int:
    """Return the number of the event with this number or key. Raise NotFoundError when there is
    none."""
    found = fetching.tuples(database, Event.select(Event.id).where(_has_name(number_or_key)))
    if not found:
        raise _no_event(number_or_key)
    event_id: int = found[0][0]
    return event_id


def find_delivery(database: Database, delivery_id: int) -> FoundDelivery:
    """Return a delivery by its number. Raise NotFoundError when there is none."""
    found = find_deliveries(database, DeliveryFilter(delivery_id=delivery_id))
    if not found:
        raise NotFoundError(
            f"There is no delivery {delivery_id}. `premblyd deliveries` lists them."
        )
    return found[0]


def stored_event(database: Database, event_id: int) -> StoredEvent:
    """Return an event as its hooks get it. Raise UnusableError when somebody has changed it so
    that none can."""
    columns = [getattr(Event, name) for name in EVENT_COLUMNS]
    (row,) = fetching.tuples(database, Event.select(*columns).where(Event.id == event_id))
    return usable_event(row)


def events_without(
    database: Database, action: str, *, event_id: int | None = None, since_ms: int | None = None
) -> list[FoundEvent]:
    """Return the events that have no delivery of `action`, oldest first."""
    of_action = Delivery.select(Delivery.id).where(
        Delivery.event == Event.id, Delivery.action == action
    )
    query = (
        Event.select(*fetching.columns(Event, FoundEvent), contradictions.is_contradicted())
        .where(~fn.EXISTS(of_action))
        .order_by(Event.id)
    )
    query = fetching.equal(query, (Event.id, event_id))
    if since_ms is not None:
        query = query.where(Event.received_at_ms >= since_ms)
    return fetching.rows(database, query, FoundEvent)


def find_deliveries(
    database: Database, chosen: DeliveryFilter, after_id: int = 0, limit: int | None = None
) -> list[FoundDelivery]:
    """Return the deliveries that a command is about, oldest first: at most `limit`, with higher
    numbers than `after_id`."""
    columns = fetching.columns(Delivery, FoundDelivery)
    query = _chosen(database, chosen, *columns, contradictions.is_contradicted(Delivery.event))
    query = query.where(
        Delivery.state.in_(list(State)),  # somebody may have put another word there
        Delivery.id > after_id,
    )
    found = fetching.rows(database, query.order_by(Delivery.id).limit(limit), FoundDelivery)
    return [dataclasses.replace(delivery, state=State(delivery.state)) for delivery in found]


def count_deliveries(database: Database, chosen: DeliveryFilter) -> int:
    """Return how many deliveries are chosen; no more than COUNTED are counted."""
    some = _chosen(database, chosen, Delivery.id).limit(COUNTED).alias("some")
    [(count,)] = fetching.tuples(database, Delivery.select(fn.COUNT(some.c.id)).from_(some))
    return int(count)


def _chosen(database: Database, chosen: DeliveryFilter, *columns: Any) -> "ModelSelect[Any]":
    query = Delivery.select(*columns)
    if any(each is not None for each in (chosen.since_ms, chosen.until_ms, chosen.type)):
        query = query.join(Event)
    for condition in chosen.conditions(database):
        query = query.where(condition.expression)
    return query


def action_names(database: Database) -> set[str]:
    """Return the name of every action that has a delivery."""
    return {
        name for (name,) in fetching.tuples(database, Delivery.select(Delivery.action).distinct())
    }


def attempts(
    database: Database, delivery_ids: Iterable[int], newest: int | None = None
) -> list[AttemptRow]:
    """Return the attempts of these deliveries, in the order in which each delivery had them; of
    each delivery only the `newest`, if that says how many."""
    query = (
        Attempt.select(*fetching.columns(Attempt, AttemptRow))
        .where(Attempt.delivery.in_(list(delivery_ids)))
        .order_by(Attempt.delivery, Attempt.number)
    )
    if newest is not None:
        query = query.join(Delivery).where(Attempt.number > Delivery.attempt_count - newest)
    return fetching.rows(database, query, AttemptRow)


def _no_event(number_or_key: str) -> NotFoundError:
    return NotFoundError(f"There is no event {number_or_key}. `premblyd events` lists them.")


def _has_name(number_or_key: str) -> Expression:
    """Return the condition that an event has this number or key."""
    if number_or_key.isdecimal() and len(number_or_key) < 19:
        return Event.id == int(number_or_key)
    return Event.key == number_or_key
