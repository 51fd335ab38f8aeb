"""SQL built once by Peewee and run often: values are bound by name, nothing is rebuilt a call."""

import sqlite3
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any

from peewee import SQL, Expression, Field, Query, SqliteDatabase

from premblyd.store.models import Table

Row = tuple[Any, ...]


def param(name: str) -> SQL:
    """A value that is bound by name when the statement runs."""
    return SQL(f":{name}")


def statement(query: Query) -> str:
    """Return the SQL text of `query`, to be built once and run often with its `param` values."""
    sql, constants = query.bind(_dialect).sql()
    if constants:
        raise ValueError(f"not a param: {constants}")
    return str(sql)


def insert(model: type[Table], *columns: str) -> str:
    """Return the statement that inserts a row of `model` with params named like its columns."""
    return statement(model.insert(_params(model, columns)))


def update(model: type[Table], *columns: str, where: Expression) -> str:
    """Return the statement that sets `columns` of the rows of `model` that match `where`."""
    return statement(model.update(_params(model, columns)).where(where))


def _params(model: type[Table], columns: tuple[str, ...]) -> dict[Field, SQL]:
    fields = {field.column_name: field for field in model._meta.sorted_fields}
    return {fields[column]: param(column) for column in columns}


class BulkInsert:
    """Inserts many rows by few statements: the sqlite3 module changes threads at every statement
    and every row it fetches, and each change may wait for the loop.

    The sizes are powers of two, so that a handful of prepared statements serves every number.
    """

    SIZES = (64, 32, 16, 8, 4, 2, 1)

    def __init__(self, model: type[Table], *columns: str) -> None:
        names = ", ".join(f'"{model._meta.columns[column].column_name}"' for column in columns)
        head = f'INSERT INTO "{model._meta.table_name}" ({names})'
        row = f"({', '.join('?' * len(columns))})"
        self._statements = {size: f"{head} VALUES {', '.join([row] * size)}" for size in self.SIZES}

    def run(
        self, connection: sqlite3.Connection, rows: Sequence[Row]
    ) -> Iterator[tuple[Sequence[Row], int]]:
        """Insert `rows`, each with a value for every column. Yield each part with its last row's
        id: the ids of a part are consecutive, for nobody else inserts meanwhile."""
        start = 0
        for size, sql in self._statements.items():
            while len(rows) - start >= size:
                part = rows[start : start + size]
                start += size
                cursor = connection.execute(sql, list(chain.from_iterable(part)))
                yield part, cursor.lastrowid or 0


_dialect = SqliteDatabase(None)
