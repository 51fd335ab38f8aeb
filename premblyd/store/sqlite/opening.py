"""Opening the database: its schema brought up to this program's, modes, pragmas, who may do what
with it; and what SQLite says of a failure, in the store's own errors and in words for people."""

import contextlib
import os
import sqlite3
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from peewee import SqliteDatabase

from premblyd.ground.databases import is_plain
from premblyd.ground.errors import (
    CannotStartError,
    LacksRightsError,
    PremblydError,
    StoreUnavailableError,
    StoreUnreadableError,
)
from premblyd.store import schema
from premblyd.store.engine import ONLY_READS, Database, Done, Transaction, query_failed
from premblyd.store.sqlite import connecting
from premblyd.store.sqlite.connecting import NotOpenedError, errors, failures
from premblyd.store.sqlite.files import (
    beside,
    identity,
    real_path,
    require_replaced,
    restrict,
    size,
)
from premblyd.store.sqlite.transaction import SqliteTransaction


@contextlib.contextmanager
def translated(to: type[StoreUnavailableError] = StoreUnavailableError) -> Iterator[None]:
    """Turn a database's failure into a StoreUnavailableError. SQLite's texts hold no values."""
    try:
        yield
    except failures() as error:
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

    def __init__(self, path: Path, key_path: Path | None, mode: str, **options: Any) -> None:
        self._path, self._key_path = path, key_path
        super().__init__(f"{path.absolute().as_uri()}?{mode}", **options)

    def transact(self, work: Callable[[Transaction], Done], *, alone: bool = False) -> Done:
        with translated(), self.atomic("IMMEDIATE"):  # which is alone
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
        except errors("Error", "Warning") as error:  # a warning: more than one statement
            if str(error) not in _DENIED:
                raise query_failed(error) from None
        raise PremblydError(ONLY_READS)

    def interrupter(self) -> Callable[[], None]:
        connection: sqlite3.Connection = self.connection()

        def interrupt() -> None:
            with contextlib.suppress(*errors("ProgrammingError")):  # it was closed meanwhile
                connection.interrupt()

        return interrupt

    def _connect(self) -> sqlite3.Connection:
        keys = None if self._key_path is None else connecting.cipher().keys(self._key_path)
        options = {"timeout": BUSY_TIMEOUT_S, "isolation_level": None, **self.connect_params}
        before = identity(self._path)
        try:
            connection = connecting.connect(self.database, keys, **options)
        except NotOpenedError:
            _require_kind(self._path, self._key_path)
            raise not_opened(self._path, self._key_path) from None
        with contextlib.ExitStack() as failing:
            failing.callback(connection.close)
            self._add_conn_hooks(connection)  # type: ignore[attr-defined]
            if identity(self._path) != before:  # it would write the other's log
                raise StoreUnavailableError("another file was put in its place just now")
            failing.pop_all()
        connection.text_factory = partial(str, encoding="utf-8", errors="replace")
        return connection


def not_opened(path: Path, key_path: Path | None) -> CannotStartError:
    return CannotStartError(
        f"The key in {key_path} does not open {path}: it is the key of another database, or the"
        " file is damaged. Put the right key there. Without it the record is lost, and so are its"
        " copies: to begin anew, move its files away."
    )


_DENIED = ("not authorized", "authorization denied")
_READS = {
    sqlite3.SQLITE_SELECT,
    sqlite3.SQLITE_READ,
    sqlite3.SQLITE_FUNCTION,
    sqlite3.SQLITE_RECURSIVE,
}


def _only_reading(action: int, *_: object) -> int:
    return sqlite3.SQLITE_OK if action in _READS else sqlite3.SQLITE_DENY


def connect(path: Path, key_path: Path | None = None) -> Database:
    """Return a database that reads and writes `path`; its connection is opened on first use.

    mode=rw: a removed file is an error, never quietly a new and empty database.
    """
    return _Database(
        path, key_path, "mode=rw", pragmas=_PRAGMAS, cached_statements=_CACHED_STATEMENTS
    )


def connect_read_only(path: Path, key_path: Path | None = None) -> Database:
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
    database = _Database(real, key_path, mode)
    check_schema(database, path)
    return database


def connect_operator(path: Path, key_path: Path | None = None) -> Database:
    """Return a database on which a command writes while the daemon runs.

    Raise PremblydError when there is none, StoreUnavailableError when it can't be written.
    """
    require_readable(path)
    if not os.access(path, os.W_OK):
        raise LacksRightsError(f"You may not write {path}. Run this as root or as its owner.")
    database = connect(path, key_path)
    check_schema(database, path)
    return database


def require_readable(path: Path) -> None:
    """Raise PremblydError when there is no database at `path`, it may not be read, or is being
    replaced."""
    require_replaced(real_path(path))
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


def _require_kind(path: Path, key_path: Path | None) -> None:
    """Raise CannotStartError when what is at `path` is encrypted and should not be, or should be
    and is not. Nobody can tell an encrypted database from what is none."""
    try:
        found = is_plain(path)
    except OSError:  # this user may not read it
        return
    if found is False and key_path is None:
        raise CannotStartError(
            f"{path} is encrypted, or is no SQLite database. If it is encrypted, name its key:"
            " `encryption: {key: {file: database.key}}`. If not, move it away, and the daemon makes"
            " a new one."
        )
    if found and key_path is not None:
        connecting.cipher().require()  # nobody should stop the daemon without it
        raise CannotStartError(
            f"{path} is not encrypted, and the configuration has `encryption`. Stop the daemon and"
            " encrypt it: `premblyd record encrypt`. Or take `encryption` out."
        )


def require_fit(path: Path, key_path: Path | None = None) -> None:
    """Raise CannotStartError when there is no folder for the database's file, when that is no
    database or is being replaced, or when it is not there but a part of its record is: a new one
    would be empty, and SQLite would delete the log."""
    real = real_path(path)
    require_replaced(real)
    if not real.parent.is_dir():
        raise CannotStartError(
            f"There is no folder {real.parent} for the database. Correct `database`, or make the"
            " folder for the daemon's user. (An absolute path has four slashes: sqlite:////PATH.)"
        )
    _require_kind(path, key_path)
    wal = beside(real, "-wal")
    if not size(real) and size(wal):
        raise CannotStartError(
            f"{real} is missing or empty, and {wal} holds a part of it. Put the file back beside"
            " it. If it is lost, move the -wal away too."
        )


def prepare(path: Path, key_path: Path | None = None) -> bool:
    """Make what the database at `path` lacks of the schema; return whether it is new.

    Raise SchemaError when another build of premblyd made it, StoreUnavailableError when it can't be
    opened.
    """
    try:
        restrict(path)
    except OSError as error:
        raise StoreUnavailableError(f"{path}: {error.strerror}") from None
    with contextlib.closing(connect(path, key_path)) as database, translated():
        with database.atomic("IMMEDIATE"):
            is_new = not database.get_tables()
            lacking = schema.parts() if is_new else schema.lacking(database, str(path))
            schema.make(database, lacking, schema.in_sqlite)
        return is_new


def require_usable(path: Path, key_path: Path | None = None) -> None:
    """Raise SchemaError when this program can't work on the database at `path`,
    StoreUnavailableError when it can't be read."""
    with (
        contextlib.closing(_Database(real_path(path), key_path, "mode=ro")) as database,
        translated(StoreUnreadableError),
    ):
        if database.get_tables():
            schema.lacking(database, str(path))
