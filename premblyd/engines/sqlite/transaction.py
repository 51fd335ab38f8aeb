"""Running the store's statements on SQLite: in few calls, because the sqlite3 module changes
threads at every statement and every row it fetches, and each change may wait for the loop."""

import functools
import json
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from typing import Any, TypeVar

from peewee import SQL, SqliteDatabase

from premblyd.engines.engine import Row, Transaction
from premblyd.engines.sqlite.failures import translated
from premblyd.model.statements import BulkInsert, Compiled, Lookup, Param, Statement, compile_query

# Rows in one INSERT. A few prepared statements serve every number of rows, and up to 16 rows, as
# most commits have, go in one: with powers of two alone, a commit of seven took an eighth more.
INSERT_SIZES = (64, 32, *range(16, 0, -1))
_SQLITE = SqliteDatabase(None)
Done = TypeVar("Done")


def transact(database: SqliteDatabase, work: Callable[[Transaction], Done]) -> Done:
    """Run `work` in a transaction on a command's own connection, while the daemon writes by its
    own. Raise StoreUnavailableError when nothing of it could be kept."""
    with translated(), database.atomic("IMMEDIATE"):
        return work(SqliteTransaction(database.connection()))


class SqliteTransaction:
    """See engines.engine.Transaction. Nobody else writes meanwhile, so there is nothing to lock."""

    part = 0

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection

    def rows(self, statement: Statement, **values: Any) -> list[Row]:
        return self._execute(compiled(statement), values).fetchall()

    def row(self, statement: Statement, **values: Any) -> Row | None:
        row: Row | None = self._execute(compiled(statement), values).fetchone()
        return row

    def look_up(self, lookup: Lookup, values: Sequence[str] | Sequence[int]) -> list[Row]:
        listed = {"values": json.dumps(list(values))}
        return self._execute(compiled_lookup(lookup), listed).fetchall()

    def change(self, statement: Statement, **values: Any) -> int:
        return self._execute(compiled(statement), values).rowcount

    def insert(self, statement: Statement, **values: Any) -> int | None:
        cursor = self._execute(compiled(statement), values)
        return cursor.lastrowid if cursor.rowcount else None

    def insert_many(self, inserting: BulkInsert, rows: Sequence[Row]) -> list[int]:
        ids: list[int] = []
        start = 0
        for size in INSERT_SIZES:
            while len(rows) - start >= size:
                part = rows[start : start + size]
                start += size
                text = compiled_inserts(inserting, size).text
                last_id = self.connection.execute(text, list(chain.from_iterable(part))).lastrowid
                last_id = last_id or 0
                # Consecutive, for nobody else inserts meanwhile.
                ids += range(last_id - size + 1, last_id + 1)
        return ids

    def lock(self, names: Iterable[str]) -> None:
        del names

    def try_lock(self, name: str) -> bool:
        del name
        return True

    def _execute(self, statement: Compiled, values: dict[str, Any]) -> sqlite3.Cursor:
        return self.connection.execute(statement.text, statement.bind(values))


@functools.cache
def compiled(statement: Statement) -> Compiled:
    """Return `statement` in SQLite's SQL."""
    return compile_query(statement.query, _SQLITE)


@functools.cache
def compiled_lookup(lookup: Lookup) -> Compiled:
    """Return one text for any number of values: an IN that lists them would be another for each."""
    values = SQL("(SELECT value FROM json_each(?))", [Param("values")])
    return compile_query(lookup.query.where(lookup.column.in_(values)), _SQLITE)


@functools.cache
def compiled_inserts(inserting: BulkInsert, count: int) -> Compiled:
    return compile_query(inserting.query(count), _SQLITE)
