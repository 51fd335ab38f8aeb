"""Running queries on the record, and making rows of what they find."""

import dataclasses
import math
import re
from collections.abc import Iterable
from typing import Any, TypeVar

from peewee import OP, Context, Database, Expression, Field, ForeignKeyField, ModelSelect, Node

from premblyd.engines.connections import translated
from premblyd.errors import StoreUnreadableError
from premblyd.model.columns import ColumnType
from premblyd.model.tables import Table

RowType = TypeVar("RowType")


def equal(
    query: "ModelSelect[Any]", *conditions: tuple[Field, object | None]
) -> "ModelSelect[Any]":
    """Return `query` with each field that has a value narrowed to it."""
    for field, value in conditions:
        if value is not None:
            query = query.where(field == value)
    return query


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
    with translated(StoreUnreadableError):
        cursor = database.execute(query.bind(database))
        names = [column[0] for column in cursor.description]
        types = _types(row, names)
        return [
            row(**dict(zip(names, map(_readable, types, values), strict=True))) for values in cursor
        ]


def _types(row: Any, names: Iterable[str]) -> list[ColumnType | None]:
    """Return what the columns hold that a row of this class has."""
    fields = {field.name: field for field in dataclasses.fields(row)}
    return [
        ColumnType.TRUTH if fields[name].type is bool else fields[name].metadata.get("kind")
        for name in names
    ]


def _readable(type_: ColumnType | None, value: Any) -> Any:
    """Return a column's value as rows have it. Somebody may have put anything there by hand
    (Peewee's own conversion raises for it): it is shown, and the other rows can be read."""
    if type_ is ColumnType.BYTES:
        return value if isinstance(value, bytes) else str(value or "").encode()
    if type_ is ColumnType.TRUTH and value is not None:
        return bool(value)
    if isinstance(value, bytes):
        return str(value, "utf-8", "replace")
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def tuples(database: Database, query: "ModelSelect[Any]") -> list[tuple[Any, ...]]:
    """Return what `query` finds. Raise StoreUnreadableError when it can't be read."""
    with translated(StoreUnreadableError):
        return [tuple(row) for row in database.execute(query.bind(database))]


def plain_tuples(database: Database, query: "ModelSelect[Any]") -> list[tuple[Any, ...]]:
    """Return what `query` finds, with a text where somebody has put bytes in place of one. Raise
    StoreUnreadableError when it can't be read."""
    return _plain(tuples(database, query))


def by_sql(database: Database, sql: str, *values: Any) -> list[tuple[Any, ...]]:
    """Return what `sql` finds, as `plain_tuples` does: for what Peewee can't say."""
    with translated(StoreUnreadableError):
        return _plain(database.execute_sql(sql.replace("?", database.param), values))


def _plain(rows: Iterable[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    return [
        tuple(str(cell, "utf-8", "replace") if isinstance(cell, bytes) else cell for cell in row)
        for row in rows
    ]
