"""Moving the record of a stopped daemon from its SQLite file to a PostgreSQL server, and proving
that it came over whole. All of it is one transaction of the server, so a move that was killed has
moved nothing.
"""

import contextlib
import hashlib
import sqlite3
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, LiteralString

from peewee import Model
from psycopg import Copy, sql

from premblyd.features.postgresql.engine import require_usable_server
from premblyd.features.postgresql.opening import connect, translated
from premblyd.features.postgresql.schema import alone, statements
from premblyd.features.postgresql.settings import Server
from premblyd.features.postgresql.transaction import Connection
from premblyd.ground.databases import DatabaseAddress, file_of, key_of
from premblyd.ground.errors import PremblydError, StoreUnreadableError, TryAgainError
from premblyd.store import schema
from premblyd.store.columns import ColumnType, columns
from premblyd.store.schema import TABLES
from premblyd.store.sqlite.engine import SqliteBackend
from premblyd.store.sqlite.opening import connect_read_only, require_readable

Row = tuple[Any, ...]
UNREADABLE = "\N{REPLACEMENT CHARACTER}"  # stands in a text for bytes that are no UTF-8
MOVED = tuple(table for table in TABLES if table.is_moved)
# What takes long here stands in nobody's way.
PATIENT = {"idle_in_transaction_session_timeout": "0", "statement_timeout": "0"}
_FOREIGN_KEYS = """
SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid)
FROM pg_constraint WHERE contype = 'f' AND conrelid::regclass::text = ANY(%s)
"""


class Target:
    """A database in the transaction that fills it."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._names = {table._meta.table_name for table in MOVED}
        self._keys: list[tuple[str, str, str]] = []

    def begin(self) -> None:
        """Empty the tables. Nobody else reads or writes them until the end. Rows may come in any
        order: PostgreSQL would also write to the row that each new one refers to."""
        self._keys = self._connection.execute(_FOREIGN_KEYS, ([*self._names],)).fetchall()
        self._alter("ALTER TABLE {} DROP CONSTRAINT {}")
        tables = sql.SQL(", ").join(map(sql.Identifier, self._names))
        self._connection.execute(sql.SQL("TRUNCATE {}").format(tables))

    def put(self, table: type[Model], rows: Iterable[Row]) -> None:
        """Store rows."""
        with self._copying("COPY {} ({}) FROM STDIN (FORMAT BINARY)", table) as copy:
            for row in rows:
                copy.write_row(row)

    def rows(self, table: type[Model]) -> Iterator[Row]:
        """Yield the rows as they come: a cursor would gather all, or bodies by the hundred."""
        with self._copying("COPY {} ({}) TO STDOUT (FORMAT BINARY)", table) as copy:
            yield from copy.rows()

    @contextlib.contextmanager
    def _copying(self, text: LiteralString, table: type[Model]) -> Iterator[Copy]:
        names = _columns(table), _identifier(table)
        types = self._connection.execute(sql.SQL("SELECT {} FROM {} LIMIT 0").format(*names))
        with (
            self._connection.cursor() as cursor,
            cursor.copy(sql.SQL(text).format(*reversed(names))) as copy,
        ):
            copy.set_types([column.type_code for column in types.description or ()])
            yield copy

    def finish(self, last_numbers: Mapping[str, int]) -> None:
        """Make it as a daemon makes it. `last_numbers`: the ids go on behind these."""
        self._alter("ALTER TABLE {} ADD CONSTRAINT {} {}")
        for table in last_numbers.keys() & self._names:
            text = "SELECT setval(pg_get_serial_sequence(%s, 'id'), %s)"
            self._connection.execute(text, (table, last_numbers[table]))
        # Else the planner takes the tables for empty, until the server looks by itself.
        self._connection.execute("ANALYZE")

    def _alter(self, text: str) -> None:
        for table, name, definition in self._keys:
            names = sql.Identifier(table), sql.Identifier(name), sql.SQL(definition)
            self._connection.execute(sql.SQL(text).format(*names))


@contextlib.contextmanager
def opened_target(server: Server) -> Iterator[Target]:
    """Open a database that is new, or empty. What is done within is committed in the end; until
    then no daemon starts. Raise PremblydError when it can't be used."""
    with contextlib.closing(connect(server, **PATIENT)) as database:
        with translated(StoreUnreadableError):  # which knows of another user of the system
            connection: Connection = database.connection()
        require_usable_server(server)  # it can hold every text
        with alone(connection, str(server)):
            if schema.is_made(database):
                raise MoveError(f"{server} has a record already. Name a database that is new.")
            with connection.transaction():
                schema.make(database, schema.parts(), statements)
                yield Target(connection)


def _identifier(table: type[Model]) -> sql.Identifier:
    return sql.Identifier(table._meta.table_name)


def _columns(table: type[Model]) -> sql.Composed:
    return sql.SQL(", ").join(sql.Identifier(column.column_name) for column in columns(table))


class Source:
    """A file as it was when it was opened."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self.path = path
        self._connection = connection
        connection.text_factory = _text
        self._version = self._data_version()
        connection.execute("BEGIN")
        connection.execute("SELECT count(*) FROM sqlite_schema")

    def count(self, table: type[Model]) -> int:
        """Return how many rows a table has."""
        text = f"SELECT count(*) FROM {table._meta.table_name}"  # noqa: S608
        return int(self._connection.execute(text).fetchone()[0])

    def rows(self, table: type[Model]) -> Iterator[Row]:
        """Yield the rows of a table by its primary key."""
        kinds = [column.kind for column in columns(table)]
        truths = [place for place, kind in enumerate(kinds) if kind is ColumnType.TRUTH]
        names = ", ".join(f'"{column.column_name}"' for column in columns(table))
        key = ", ".join(f'"{field.column_name}"' for field in table._meta.get_primary_keys())
        text = f"SELECT {names} FROM {table._meta.table_name} ORDER BY {key}"  # noqa: S608
        for row in self._connection.execute(text):
            values = list(row)
            for place in truths:
                values[place] = None if values[place] is None else bool(values[place])
            yield tuple(values)

    def last_numbers(self) -> dict[str, int]:
        """Return the last id that each table ever used, by a row that was deleted too."""
        return dict(self._connection.execute("SELECT name, seq FROM sqlite_sequence"))

    def require_unchanged(self) -> None:
        """Raise TryAgainError when somebody has written since it was opened."""
        self._connection.execute("COMMIT")
        if self._data_version() != self._version:
            raise TryAgainError(
                f"Somebody has written to {self.path} while it was moved: by `replay` or `cancel`?"
                " Nothing was moved. Run `premblyd record move` again."
            )

    def _data_version(self) -> int:
        """Return a number that changes when another connection writes."""
        return int(self._connection.execute("PRAGMA data_version").fetchone()[0])


@contextlib.contextmanager
def opened_source(place: DatabaseAddress) -> Iterator[Source]:
    """Open the file, and keep daemons out. Raise AlreadyRunningError when one works on it,
    PremblydError when it can't be read."""
    path, key_path = file_of(place) or Path(), key_of(place)
    require_readable(path)
    with (
        SqliteBackend(path, key_path).hold(),
        contextlib.closing(connect_read_only(path, key_path)) as database,
    ):
        yield Source(path, database.connection())


def _text(stored: bytes) -> str:
    """Return a text as PostgreSQL can hold it: without a NUL, which a hook may have printed."""
    return str(stored, "utf-8", "replace").replace("\0", UNREADABLE)


TELL_EVERY = 1000  # rows
DIGEST_BYTES = 16

# Called with what is done, how many rows are done, and how many there are.
Watch = Callable[[str, int, int | None], None]


class MoveError(PremblydError):
    """The record can't be brought over whole. Nothing was moved."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TableMoved:
    """A table that came over: how many rows, and a digest of all, in whatever order they come."""

    name: str
    rows: int
    digest: str


def move(source: DatabaseAddress, target: Server, watch: Watch) -> tuple[TableMoved, ...]:
    """Bring every row of `source` into `target`, and return what came over. Raise PremblydError
    when it can't be brought over whole; then `target` has no record, and `source` is as it was."""
    with opened_source(source) as file, opened_target(target) as server:
        count = sum(map(file.count, MOVED))
        server.begin()
        copying = _Rows("copying", count, watch)
        copied = tuple(
            copying.of(table, file.rows(table), partial(server.put, table)) for table in MOVED
        )
        verifying = _Rows("verifying", count, watch)
        drop = deque[Row](maxlen=0).extend
        for table, there in zip(MOVED, copied, strict=True):
            if verifying.of(table, server.rows(table), drop) != there:
                raise MoveError(f"The copy of {there.name} differs from the original.")
        file.require_unchanged()
        server.finish(file.last_numbers())
    return copied


class _Rows:
    """Rows that pass, table after table: their number and digest. `watch` is called with them."""

    def __init__(self, what: str, total: int, watch: Watch) -> None:
        self._what, self._total, self._watch = what, total, watch
        self._done = 0

    def of(
        self, table: type[Model], rows: Iterable[Row], take: Callable[[Iterable[Row]], object]
    ) -> TableMoved:
        """Have the rows of a table taken; return what has passed."""
        count = total = 0

        def passing() -> Iterator[Row]:
            nonlocal count, total
            for row in rows:
                yield row
                count += 1
                total += int.from_bytes(digest(row))
                if count % TELL_EVERY == 0:
                    self._tell(count)

        take(passing())
        self._tell(count)
        self._done += count
        whole = total % (1 << 8 * DIGEST_BYTES)
        return TableMoved(name=table._meta.table_name, rows=count, digest=f"{whole:032x}")

    def _tell(self, count: int) -> None:
        self._watch(self._what, self._done + count, self._total)


def digest(row: Row) -> bytes:
    """Return the digest of a row: the same on both engines."""
    parts = tuple(_digest(value) if type(value) is bytes else value for value in row)
    return _digest(repr(parts).encode("utf-8", "surrogatepass"))


def _digest(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=DIGEST_BYTES).digest()
