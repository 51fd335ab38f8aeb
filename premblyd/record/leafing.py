"""Lists as they are read: by rows and never by numbers of rows, the first part as fast as the last,
and every part within a bound of time, however rare what is looked for.

Which index a list is read by is decided here, by a look at how many rows each has. An engine that
has no statistics, or those of another day, takes one at random: for two filters at a million events
that was 3 s or 2 ms.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from peewee import OP, Context, Database, Expression, ModelSelect, Node, fn

from premblyd.model.tables import Table
from premblyd.record import fetching

LIMIT = 50
BUDGET_S = 0.05  # for looking through rows that no index picks
FIRST_STEP, MAX_STEP = 500, 32_000  # ids that one statement looks through
QUICK_S, SLOW_S = 0.004, 0.016  # the next one looks through more, or through fewer
FEW = 4_000  # rows of an index: a statement looks at all of them
COUNTED = 20_000  # rows of an index: no more are counted, to find the one with fewest
Row = TypeVar("Row", bound=Any)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cursor:
    """Which part of a list: the rows older than `before`, the rows newer than `after` (the nearest
    ones), or the newest."""

    before: int | None = None
    after: int | None = None


NEWEST = Cursor()
OLDEST = Cursor(after=0)


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
class Condition:
    """What the rows of a list have in common, and the index that has just these rows, if one has.

    With `is_of_ids`, it names the rows by their ids: no index has fewer. With `is_in_range`, nearly
    all rows fulfil it that have the ids at which the list is looked at.
    """

    expression: Expression
    index: str | None = None
    is_of_ids: bool = False
    is_in_range: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """How a list is read: by `index` (None: by the ids), and at once or in stretches of ids."""

    index: str | None = None
    is_whole: bool = True
    by_ids: bool = False


class By(Node):
    """A table as it is read by an index; None: by its ids. SQLite is told so and can't choose
    another. PostgreSQL chooses by itself: it keeps its statistics fresh."""

    def __init__(self, table: type[Table], index: str | None) -> None:
        self._table = table
        self._index = index

    def __sql__(self, ctx: Context) -> Any:
        ctx.sql(self._table)
        if not _chooses_well(ctx.state):
            ctx.literal(f' INDEXED BY "{self._index}"' if self._index else " NOT INDEXED")
        return ctx


def _chooses_well(engine: Any) -> bool:
    """Return whether the engine finds the best index by itself: all but SQLite."""
    return bool(engine.operations[OP.LIKE] != "GLOB")


def way(
    database: Database,
    table: type[Table],
    conditions: Sequence[Condition],
    low: int = 1,
    high: int | None = None,
) -> Way:
    """Return how to read the rows of `table` that fulfil all conditions: by the index that has the
    fewest."""
    conditions = [condition for condition in conditions if not condition.is_in_range]
    if any(condition.is_of_ids for condition in conditions):
        return Way(by_ids=True)
    indexed = [condition for condition in conditions if condition.index]
    if not indexed:
        return Way(is_whole=not conditions)
    if len(conditions) == 1:
        return Way(index=indexed[0].index)
    counted = [_count(database, table, condition, low, high) for condition in indexed]
    least = min(counted)
    return Way(index=indexed[counted.index(least)].index, is_whole=least < FEW)


def _count(
    database: Database, table: type[Table], condition: Condition, low: int, high: int | None
) -> int:
    rows = (
        table.select(table.id)
        .from_(By(table, condition.index))
        .where(condition.expression, table.id.between(low, (1 << 62) if high is None else high))
        .limit(FEW if _chooses_well(database.get_sql_context().state) else COUNTED)
        .alias("some")
    )
    [(count,)] = fetching.tuples(database, table.select(fn.COUNT(rows.c.id)).from_(rows))
    return int(count)


def browse(
    database: Database,
    query: "ModelSelect[Any]",
    table: type[Table],
    row: type[Row],
    place: Cursor,
    *,
    way: Way,
    limit: int = LIMIT,
    low: int = 1,
    high: int | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Part[Row]:
    """Return the part of `query` at `place`, of rows with ids from `low` to `high`.

    Where its way is not whole, it looks at a stretch of ids after the other, longer ones where few
    rows match, until it has `limit` rows or BUDGET_S is over: so a filter that nothing matches
    takes no longer.
    """
    if high is None:
        high = _last_id(database, table)
    is_upward = place.after is not None
    if is_upward:
        start, end = max(low, (place.after or 0) + 1), high
    else:
        start, end = low, high if place.before is None else min(high, place.before - 1)
    number = table.id + 0 if way.by_ids else table.id  # so that the range is no index to choose
    step = 1 << 62 if way.is_whole else FIRST_STEP
    begun = clock()
    deadline = begun + BUDGET_S
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
        part = query.where(number.between(*stretch)).order_by(order)
        found += fetching.rows(database, part.limit(limit + 1 - len(found)), row)
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


def _last_id(database: Database, table: type[Table]) -> int:
    ((last,),) = fetching.tuples(database, table.select(fn.MAX(table.id)))
    return last or 0
