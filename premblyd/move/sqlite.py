"""A SQLite file that is moved to a server, or filled from one."""

import contextlib
import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from premblyd.engines.engine import Transaction
from premblyd.engines.sqlite.engine import SqliteBackend
from premblyd.engines.sqlite.files import beside, real_path
from premblyd.engines.sqlite.opening import connect, connect_read_only, prepare, require_readable
from premblyd.move.rows import Key, Row, Table
from premblyd.move.sides import RowsRefusedError, Side, SourceChangedError, quoted


class SqliteSide(Side):
    """See move.sides.Side."""

    def rows(self, table: Table, after: Key | None = None) -> Iterator[Row]:
        text = self.select_after(table, after)
        found: Iterator[Row] = self.connection.execute(text, after or ())
        return found

    def last_number(self, table: Table) -> int | None:
        text = f"SELECT seq FROM sqlite_sequence WHERE name = '{table.name}'"  # noqa: S608
        number: int | None = self.value(text)
        return number

    def begin_reading(self) -> None:
        """Read it as it is now."""
        self.connection.text_factory = _text
        self._version = self._data_version()
        self.connection.execute("BEGIN")
        self.value("SELECT count(*) FROM sqlite_schema")

    def require_unchanged(self) -> None:
        self.connection.execute("COMMIT")
        if self._data_version() != self._version:
            raise SourceChangedError(
                f"Somebody has written to {self.name} while it was moved: by `replay` or `cancel`?"
                " Run `premblyd move` again, with --restart."
            )

    def _data_version(self) -> int:
        """Return a number that changes when another connection writes."""
        return int(self.value("PRAGMA data_version"))

    def begin(self, tables: Sequence[Table], notes: Mapping[str, str]) -> None:
        with self._transaction():
            self.mark(tables, notes)

    def put(self, table: Table, rows: Sequence[Row], notes: Mapping[str, str]) -> None:
        columns = ", ".join(map(quoted, table.names))
        marks = ", ".join("?" * len(table.columns))
        text = f"INSERT INTO {quoted(table.name)} ({columns}) VALUES ({marks})"  # noqa: S608

        def put(transaction: Transaction) -> None:
            try:
                transaction.connection.executemany(text, rows)
            except (sqlite3.IntegrityError, sqlite3.DataError) as error:
                # Of a CHECK and a column, SQLite says which it is, and no value.
                raise RowsRefusedError(f"SQLite refuses it ({error})") from None
            self.note(notes)

        self.database.transact(put)

    def finish(self, last_numbers: Mapping[str, int]) -> None:
        with self._transaction():
            for name, number in last_numbers.items():
                self.connection.execute("DELETE FROM sqlite_sequence WHERE name = ?", (name,))
                self.connection.execute("INSERT INTO sqlite_sequence VALUES (?, ?)", (name, number))
            self.unmark()

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        connection: sqlite3.Connection = self.connection
        with connection:  # commits, or rolls back
            connection.execute("BEGIN IMMEDIATE")
            yield


@contextlib.contextmanager
def source(path: Path) -> Iterator[SqliteSide]:
    """Open the file to be moved."""
    require_readable(path)
    with SqliteBackend(path).hold():
        _give_away(path)
        with contextlib.closing(connect_read_only(path)) as database:
            opened = SqliteSide(str(path), database)
            opened.begin_reading()
            yield opened


@contextlib.contextmanager
def target(path: Path) -> Iterator[SqliteSide]:
    """Open the file to be filled, made or migrated if need be."""
    with SqliteBackend(path).hold():
        _make(path)
        _give_away(path)
        with contextlib.closing(connect(path)) as database:
            # References may point to rows that come later. The source was asked for those of none.
            database.connection().execute("PRAGMA foreign_keys = 0")
            yield SqliteSide(str(path), database)


def _make(path: Path) -> None:
    is_new = not path.exists() or path.stat().st_size == 0
    if not is_new:
        with contextlib.closing(connect(path)) as database:
            is_new = SqliteSide(str(path), database).notes() is None
    if is_new:
        prepare(path)


def _give_away(path: Path) -> None:
    """Let what root has made here, such as the lock, belong to the owner of its folder: the daemon,
    which is not root."""
    real = real_path(path)
    owner = real.parent.stat()
    if os.geteuid() != 0 or owner.st_uid == 0:
        return
    for suffix in ("", "-wal", "-shm", ".lock"):
        file = beside(real, suffix)
        with contextlib.suppress(FileNotFoundError):
            if file.lstat().st_uid == 0:
                os.chown(file, owner.st_uid, owner.st_gid, follow_symlinks=False)


def _text(stored: bytes) -> Any:
    return str(stored, "utf-8", "surrogateescape")
