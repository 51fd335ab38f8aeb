"""Transactions on SQLite: the statements of the record in its SQL, and how many rows go in one."""

import functools
import json
from collections.abc import Callable, Collection, Iterable, Sequence
from itertools import chain
from typing import Any

from peewee import SQL, SqliteDatabase

from premblyd.store.engine import (
    BulkInsert,
    BulkUpdate,
    Compiled,
    Lookup,
    Param,
    Row,
    Statement,
    Transaction,
    compile_query,
)

_SQLITE = SqliteDatabase(None)


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


@functools.cache
def compiled_updates(changing: BulkUpdate, count: int) -> Compiled:
    row = f"({', '.join('?' * len(changing.columns))})"
    names = ", ".join(f"column{at} AS {name}" for at, name in enumerate(changing.columns, 1))
    values = f"VALUES {', '.join([row] * count)}"
    given = SQL(f"(SELECT {names} FROM ({values})) AS given", [_ROWS])
    return compile_query(changing.query_from(given), _SQLITE)


_ROWS = Param("rows")  # the values of all rows
_MAX_CHANGES = 64  # rows in one UPDATE


class SqliteTransaction(Transaction):
    """See engine.Transaction. Nobody else writes meanwhile, so there is nothing to lock.

    Statements run in few calls, because the sqlite3 module changes threads at every statement and
    every row it fetches, and each change may wait for the loop.
    """

    # Up to 16 rows, as most commits have, go in one: with powers of two alone, a commit of seven
    # took an eighth more.
    insert_sizes = (64, 32, *range(16, 0, -1))
    compiled = staticmethod(compiled)
    compiled_lookup = staticmethod(compiled_lookup)
    compiled_inserts = staticmethod(compiled_inserts)

    @staticmethod
    def as_param(values: Sequence[str] | Sequence[int]) -> str:
        return json.dumps(list(values))

    def insert(self, statement: Statement, **values: Any) -> int | None:
        cursor = self._execute(compiled(statement), values)
        return cursor.lastrowid if cursor.rowcount else None

    def changing_many(
        self, changing: BulkUpdate, rows: Sequence[Row]
    ) -> Callable[[], Collection[Any]]:
        changed: list[Row] = []
        for start in range(0, len(rows), _MAX_CHANGES):
            part = rows[start : start + _MAX_CHANGES]
            if self._change_rows(changing, part) == len(part):
                changed += part
            else:  # RETURNING would change threads at every row, as reading does
                changed += [row for row in part if self._change_rows(changing, [row])]
        keys = {row[changing.key_place] for row in changed}
        return lambda: keys

    def _change_rows(self, changing: BulkUpdate, rows: Sequence[Row]) -> int:
        # A few prepared statements serve every number of rows: twice the last is as once.
        count = 1 << (len(rows) - 1).bit_length()
        compiled = compiled_updates(changing, count)
        values = [*chain.from_iterable(rows), *(count - len(rows)) * rows[-1]]
        at = compiled.parts.index(_ROWS)
        values = [*compiled.parts[:at], *values, *compiled.parts[at + 1 :]]
        return int(self.connection.execute(compiled.text, values).rowcount)

    def _ids(self, inserting: BulkInsert, rows: Sequence[Row], cursor: Any) -> Iterable[int]:
        # Consecutive, for nobody else inserts meanwhile.
        return range(cursor.lastrowid - len(rows) + 1, cursor.lastrowid + 1)
