"""What the store says to its database: Peewee queries, built once, run often, for any engine."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from peewee import Database, Expression, Field, Query, Value

from premblyd.model.tables import Table


@dataclass(frozen=True, slots=True)
class Param:
    """A value that a statement gets by its name when it runs."""

    name: str


def param(name: str) -> Value:
    """Return what stands in a query for the value that the statement gets as `name`."""
    return Value(Param(name), converter=False)


class Statement:
    """A query with its params.

    With `locks`, the rows it finds can't be changed by other transactions until this one ends, and
    rows that another one has are left out of what it finds.
    """

    def __init__(self, query: Query, *, locks: bool = False) -> None:
        self.query = query
        self.locks = locks


class Lookup:
    """A query for the rows whose `column` has one of the values that it gets."""

    def __init__(self, query: Query, column: Field) -> None:
        self.query = query
        self.column = column


class BulkInsert:
    """Inserts rows of `model`, each with a value for every one of `columns`. Of the column `unique`
    another host may store the same value at the same time: such a row is left out."""

    def __init__(self, model: type[Table], *columns: str, unique: str | None = None) -> None:
        self.model = model
        self.unique = unique
        self.columns = columns
        self._fields = [model._meta.columns[column] for column in columns]

    def query(self, count: int) -> Query:
        """Return the query that inserts `count` rows at once."""
        row = [param(field.column_name) for field in self._fields]
        return self.model.insert_many([row] * count, fields=self._fields)


def insert(model: type[Table], *columns: str, if_unique: bool = False) -> Statement:
    """Return the statement that inserts a row of `model` with params named like its columns; with
    `if_unique`, only if no other row has what must be unique."""
    query = model.insert(_params(model, columns))
    return Statement(query.on_conflict_ignore() if if_unique else query)


def update(model: type[Table], *columns: str, where: Expression) -> Statement:
    """Return the statement that sets `columns` of the rows of `model` that match `where`."""
    return Statement(model.update(_params(model, columns)).where(where))


def _params(model: type[Table], columns: tuple[str, ...]) -> dict[Field, Value]:
    return {model._meta.columns[column]: param(column) for column in columns}


@dataclass(frozen=True, slots=True)
class Compiled:
    """The text of a query for one engine, and in which order it takes its values."""

    text: str
    parts: tuple[Any, ...]  # params and constants

    def bind(self, values: Mapping[str, Any]) -> list[Any]:
        """Return the values as the text takes them."""
        return [values[part.name] if type(part) is Param else part for part in self.parts]


def compile_query(query: Query, engine: Database) -> Compiled:
    """Return `query` in the SQL of `engine`, which need not be connected."""
    text, parts = engine.get_sql_context().parse(query)
    return Compiled(text, tuple(parts))
