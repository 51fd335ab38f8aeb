"""Lists as people leaf through them: by rows and never by numbers of rows, the first part as fast
as the last, and every part within a bound of time, however rare what is looked for."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from peewee import Database, Expression, ModelSelect, fn

from premblyd.record import fetching
from premblyd.record.reading import all_deliveries
from premblyd.record.rows import DeliveryRow, EventRow, OperatorRow
from premblyd.store.models import Delivery, Event, OperatorAction, State, Table

LIMIT = 50
BUDGET_S = 0.05  # for looking through rows that no index picks
FIRST_STEP, MAX_STEP = 500, 8_000  # rows looked through by one statement
WHOLE = 1 << 62
Row = TypeVar("Row", bound=Any)
_COLUMNS = ("outcome", "kind", "endpoint", "reference", "user_ref")
_RARE = frozenset({"reference", "user_ref"})  # few rows have the same
_INDEXED = _RARE | {"outcome"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Which part of a list: the rows older than `before`, the rows newer than `after` (the nearest
    ones), or the newest."""

    before: int | None = None
    after: int | None = None


NEWEST = Place()
OLDEST = Place(after=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Part(Generic[Row]):
    """Rows of a list, the newest first, and where the parts beside it begin: None is an end.

    With `is_cut`, the search stopped for time before it had enough rows, and goes on there.
    """

    rows: list[Row]
    newer: int | None  # an `after`
    older: int | None  # a `before`
    is_cut: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class EventSearch:
    """Which events to show; None does not filter. Times in Unix milliseconds."""

    code: str | None = None  # or "missing"
    outcome: str | None = None
    type: str | None = None  # or a pattern, such as transaction.*
    kind: str | None = None
    endpoint: str | None = None
    reference: str | None = None
    user_ref: str | None = None
    since_ms: int | None = None
    until_ms: int | None = None
    text: str | None = None  # within detail


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliverySearch:
    """Which deliveries to show; None does not filter."""

    state: str | None = None
    action: str | None = None


def events(
    database: Database, search: EventSearch, place: Place = NEWEST, limit: int = LIMIT
) -> Part[EventRow]:
    """Return a part of the events."""
    chosen = {name: value for name in _COLUMNS if (value := getattr(search, name)) is not None}
    query = fetching.equal(
        Event.select(*fetching.columns(Event, EventRow)),
        *((getattr(Event, name), value) for name, value in chosen.items()),
    )
    if search.code == "missing":
        query = query.where(Event.response_code.is_null())
    elif search.code is not None:
        query = query.where(Event.response_code == search.code)
    is_pattern = search.type is not None and bool(set("*?") & set(search.type))
    if search.type is not None and is_pattern:
        query = query.where(fetching.matches(Event.type, search.type))
    elif search.type is not None:
        query = query.where(Event.type == search.type)
    if search.text is not None:
        query = query.where(Event.detail.contains(search.text))  # whatever the case
    low, high = _range(database, search)
    if search.since_ms is not None:
        query = query.where(Event.received_at_ms >= search.since_ms)
    if search.until_ms is not None:
        query = query.where(Event.received_at_ms < search.until_ms)
    others = [search.code is not None, search.type is not None]
    filters = len(chosen) + sum(others) + (search.text is not None)
    by_index = len(chosen.keys() & _INDEXED) + sum(others) - is_pattern
    is_by_index = filters == by_index == 1 or bool(chosen.keys() & _RARE)
    step = WHOLE if filters == 0 or is_by_index else FIRST_STEP
    return browse(
        database, query, Event, EventRow, place, limit=limit, low=low, high=high, step=step
    )


def _range(database: Database, search: EventSearch) -> tuple[int, int | None]:
    """Return the ids between which the events of the search's time are: None is the newest.

    Events are stored as they come, so ids and times have the same order, but around a moment when
    somebody set the clock back.
    """
    low, high = 1, None
    if search.since_ms is not None:
        first = _edge(database, Event.received_at_ms >= search.since_ms, Event.received_at_ms)
        low, high = (1, 0) if first is None else (first, None)
    if search.until_ms is not None and high is None:
        before = Event.received_at_ms < search.until_ms
        high = _edge(database, before, Event.received_at_ms.desc(), Event.id.desc()) or 0
    return low, high


def _edge(database: Database, condition: Expression, *order: Any) -> int | None:
    query = Event.select(Event.id).where(condition).order_by(*order).limit(1)
    found = fetching.tuples(database, query)
    return found[0][0] if found else None


def deliveries(
    database: Database, search: DeliverySearch, place: Place = NEWEST, limit: int = LIMIT
) -> Part[DeliveryRow]:
    """Return a part of the deliveries, each with what its event is about."""
    query = fetching.equal(
        all_deliveries(), (Delivery.state, search.state), (Delivery.action, search.action)
    )
    # The dead have an index with their actions; the others are found by state alone.
    is_by_index = search.action is None or search.state == State.DEAD
    step = WHOLE if is_by_index else FIRST_STEP
    return browse(database, query, Delivery, DeliveryRow, place, limit=limit, step=step)


def operator_actions(
    database: Database, place: Place = NEWEST, limit: int = LIMIT
) -> Part[OperatorRow]:
    """Return a part of what people did."""
    query = OperatorAction.select(*fetching.columns(OperatorAction, OperatorRow))
    return browse(database, query, OperatorAction, OperatorRow, place, limit=limit, step=WHOLE)


def browse(
    database: Database,
    query: "ModelSelect[Any]",
    table: type[Table],
    row: type[Row],
    place: Place,
    *,
    limit: int = LIMIT,
    low: int = 1,
    high: int | None = None,
    step: int = FIRST_STEP,
    clock: Callable[[], float] = time.monotonic,
) -> Part[Row]:
    """Return the part of `query` at `place`, of rows with ids from `low` to `high`.

    `step`: WHOLE where an index picks just these rows. Else it looks at a stretch of ids after the
    other, longer ones where few rows match, until it has `limit` rows or BUDGET_S is over: so a
    filter that nothing matches takes no longer.
    """
    if high is None:
        high = _last_id(database, table)
    is_upward = place.after is not None
    if is_upward:
        start, end = max(low, (place.after or 0) + 1), high
    else:
        start, end = low, high if place.before is None else min(high, place.before - 1)
    deadline = clock() + BUDGET_S
    found: list[Row] = []
    while start <= end and len(found) <= limit:
        if is_upward:
            stretch = (start, min(end, start + step - 1))
            order = table.id.asc()
            start = stretch[1] + 1
        else:
            stretch = (max(start, end - step + 1), end)
            order = table.id.desc()
            end = stretch[0] - 1
        part = query.where(table.id.between(*stretch)).order_by(order)
        found += fetching.rows(database, part.limit(limit + 1 - len(found)), row)
        step = step if step == WHOLE else min(MAX_STEP, 2 * step)
        if clock() > deadline:
            break
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


def _above(rows: list[Any], before: int | None) -> int | None:
    """Return after which row the newer part begins; None at the top of the list."""
    if before is None:
        return None
    return rows[0].id if rows else before - 1


def _below(rows: list[Any], start: int, low: int) -> int | None:
    """Return before which row the older part begins; None at the end of the list."""
    first = rows[-1].id if rows else start
    return first if start > low else None


def _last_id(database: Database, table: type[Table]) -> int:
    ((last,),) = fetching.tuples(database, table.select(fn.MAX(table.id)))
    return last or 0
