"""The SQLite file that is moved: its rows, as PostgreSQL can hold them."""

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from peewee import Model

from premblyd.ground.databases import DatabaseAddress, file_of, key_of
from premblyd.ground.errors import TryAgainError
from premblyd.store.columns import ColumnType, columns
from premblyd.store.engine import UNREADABLE
from premblyd.store.sqlite.engine import SqliteBackend
from premblyd.store.sqlite.opening import connect_read_only, require_readable

Row = tuple[Any, ...]
MAX_NAMED = 10


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

    def rows(self, table: type[Model], *, skip: int = 0) -> Iterator[Row]:
        """Yield the rows of a table by its primary key."""
        kinds = [column.kind for column in columns(table)]
        truths = [place for place, kind in enumerate(kinds) if kind is ColumnType.TRUTH]
        names = ", ".join(f'"{column.column_name}"' for column in columns(table))
        key = ", ".join(f'"{field.column_name}"' for field in table._meta.get_primary_keys())
        text = f"SELECT {names} FROM {table._meta.table_name} ORDER BY {key}"  # noqa: S608
        for row in self._connection.execute(f"{text} LIMIT -1 OFFSET ?", (skip,)):
            values = list(row)
            for place in truths:
                values[place] = None if values[place] is None else bool(values[place])
            yield tuple(values)

    def orphans(self) -> list[str]:
        """Return some rows that refer to a row that is not there."""
        text = 'SELECT "table", rowid FROM pragma_foreign_key_check LIMIT ?'
        found = self._connection.execute(text, (MAX_NAMED,))
        return [f"{table} {number}" for table, number in found]

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
def opened(place: DatabaseAddress) -> Iterator[Source]:
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
    """Return a text as PostgreSQL can hold it. Somebody may have put in by hand what it can't."""
    return str(stored, "utf-8", "replace").replace("\0", UNREADABLE)
