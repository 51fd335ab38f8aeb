"""Lists of the record, part by part as people leaf through them, or as long as they are."""

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from peewee import JOIN, Database, ModelSelect

from premblyd.model.tables import Delivery, Event, OperatorAction
from premblyd.record import choosing, contradictions, fetching, leafing
from premblyd.record.choosing import DeliveryFilter, EventFilter
from premblyd.record.leafing import LIMIT, NEWEST, By, Part, Place, Way
from premblyd.record.rows import OF_EVENT, DeliveryRow, EventRow, OperatorRow

Row = TypeVar("Row", bound=Any)


def events(
    database: Database, chosen: EventFilter, place: Place = NEWEST, limit: int = LIMIT
) -> Part[EventRow]:
    """Return a part of the events, without payload and secrets."""
    low, high = choosing.event_range(database, chosen)
    conditions = choosing.event_conditions(chosen)
    way = leafing.way(database, Event, conditions, low, high)
    query = all_events(way.index)
    for expression in [each.expression for each in conditions] + choosing.received(chosen):
        query = query.where(expression)
    return leafing.browse(
        database, query, Event, EventRow, place,
        way=way, limit=limit, low=low, high=high,
    )  # fmt: skip


def deliveries(
    database: Database, chosen: DeliveryFilter, place: Place = NEWEST, limit: int = LIMIT
) -> Part[DeliveryRow]:
    """Return a part of the deliveries, each with what its event is about."""
    low, high = choosing.delivery_range(database, chosen)
    conditions = choosing.delivery_conditions(chosen)
    way = leafing.way(database, Delivery, conditions, low, high)
    query = all_deliveries(way)
    for condition in conditions:
        query = query.where(condition.expression)
    return leafing.browse(
        database, query, Delivery, DeliveryRow, place,
        way=way, limit=limit, low=low, high=high,
    )  # fmt: skip


def operator_actions(
    database: Database, place: Place = NEWEST, limit: int = LIMIT
) -> Part[OperatorRow]:
    """Return a part of what people did."""
    query = OperatorAction.select(*fetching.columns(OperatorAction, OperatorRow))
    return leafing.browse(
        database, query, OperatorAction, OperatorRow, place, way=Way(), limit=limit
    )


def parts(
    read: Callable[[Place, int], Part[Row]], limit: int, before: int | None = None
) -> Iterator[list[Row]]:
    """Yield a list part by part, at most `limit` rows in all: each part is read by itself, so none
    keeps the database busy for long, however much is looked through."""
    place = Place(before=before)
    while True:
        part = read(place, limit)
        yield part.rows
        limit -= len(part.rows)
        if part.older is None or limit <= 0:
            return
        place = Place(before=part.older)


def all_events(index: str | None) -> "ModelSelect[Any]":
    """Return the query of all rows of the list of events."""
    columns = (*fetching.columns(Event, EventRow), contradictions.is_contradicted())
    return Event.select(*columns).from_(By(Event, index))


def all_deliveries(way: Way) -> "ModelSelect[Any]":
    """Return the query of all rows of the list of deliveries."""
    other = Delivery.alias("other")
    return (
        Delivery.select(
            *fetching.columns(Delivery, DeliveryRow),
            other.event.alias("ran_instead_event_id"),
            *OF_EVENT,
            contradictions.is_contradicted(Delivery.event),
        )
        .from_(By(Delivery, way.index))
        .join(Event, JOIN.LEFT_OUTER, on=Delivery.event == Event.id)  # it may have been deleted
        .join_from(Delivery, other, JOIN.LEFT_OUTER, on=Delivery.ran_instead == other.id)
    )
