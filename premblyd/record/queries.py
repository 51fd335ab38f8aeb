"""Queries of the record, and their rows for people and programs. Times in Unix milliseconds.

A row has the columns of its table that people see where they look (`seen`, in store/columns.py), so
one of a list has no payload and no secret. `rows` runs a query and makes rows of what it finds.
"""

import dataclasses
import inspect
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, cast

from peewee import (
    OP,
    Context,
    Expression,
    Field,
    ForeignKeyField,
    Model,
    ModelSelect,
    Node,
    fn,
)

from premblyd.ground.errors import StoreUnreadableError
from premblyd.ground.privacy import Shape, mask
from premblyd.record.listing import AddedColumn
from premblyd.store.columns import PLAIN, Column, ColumnType, Seen, Table
from premblyd.store.columns import columns as columns_of
from premblyd.store.connections import translated
from premblyd.store.engine import Database

MOST_ROWS = 1000  # of one statement: while it reads, SQLite's log can't be emptied
FEW = 4_000  # rows of an index: a statement looks at all of them
RowType = TypeVar("RowType")
_Class = TypeVar("_Class", bound=type[Any])


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A row: a value for each column."""

    looked_up: ClassVar[tuple[AddedColumn, ...]] = ()

    if TYPE_CHECKING:  # which columns it has, the tables say

        def __init__(self, **columns: Any) -> None: ...
        def __getattr__(self, name: str) -> Any: ...

    def masked(self, plain: Collection[str] = ()) -> dict[str, Any]:
        """Return its columns as people see them who may not see personal data, those in `plain`
        as they are."""
        return {
            each.name: mask(
                getattr(self, each.name),
                Shape.PLAIN if each.name in plain else each.metadata.get("shown", Shape.PLAIN),
            )
            for each in dataclasses.fields(self)
        }


def row_of(
    table: type[Model],
    seen: Seen,
    also: tuple[Any, ...] = (),
    looked_up: tuple[AddedColumn, ...] = (),
) -> Callable[[_Class], _Class]:
    """Make a row of a class: it has the columns of `table` seen there, those in `also`, those that
    are `looked_up`, and its own, which are made for it alone and name nobody."""

    def make(cls: _Class) -> _Class:
        found: list[Any] = [_field(column) for column in (*columns_of(table, seen), *also)]
        found += [
            (each.name, Any, field(repr=each.shown is Shape.PLAIN, metadata={"shown": each.shown}))
            for each in looked_up
        ]
        found += inspect.get_annotations(cls).items()
        made: Any = dataclasses.make_dataclass(
            cls.__name__, found, bases=(Row,), frozen=True, slots=True, kw_only=True
        )
        made.__doc__, made.__module__ = cls.__doc__, cls.__module__
        made.looked_up = looked_up
        return cast("_Class", made)

    return make


def _field(column: Column) -> tuple[str, Any, Any]:
    about = {"kind": column.kind, "shown": column.shown}
    # What is private stands in no error's text, and in no log.
    return column.column_name, Any, field(repr=column.holds is PLAIN, metadata=about)


class By(Node):
    """A table as it is read by an index; None: by its ids. SQLite is told so and can't choose
    another. PostgreSQL chooses by itself: it keeps its statistics fresh."""

    def __init__(self, table: type[Table], index: str | None) -> None:
        self._table = table
        self._index = index

    def __sql__(self, ctx: Context) -> Any:
        ctx.sql(self._table)
        if not chooses_well(ctx.state):
            ctx.literal(f' INDEXED BY "{self._index}"' if self._index else " NOT INDEXED")
        return ctx


def chooses_well(engine: Any) -> bool:
    """Return whether the engine finds the best index by itself: all but SQLite."""
    return bool(engine.operations[OP.LIKE] != "GLOB")


class _Pattern(Node):
    """A pattern with `*` and `?`, as the engine's own word for it takes one: GLOB, or LIKE."""

    def __init__(self, pattern: str) -> None:
        self._pattern = pattern

    def __sql__(self, ctx: Context) -> Any:
        return ctx.value(self._spelt(ctx.state.operations[OP.LIKE]), converter=False)

    def _spelt(self, operator: str) -> str:
        if operator == "GLOB":
            return self._pattern.replace("[", "[[]")
        plain = re.sub(r"([\\%_])", r"\\\1", self._pattern)
        return plain.replace("*", "%").replace("?", "_")


def matches(column: Node, pattern: str) -> Expression:
    """Return the condition that a column is as `pattern` says, in which `*` stands for any text and
    `?` for a character."""
    return Expression(column, OP.LIKE, _Pattern(pattern))


def columns(table: type[Table], row: type[Any]) -> list[Any]:
    """Return the columns of `table` that a row has, named like its fields."""
    fields = {field.column_name: field for field in table._meta.sorted_fields}
    chosen = [fields[field.name] for field in dataclasses.fields(row) if field.name in fields]
    return [
        column.alias(column.column_name) if isinstance(column, ForeignKeyField) else column
        for column in chosen
    ]


def rows(database: Database, query: "ModelSelect[Any]", row: type[RowType]) -> list[RowType]:
    """Return what `query` finds, as rows. Raise StoreUnreadableError when it can't be read."""
    names, found = _found(database, query)
    # SQLite has 0 and 1.
    truths = [each.name for each in dataclasses.fields(cast("Any", row)) if _is_truth(each)]
    made = []
    for values in found:
        columns = dict(zip(names, values, strict=True))
        columns |= {name: bool(columns[name]) for name in truths if columns[name] is not None}
        made.append(columns)
    looked_up = getattr(row, "looked_up", ())
    for column in looked_up if made else ():
        of = "event_id" if "event_id" in names and not column.of_deliveries else "id"
        values = column.find(database, {columns[of] for columns in made})
        for columns in made:
            columns[column.name] = values.get(columns[of], column.otherwise)
    return [row(**columns) for columns in made]


def _is_truth(field: Any) -> bool:
    return field.type is bool or field.metadata.get("kind") is ColumnType.TRUTH


def whole(
    database: Database,
    query: "ModelSelect[Any]",
    number: Field,
    row: type[RowType],
    *,
    after_id: int = 0,
    limit: int | None = None,
) -> list[RowType]:
    """Return all that `query` finds, or `limit` rows, by their numbers that rise from `after_id`
    on: no statement reads more than MOST_ROWS."""
    found: list[Any] = []
    while limit is None or len(found) < limit:
        most = MOST_ROWS if limit is None else min(MOST_ROWS, limit - len(found))
        part = rows(database, query.where(number > after_id).order_by(number).limit(most), row)
        found += part
        if len(part) < most:
            break
        after_id = found[-1].id
    return found


def tuples(database: Database, query: "ModelSelect[Any]") -> list[tuple[Any, ...]]:
    """Return what `query` finds. Raise StoreUnreadableError when it can't be read."""
    return _found(database, query)[1]


def _found(
    database: Database, query: "ModelSelect[Any]"
) -> tuple[list[str], list[tuple[Any, ...]]]:
    """Return the names of what `query` finds, and its rows."""
    with translated(StoreUnreadableError):
        cursor = database.execute(query.bind(database))
        names = [column[0] for column in cursor.description]
        return names, [tuple(row) for row in cursor]


def by_sql(database: Database, sql: str, *values: Any) -> list[tuple[Any, ...]]:
    """Return what `sql` finds, as `tuples` does: for what Peewee can't say."""
    with translated(StoreUnreadableError):
        found = database.execute_sql(sql.replace("?", database.param), values)
        return [tuple(row) for row in found]


def value(database: Database, query: "ModelSelect[Any]") -> Any:
    """Return the first value that `query` finds; None: it finds nothing."""
    found = tuples(database, query.limit(1))
    return found[0][0] if found else None


def count(database: Database, ids: "ModelSelect[Any]", most: int) -> int:
    """Return how many rows `ids` finds, a query of their ids. No more than `most` are counted."""
    some = ids.limit(most).alias("some")
    return int(value(database, ids.model.select(fn.COUNT(some.c.id)).from_(some)))
