"""Reading the record. Lists begin with the newest row, and go on before the row with a given id."""

import dataclasses
import functools
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

from peewee import (
    Database,
    Expression,
    ModelSelect,
    Tuple,
    fn,
)

from premblyd.errors import NotFoundError
from premblyd.model.states import State
from premblyd.model.tables import Attempt, Delivery, Event, Rejection, Table
from premblyd.prembly import events as events_of_prembly
from premblyd.prembly.webhook import StoredEvent
from premblyd.queue.damage import usable_event
from premblyd.queue.queue_statements import EVENT_COLUMNS
from premblyd.record import browsing, choosing, contradictions, fetching
from premblyd.record.choosing import DeliveryFilter, EventFilter, RejectionFilter
from premblyd.record.leafing import Part, Place, Row
from premblyd.record.rows import (
    AttemptRow,
    DeliveryRow,
    EventRow,
    FoundDelivery,
    FoundEvent,
    RejectionRow,
    WholeEvent,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Which part of a list: at most `limit` rows (None: all), older than the row `before_id`.

    A page begins at a row and not at a number of rows, so one that is added meanwhile shifts
    nothing, and the last page costs no more than the first.
    """

    limit: int | None = None
    before_id: int | None = None


ALL = Page()
NO_LIMIT = 1 << 40


def events(database: Database, chosen: EventFilter, page: Page = ALL) -> list[EventRow]:
    """Return events, the newest first, without payload and secrets."""
    return _whole(functools.partial(browsing.events, database, chosen), page)


def events_after(
    database: Database, chosen: EventFilter, event_id: int, limit: int
) -> list[EventRow]:
    """Return the events that came after the one with this number, the oldest first."""
    query = _chosen_events(chosen).where(Event.id > event_id).order_by(Event.id).limit(limit)
    return fetching.rows(database, query, EventRow)


def event_ids(database: Database, numbers: Collection[int]) -> set[int]:
    """Return those of `numbers` that events have."""
    query = Event.select(Event.id).where(Event.id.in_(list(numbers)))
    return {number for (number,) in fetching.tuples(database, query)}


def events_of(database: Database, chosen: EventFilter, numbers: Collection[int]) -> list[EventRow]:
    """Return the events that are `chosen`, of those with these numbers, the oldest first."""
    query = _chosen_events(chosen).where(Event.id.in_(list(numbers))).order_by(Event.id)
    return fetching.rows(database, query, EventRow)


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
        raise NotFoundError(f"There is no delivery {delivery_id}.")
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


def deliveries(database: Database, chosen: DeliveryFilter, page: Page = ALL) -> list[DeliveryRow]:
    """Return deliveries, the newest first."""
    return _whole(functools.partial(browsing.deliveries, database, chosen), page)


def _whole(read: Callable[[Place, int], Part[Row]], page: Page) -> list[Row]:
    """Return the rows of a page, however long it takes to look for them."""
    limit = NO_LIMIT if page.limit is None else page.limit
    return list(chain.from_iterable(browsing.parts(read, limit, page.before_id)))


def find_deliveries(database: Database, chosen: DeliveryFilter) -> list[FoundDelivery]:
    """Return the deliveries that a command is about, oldest first."""
    query = (
        _found_deliveries()
        .where(Delivery.state.in_(list(State)))  # somebody may have put another word there
        .order_by(Delivery.id)
    )
    if chosen.since_ms is not None or chosen.type is not None:
        query = query.join(Event)
    found = fetching.rows(database, _chosen_deliveries(query, chosen), FoundDelivery)
    return [dataclasses.replace(delivery, state=State(delivery.state)) for delivery in found]


def find_dead(
    database: Database,
    *,
    action: str | None,
    delivery_ids: Sequence[int] | None,
    after_id: int,
    limit: int,
) -> list[FoundDelivery]:
    """Return dead deliveries with higher numbers than `after_id`, the lowest first: of an action,
    or of these numbers; None does not filter."""
    query = (
        _found_deliveries()
        .where(Delivery.state == State.DEAD, Delivery.id > after_id)
        .order_by(Delivery.id)
        .limit(limit)
    )
    query = fetching.equal(query, (Delivery.action, action))
    if delivery_ids is not None:
        query = query.where(Delivery.id.in_(list(delivery_ids)))
    found = fetching.rows(database, query, FoundDelivery)
    return [dataclasses.replace(delivery, state=State.DEAD) for delivery in found]


def _found_deliveries() -> "ModelSelect[Any]":
    columns = fetching.columns(Delivery, FoundDelivery)
    return Delivery.select(*columns, contradictions.is_contradicted(Delivery.event))


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


def rejections(database: Database, chosen: RejectionFilter, page: Page = ALL) -> list[RejectionRow]:
    """Return rejections, the newest first."""
    query = fetching.equal(
        Rejection.select(*fetching.columns(Rejection, RejectionRow)),
        (Rejection.reason, chosen.reason),
        (Rejection.remote_ip, chosen.remote_ip),
    )
    if chosen.since_ms is not None:
        query = query.where(Rejection.at_ms >= chosen.since_ms)
    if page.before_id is not None:
        # Where that row is gone, so are all before it: only the newest are kept.
        last = Rejection.select(Rejection.at_ms, Rejection.id).where(Rejection.id == page.before_id)
        query = query.where(Tuple(Rejection.at_ms, Rejection.id) < last)
    query = query.order_by(Rejection.at_ms.desc(), Rejection.id.desc()).limit(page.limit)
    return fetching.rows(database, query, RejectionRow)


def _chosen_events(chosen: EventFilter) -> "ModelSelect[Any]":
    query = browsing.all_events(None)
    conditions = [each.expression for each in choosing.event_conditions(chosen)]
    for expression in conditions + choosing.received(chosen):
        query = query.where(expression)
    return query


def _no_event(number_or_key: str) -> NotFoundError:
    return NotFoundError(f"There is no event {number_or_key}. `premblyd events` lists them.")


def _has_name(number_or_key: str) -> Expression:
    """Return the condition that an event has this number or key."""
    if number_or_key.isdecimal() and len(number_or_key) < 19:
        return Event.id == int(number_or_key)
    return Event.key == number_or_key


def _chosen_deliveries(query: "ModelSelect[Any]", chosen: DeliveryFilter) -> "ModelSelect[Any]":
    query = fetching.equal(query, (Delivery.id, chosen.delivery_id))
    for condition in choosing.delivery_conditions(chosen):
        query = query.where(condition.expression)
    return query


def newest_first(query: "ModelSelect[Any]", table: type[Table], page: Page) -> "ModelSelect[Any]":
    """Return the query for a page of a list."""
    if page.before_id is not None:
        query = query.where(table.id < page.before_id)
    return query.order_by(table.id.desc()).limit(page.limit)
