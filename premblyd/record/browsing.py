"""The lists of the record, part by part as people leaf through them, or as long as they are: one
builder for all that commands and the console list."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

from peewee import JOIN, Database, ModelSelect, Tuple, fn

from premblyd.model.tables import Awaited, Delivery, Event, OperatorAction, Rejection, Table
from premblyd.record import choosing, contradictions, fetching, handled, leafing
from premblyd.record.choosing import (
    AwaitedFilter,
    Chosen,
    DeliveryFilter,
    EventFilter,
    OperatorFilter,
    RejectionFilter,
)
from premblyd.record.leafing import LIMIT, NEWEST, By, Condition, Cursor, Part, Way
from premblyd.record.rows import (
    OF_EVENT,
    AwaitedRow,
    DeliveryRow,
    EventRow,
    OperatorRow,
    RejectionRow,
)

NO_LIMIT = 1 << 40
MOST_ROWS = 5000  # of one statement: while it reads, SQLite's log can't be emptied
Ids = tuple[int, int | None]


def part(
    database: Database, chosen: Chosen, place: Cursor = NEWEST, limit: int = LIMIT
) -> Part[Any]:
    """Return a part of a list, without payload and secrets: of events for an EventFilter, and so
    on."""
    if isinstance(chosen, RejectionFilter):
        return _rejections(database, chosen, place, limit)
    listed = _LISTS[type(chosen)]
    low, high = listed.ids(database, chosen)
    conditions = chosen.conditions(database)
    way = leafing.way(database, listed.table, conditions, low, high)
    query = _all_of(listed.query(way), conditions)
    return leafing.browse(
        database, query, listed.table, listed.row, place,
        way=way, limit=limit, low=low, high=high,
    )  # fmt: skip


def rows(
    database: Database, chosen: Chosen, limit: int | None = None, before: int | None = None
) -> list[Any]:
    """Return the rows of a list, the newest first: at most `limit`, older than the row `before`,
    however long it takes to look for them."""
    return list(chain.from_iterable(parts(database, chosen, limit, before)))


def parts(
    database: Database, chosen: Chosen, limit: int | None = None, before: int | None = None
) -> Iterator[list[Any]]:
    """Yield a list part by part, at most `limit` rows in all: each part is read by itself, so none
    keeps the database busy for long, however much is looked through or found."""
    left = NO_LIMIT if limit is None else limit
    while True:
        found = part(database, chosen, Cursor(before=before), min(left, MOST_ROWS))
        yield found.rows
        left -= len(found.rows)
        before = found.older
        if before is None or left <= 0:
            return


def events_after(
    database: Database, chosen: EventFilter, event_id: int, limit: int
) -> list[EventRow]:
    """Return the events that came after the one with this number, the oldest first."""
    query = _all_of(_events(Way()), chosen.conditions(database)).where(Event.id > event_id)
    return fetching.rows(database, query.order_by(Event.id).limit(limit), EventRow)


def events_of(database: Database, chosen: EventFilter, numbers: Sequence[int]) -> list[EventRow]:
    """Return the events that are `chosen`, of those with these numbers, the oldest first."""
    query = _all_of(_events(Way()), chosen.conditions(database)).where(Event.id.in_(numbers))
    return fetching.rows(database, query.order_by(Event.id), EventRow)


def _all_of(query: "ModelSelect[Any]", conditions: Sequence[Condition]) -> "ModelSelect[Any]":
    """Return the rows of `query` that fulfil all conditions."""
    for condition in conditions:
        query = query.where(condition.expression)
    return query


def _events(way: Way) -> "ModelSelect[Any]":
    """Return all events, each with how its deliveries stand."""
    return Event.select(
        *fetching.columns(Event, EventRow),
        contradictions.is_contradicted(),
        handled.column().alias("handled"),
        handled.count().alias("deliveries"),
    ).from_(By(Event, way.index))


def _deliveries(way: Way) -> "ModelSelect[Any]":
    """Return all deliveries, each with what its event is about."""
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


def _operators(way: Way) -> "ModelSelect[Any]":
    part = OperatorAction.alias("part")
    parts = part.select(fn.COUNT(part.id)).where(part.part_of_id == OperatorAction.id)
    columns = fetching.columns(OperatorAction, OperatorRow)
    return OperatorAction.select(*columns, parts.alias("parts")).from_(
        By(OperatorAction, way.index)
    )


def _plain(table: type[Table], row: type[Any]) -> Callable[[Way], "ModelSelect[Any]"]:
    return lambda way: table.select(*fetching.columns(table, row)).from_(By(table, way.index))


def _rejections(
    database: Database, chosen: RejectionFilter, place: Cursor, limit: int
) -> Part[RejectionRow]:
    """Return a part of the rejections. Only the newest are kept, and their ids come again: they are
    in the order of their times."""
    query = _all_of(_plain(Rejection, RejectionRow)(Way()), chosen.conditions(database))
    if place.before is not None:
        # Where that row is gone, so are all before it.
        last = Rejection.select(Rejection.at_ms, Rejection.id).where(Rejection.id == place.before)
        query = query.where(Tuple(Rejection.at_ms, Rejection.id) < last)
    query = query.order_by(Rejection.at_ms.desc(), Rejection.id.desc()).limit(limit + 1)
    found = fetching.rows(database, query, RejectionRow)
    older = found[limit - 1].id if len(found) > limit else None
    return Part(rows=found[:limit], newer=None, older=older)


@dataclass(frozen=True, slots=True, kw_only=True)
class _List:
    """A list by ids: its rows, and between which ids the chosen ones are."""

    table: type[Table]
    row: type[Any]
    query: Callable[[Way], "ModelSelect[Any]"]
    ids: Callable[[Database, Any], Ids] = lambda database, chosen: (1, None)


_LISTS: dict[type[Chosen], _List] = {
    EventFilter: _List(table=Event, row=EventRow, query=_events, ids=choosing.event_range),
    DeliveryFilter: _List(
        table=Delivery, row=DeliveryRow, query=_deliveries, ids=choosing.delivery_range
    ),
    AwaitedFilter: _List(table=Awaited, row=AwaitedRow, query=_plain(Awaited, AwaitedRow)),
    OperatorFilter: _List(
        table=OperatorAction,
        row=OperatorRow,
        query=_operators,
        ids=choosing.operator_range,
    ),
}
