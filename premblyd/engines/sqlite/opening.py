"""Opening the database: its schema brought up to this program's, modes, pragmas, who may do what
with it; and what SQLite says of a failure, in the store's own errors and in words for people."""

import contextlib
import os
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from peewee import PeeweeException, SqliteDatabase

from premblyd.engines.engine import ONLY_READS, Database, Done, Transaction, query_failed
from premblyd.engines.sqlite.files import (
    beside,
    real_path,
    restrict,
    size,
)
from premblyd.engines.sqlite.transaction import SqliteTransaction
from premblyd.errors import (
    CannotStartError,
    LacksRightsError,
    PremblydError,
    StoreUnavailableError,
    StoreUnreadableError,
)
from premblyd.model import schema


@contextlib.contextmanager
def translated(to: type[StoreUnavailableError] = StoreUnavailableError) -> Iterator[None]:
    """Turn a database's failure into a StoreUnavailableError. SQLite's texts hold no values."""
    try:
        yield
    except (PeeweeException, sqlite3.Error) as error:
        raise to(plain(error)) from None


def plain(error: BaseException) -> str:
    """Return what went wrong, in words for people."""
    while "no transaction is active" in str(error) and error.__context__:
        # On a full disk SQLite has rolled back already, and Peewee's own attempt hides why.
        error = error.__context__
    return _PLAIN.get(str(error), str(error))


_PLAIN = {
    "database or disk is full": "the disk is full; free space (`df -h` shows where), and retry",
    "disk I/O error": "the disk failed (disk I/O error); `journalctl -k` says more",
    "attempt to write a readonly database": "the database or its disk is read-only",
    "unable to open database file": (
        "unable to open the database file: its folder may be read-only or closed to this user"
    ),
}


def check_schema(database: Database, path: Path) -> None:
    """Raise SchemaError when the schema of the database at `path` is not this program's."""
    try:
        with translated(StoreUnreadableError):
            database.digest_key = schema.require_own(database, str(path))
    except PremblydError:
        database.close()
        raise


_CACHED_STATEMENTS = 256  # prepared: with inserts of every size, a daemon has more than 128
MAGIC = b"SQLite format 3\0"
BUSY_TIMEOUT_S = 2  # then the webhooks that wait for another program's lock are answered 503
# FULL: a commit is on the disk before it returns. That is the promise behind every 200.
_PRAGMAS = {
    "journal_mode": "wal",
    "synchronous": "full",
    "foreign_keys": 1,
    "journal_size_limit": 64 << 20,
    "wal_autocheckpoint": 4000,  # pages; usually the engine does it before, between two commits
    # A statement of many rows keeps a journal: in memory, not in a file of a /tmp that may be full.
    "temp_store": "memory",
    "secure_delete": 1,  # what is emptied or deleted is overwritten
}


class _Database(Database, SqliteDatabase):
    """A database whose texts can always be read. Another program may store bytes that are no
    UTF-8, and sqlite3's error about them would quote the value, which may be personal."""

    def transact(self, work: Callable[[Transaction], Done], *, alone: bool = False) -> Done:
        del alone  # it always is
        with translated(), self.atomic("IMMEDIATE"):
            return work(SqliteTransaction(self.connection(), self.digest_key))

    def look(self, work: Callable[[Transaction], Done]) -> Done:
        with translated(StoreUnreadableError), self.atomic("DEFERRED"):
            return work(SqliteTransaction(self.connection(), self.digest_key))

    def ask(self, query: str, most: int) -> tuple[list[str], list[Any]]:
        connection: sqlite3.Connection = self.connection()
        connection.set_authorizer(_only_reading)
        try:
            cursor = connection.execute(query)
            if cursor.description is not None:
                return [column[0] for column in cursor.description], cursor.fetchmany(most)
        except (sqlite3.Error, sqlite3.Warning) as error:  # a warning: more than one statement
            if str(error) not in _DENIED:
                raise query_failed(error) from None
        raise PremblydError(ONLY_READS)

    def interrupter(self) -> Callable[[], None]:
        connection: sqlite3.Connection = self.connection()

        def interrupt() -> None:
            with contextlib.suppress(sqlite3.ProgrammingError):  # it was closed meanwhile
                connection.interrupt()

        return interrupt

    def _connect(self) -> sqlite3.Connection:
        connection: sqlite3.Connection = super()._connect()  # type: ignore[misc]
        connection.text_factory = _text
        return connection


_DENIED = ("not authorized", "authorization denied")
_READS = {
    sqlite3.SQLITE_SELECT,
    sqlite3.SQLITE_READ,
    sqlite3.SQLITE_FUNCTION,
    sqlite3.SQLITE_RECURSIVE,
}


def _only_reading(action: int, *_: object) -> int:
    return sqlite3.SQLITE_OK if action in _READS else sqlite3.SQLITE_DENY


def _text(stored: bytes) -> str:
    return str(stored, "utf-8", "replace")


def connect(path: Path) -> Database:
    """Return a database that reads and writes `path`; its connection is opened on first use.

    mode=rw: a removed file is an error, never quietly a new and empty database.
    """
    return _Database(
        f"{path.absolute().as_uri()}?mode=rw",
        pragmas=_PRAGMAS,
        timeout=BUSY_TIMEOUT_S,
        uri=True,
        cached_statements=_CACHED_STATEMENTS,
    )


def connect_read_only(path: Path) -> Database:
    """Return a database that only reads `path`, also while the daemon writes.

    Raise PremblydError when there is none, StoreUnavailableError when it can't be read.
    """
    require_readable(path)
    real = real_path(path)
    mode = "mode=ro"
    if not os.access(real.parent, os.W_OK):  # and so can't make the -shm file that a log needs
        # After a clean stop there is neither. Without them, the file alone would be an old state.
        has_shm = os.path.exists(beside(real, "-shm"))
        if not has_shm and not size(beside(real, "-wal")):
            mode = "immutable=1"
        elif not has_shm:
            raise LacksRightsError(
                f"{path} was not closed, and its newest data is in {beside(real, '-wal')}, which"
                " you can't read while no daemon runs. Start the daemon."
            )
    database = _Database(f"{real.as_uri()}?{mode}", uri=True, timeout=BUSY_TIMEOUT_S)
    check_schema(database, path)
    return database


def connect_operator(path: Path) -> Database:
    """Return a database on which a command writes while the daemon runs.

    Raise PremblydError when there is none, StoreUnavailableError when it can't be written.
    """
    require_readable(path)
    if not os.access(path, os.W_OK):
        raise LacksRightsError(f"You may not write {path}. Run this as root or as its owner.")
    database = connect(path)
    check_schema(database, path)
    return database


def require_readable(path: Path) -> None:
    """Raise PremblydError when there is no database at `path` or it may not be read."""
    try:
        path.stat()
    except PermissionError:  # its folder is closed to this user
        raise LacksRightsError(f"You may not read {path}. Members of its group may.") from None
    except OSError:
        raise PremblydError(
            f"There is no database at {path}. If the configuration names it, the daemon makes it:"
            " run `premblyd serve`."
        ) from None
    if not os.access(path, os.R_OK):
        raise LacksRightsError(f"You may not read {path}. Members of its group may.")


def may_be_one(path: Path) -> bool:
    """Return whether what is at `path` may be a database: nothing, an empty file, one that begins
    as SQLite's do, or one that this user may not read."""
    try:
        if not path.is_file():
            return not path.exists()
        with path.open("rb") as file:
            return file.read(len(MAGIC)) in (b"", MAGIC)
    except OSError:
        return True


def require_fit(path: Path) -> None:
    """Raise CannotStartError when there is no folder for the database's file, when that is no
    database, or when it is not there but a part of its record is: a new one would be empty, and
    SQLite would delete the log."""
    real = real_path(path)
    if not real.parent.is_dir():
        raise CannotStartError(
            f"There is no folder {real.parent} for the database. Correct `database`, or make the"
            " folder for the daemon's user. (An absolute path has four slashes: sqlite:////PATH.)"
        )
    if not may_be_one(path):
        raise CannotStartError(
            f"{path} is no SQLite database. Move it away, and the daemon makes a new one."
        )
    wal = beside(real, "-wal")
    if not size(real) and size(wal):
        raise CannotStartError(
            f"{real} is missing or empty, and {wal} holds a part of it. Put the file back beside"
            " it. If it is lost, move the -wal away too."
        )


def prepare(path: Path) -> bool:
    """Make the schema of the database at `path`, if it has none; return whether it is new.

    Raise SchemaError when another build of premblyd made it, StoreUnavailableError when it can't be
    opened.
    """
    try:
        restrict(path)
    except OSError as error:
        raise StoreUnavailableError(f"{path}: {error.strerror}") from None
    with contextlib.closing(connect(path)) as database, translated():
        with database.atomic("IMMEDIATE"):
            is_new = not database.get_tables()
            if is_new:
                schema.make(database)
        schema.require_own(database, str(path))
        return is_new


def require_usable(path: Path) -> None:
    """Raise SchemaError when this program can't work on the database at `path`,
    StoreUnavailableError when it can't be read."""
    url = f"{real_path(path).as_uri()}?mode=ro"
    with (
        contextlib.closing(_Database(url, uri=True, timeout=BUSY_TIMEOUT_S)) as database,
        translated(StoreUnreadableError),
    ):
        if database.get_tables():
            schema.require_own(database, str(path))
