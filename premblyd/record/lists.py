"""The lists of the record, page by page or complete: one builder for all lists of commands and
console. Begin with `part`.

Lists are read by rows and never by numbers of rows, the first part as fast as the last, and every
part within a bound of time, however rare what is looked for. Which index a list is read by is
decided here, by a look at how many rows each has. An engine that has no statistics, or those of
another day, takes one at random: for two filters at a million events that was 3 s or 2 ms.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from peewee import JOIN, Expression, Field, ModelSelect, Tuple, fn

from premblyd.feature import added
from premblyd.ground.times import HOUR_MS
from premblyd.record import filters, queries
from premblyd.record.filters import (
    DeliveryFilter,
    EventFilter,
    OperatorFilter,
    RejectionFilter,
)
from premblyd.record.listing import AddedColumn, Chosen, Condition, Ids, Listed
from premblyd.record.queries import FEW, MOST_ROWS, By, Row, row_of
from premblyd.store.columns import PLAIN, Number, Seen, Table
from premblyd.store.engine import Database
from premblyd.store.tables import Delivery, Event, OperatorAction, Rejection

LIMIT = 50
BUDGET_S = 0.05  # for looking through rows that no index picks
FIRST_STEP, MAX_STEP = 500, 32_000  # ids that one statement looks through
QUICK_S, SLOW_S = 0.004, 0.016  # the next one looks through more, or through fewer
COUNTED = 20_000  # rows of an index: no more are counted, to find the one with fewest
_LOOKED_UP: tuple[AddedColumn, ...] = tuple(added("listing", "COLUMNS"))
_INSTEAD = tuple(added("listing", "INSTEAD"))  # columns, and what makes words of a row


@row_of(Event, Seen.LISTS, looked_up=tuple(each for each in _LOOKED_UP if not each.of_deliveries))
class EventRow(Row):
    """An event in a list."""

    handled: str  # how the delivery stands that stands worst; none: no action was for it
    deliveries: int


_EVENT_OF_OTHER = Number(PLAIN, column_name="ran_instead_event_id")
_OF_EVENT = (Event.type, Event.response_code, Event.outcome, Event.reference)


@row_of(Delivery, Seen.LISTS, (*_OF_EVENT, _EVENT_OF_OTHER), _LOOKED_UP)
class DeliveryRow(Row):
    """A delivery, and what its event is about; that may have been deleted by hand."""


@row_of(Rejection, Seen.LISTS)
class RejectionRow(Row):
    """A request that was refused."""


@row_of(OperatorAction, Seen.LISTS)
class OperatorRow(Row):
    """What somebody did; for a replay of many, with how many deliveries that queued."""

    parts: int


def instead(row: Row, column: str) -> str | None:
    """Return what people read in place of a column's value, by what features know; None: it."""
    found = (words(row) for name, words in _INSTEAD if name == column)
    return next(filter(None, found), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cursor:
    """Which part of a list: the rows older than `before`, the rows newer than `after` (the nearest
    ones), or the newest."""

    before: int | None = None
    after: int | None = None


NEWEST = Cursor()
OLDEST = Cursor(after=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Rows of a list, the newest first, and where the parts beside it begin: None is an end.

    With `is_cut`, the search stopped for time before it had enough rows, and goes on there.
    """

    rows: list[Any]
    newer: int | None  # an `after`
    older: int | None  # a `before`
    is_cut: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadPlan:
    """How a list is read: by `index` (None: by the ids), and at once or in stretches of ids.

    Few rows are sorted once they are found: an engine that chooses takes them to be everywhere, and
    would look for the first of them through all, though they may be at the other end."""

    index: str | None = None
    is_whole: bool = True
    by_ids: bool = False
    is_sorted: bool = False


def part(database: Database, chosen: Chosen, place: Cursor = NEWEST, limit: int = LIMIT) -> Part:
    """Return a part of a list, without payload and secrets: of events for an EventFilter, and so
    on."""
    if isinstance(chosen, RejectionFilter):
        return _rejections(database, chosen, place, limit)
    listed = _LISTS[type(chosen)]
    low, high = listed.ids(database, chosen)
    conditions = chosen.conditions(database)
    way = _way(database, listed.table, conditions, low, high)
    rows_of = listed.query or _plain(listed.table, listed.row)
    query = _all_of(rows_of(way), conditions)
    return browse(database, query, listed.row, place, way=way, limit=limit, low=low, high=high)


def rows(
    database: Database, chosen: Chosen, limit: int | None = None, before: int | None = None
) -> list[Any]:
    """Return the rows of a list, the newest first: at most `limit`, older than the row `before`,
    however long it takes to look for them. Each part is read by itself, so none keeps the database
    busy for long, however much is looked through or found."""
    found: list[Any] = []
    while limit is None or len(found) < limit:
        left = MOST_ROWS if limit is None else limit - len(found)
        next_part = part(database, chosen, Cursor(before=before), min(left, MOST_ROWS - 1))
        found += next_part.rows
        before = next_part.older
        if before is None:
            break
    return found


def _all_of(query: "ModelSelect[Any]", conditions: Sequence[Condition]) -> "ModelSelect[Any]":
    """Return the rows of `query` that fulfil all conditions."""
    for condition in conditions:
        query = query.where(condition.expression)
    return query


def _events(way: ReadPlan) -> "ModelSelect[Any]":
    """Return all events, each with how its deliveries stand."""
    return Event.select(
        *queries.columns(Event, EventRow),
        filters.handled().alias("handled"),
        filters.deliveries().alias("deliveries"),
    ).from_(By(Event, way.index))


def _deliveries(way: ReadPlan) -> "ModelSelect[Any]":
    """Return all deliveries, each with what its event is about."""
    other = Delivery.alias("other")
    return (
        Delivery.select(
            *queries.columns(Delivery, DeliveryRow),
            other.event.alias("ran_instead_event_id"),
            *_OF_EVENT,
        )
        .from_(By(Delivery, way.index))
        .join(Event, JOIN.LEFT_OUTER, on=Delivery.event == Event.id)  # it may have been deleted
        .join_from(Delivery, other, JOIN.LEFT_OUTER, on=Delivery.ran_instead == other.id)
    )


def _operators(way: ReadPlan) -> "ModelSelect[Any]":
    part = OperatorAction.alias("part")
    parts = part.select(fn.COUNT(part.id)).where(part.part_of_id == OperatorAction.id)
    columns = queries.columns(OperatorAction, OperatorRow)
    return OperatorAction.select(*columns, parts.alias("parts")).from_(
        By(OperatorAction, way.index)
    )


def _plain(table: type[Table], row: type[Any]) -> Callable[[ReadPlan], "ModelSelect[Any]"]:
    return lambda way: table.select(*queries.columns(table, row)).from_(By(table, way.index))


def _rejections(database: Database, chosen: RejectionFilter, place: Cursor, limit: int) -> Part:
    """Return a part of the rejections. Only the newest are kept, and their ids come again: they are
    in the order of their times."""
    query = _all_of(_plain(Rejection, RejectionRow)(ReadPlan()), chosen.conditions(database))
    if place.before is not None:
        # Where that row is gone, so are all before it.
        last = Rejection.select(Rejection.at_ms, Rejection.id).where(Rejection.id == place.before)
        query = query.where(Tuple(Rejection.at_ms, Rejection.id) < last)
    query = query.order_by(Rejection.at_ms.desc(), Rejection.id.desc()).limit(limit + 1)
    found = queries.rows(database, query, RejectionRow)
    older = found[limit - 1].id if len(found) > limit else None
    return Part(rows=found[:limit], newer=None, older=older)


def _way(
    database: Database,
    table: type[Table],
    conditions: Sequence[Condition],
    low: int,
    high: int | None,
) -> ReadPlan:
    """Return how to read the rows of `table` that fulfil all conditions: by the index that has the
    fewest."""
    conditions = [condition for condition in conditions if not condition.is_in_range]
    if any(condition.is_of_ids for condition in conditions):
        return ReadPlan(by_ids=True)
    indexed = [condition for condition in conditions if condition.index]
    if not indexed:
        return ReadPlan(is_whole=not conditions)
    chooses = queries.chooses_well(database.get_sql_context().state)
    if len(conditions) == 1 and not chooses:
        return ReadPlan(index=indexed[0].index)
    counted = [_count(database, table, condition, low, high) for condition in indexed]
    least = min(counted)
    is_whole = least < FEW
    index = indexed[counted.index(least)].index
    return ReadPlan(index=index, is_whole=is_whole, is_sorted=is_whole and chooses)


def _count(
    database: Database, table: type[Table], condition: Condition, low: int, high: int | None
) -> int:
    ids = table.select(table.id).from_(By(table, condition.index))
    in_range = table.id.between(low, (1 << 62) if high is None else high)
    most = FEW if queries.chooses_well(database.get_sql_context().state) else COUNTED
    return queries.count(database, ids.where(condition.expression, in_range), most)


def browse(
    database: Database,
    query: "ModelSelect[Any]",
    row: type[Any],
    place: Cursor,
    *,
    way: ReadPlan,
    limit: int = LIMIT,
    low: int = 1,
    high: int | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Part:
    """Return the part of `query` at `place`, of rows with ids from `low` to `high`.

    Where its way is not whole, it looks at a stretch of ids after the other, longer ones where few
    rows match, until it has `limit` rows or BUDGET_S is over: so a filter that nothing matches
    takes no longer.
    """
    table = query.model
    if high is None:
        high = queries.value(database, table.select(fn.MAX(table.id))) or 0
    is_upward = place.after is not None
    if is_upward:
        start, end = max(low, (place.after or 0) + 1), high
    else:
        start, end = low, high if place.before is None else min(high, place.before - 1)
    # The sum is no index to choose.
    number = table.id + 0 if way.by_ids or way.is_sorted else table.id
    place_of = table.id + 0 if way.is_sorted else table.id
    step = 1 << 62 if way.is_whole else FIRST_STEP
    begun = clock()
    deadline = begun + BUDGET_S
    found: list[Any] = []
    while start <= end and len(found) <= limit:
        if is_upward:
            stretch = (start, min(end, start + step - 1))
            order = place_of.asc()
            start = stretch[1] + 1
        else:
            stretch = (max(start, end - step + 1), end)
            order = place_of.desc()
            end = stretch[0] - 1
        part = query.where(number.between(*stretch)).order_by(order)
        found += queries.rows(database, part.limit(limit + 1 - len(found)), row)
        now = clock()
        if now > deadline:
            break
        step = _next_step(step, now - begun)
        begun = now
    more = len(found) > limit
    is_cut = not more and start <= end
    rows = found[:limit]
    if is_upward:
        rows.reverse()
        newer = rows[0].id if more else start - 1 if is_cut else None
        older = _below(rows, (place.after or 0) + 1, low)
    else:
        older = rows[-1].id if more else end + 1 if is_cut else None
        newer = _above(rows, place.before)
    return Part(rows=rows, newer=newer, older=older, is_cut=is_cut)


def _next_step(step: int, took_s: float) -> int:
    if took_s < QUICK_S:
        return min(MAX_STEP, 2 * step)
    return max(FIRST_STEP, step // 2) if took_s > SLOW_S else step


def _above(rows: list[Any], before: int | None) -> int | None:
    """Return after which row the newer part begins; None at the top of the list."""
    if before is None:
        return None
    return rows[0].id if rows else before - 1


def _below(rows: list[Any], start: int, low: int) -> int | None:
    """Return before which row the older part begins; None at the end of the list."""
    first = rows[-1].id if rows else start
    return first if start > low else None


def _event_range(database: Database, chosen: EventFilter) -> Ids:
    """Return the ids between which the events of the chosen time are: None is the newest.

    Events are stored as they come, so ids and times have the same order, but around a moment when
    somebody set the clock back.
    """
    low, high = 1, None
    if chosen.since_ms is not None:
        first = _edge(database, Event.received_at_ms >= chosen.since_ms, Event.received_at_ms)
        low, high = (1, 0) if first is None else (first, None)
    if chosen.until_ms is not None and high is None:
        before = Event.received_at_ms < chosen.until_ms
        high = _edge(database, before, Event.received_at_ms.desc(), Event.id.desc()) or 0
    return low, high


def _edge(database: Database, condition: Expression, *order: Any) -> int | None:
    query = Event.select(Event.id).from_(By(Event, "event_received")).where(condition)
    found: int | None = queries.value(database, query.order_by(*order))
    return found


def _delivery_range(database: Database, chosen: DeliveryFilter) -> Ids:
    """Return the ids between which the chosen deliveries are: None is the newest.

    What is of a later event was made later; other hosts' clocks may be an hour off.
    """
    if chosen.delivery_id is not None:
        return chosen.delivery_id, chosen.delivery_id
    return _since(database, Delivery.created_at_ms, chosen.since_ms)


def _since(database: Database, at_ms: Field, since_ms: int | None) -> Ids:
    low = 1 if since_ms is None else first_since(database, at_ms.model, at_ms, since_ms - HOUR_MS)
    return low, None


def first_since(database: Database, table: type[Table], at_ms: Field, since_ms: int) -> int:
    """Return the id of the first row since a time, of a table whose rows have ids and times in the
    same order: by halves, a seek for each."""
    low, high = 1, (queries.value(database, table.select(fn.MAX(table.id))) or 0) + 1
    while low < high:
        middle = (low + high) // 2
        row = (
            table.select(table.id, at_ms)
            .from_(By(table, None))
            .where(table.id >= middle)
            .order_by(table.id)
        )
        found = queries.tuples(database, row.limit(1))  # none: the last was removed meanwhile
        if found and found[0][1] < since_ms:
            low = found[0][0] + 1
        else:
            high = middle
    return low


_LISTS: dict[type[Chosen], Listed] = {
    each.chosen: each
    for each in (
        Listed(chosen=EventFilter, table=Event, row=EventRow, query=_events, ids=_event_range),
        Listed(
            chosen=DeliveryFilter,
            table=Delivery,
            row=DeliveryRow,
            query=_deliveries,
            ids=_delivery_range,
        ),
        Listed(
            chosen=OperatorFilter,
            table=OperatorAction,
            row=OperatorRow,
            query=_operators,
            ids=lambda database, chosen: _since(database, OperatorAction.at_ms, chosen.since_ms),
        ),
        *added("listing", "LISTS"),
    )
}
