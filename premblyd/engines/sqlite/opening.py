"""Opening the database: its schema brought up to this program's, modes, pragmas, who may do what
with it; and what SQLite says of a failure, in the store's own errors and in words for people."""

import contextlib
import os
import sqlite3
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

from peewee import PeeweeException, SqliteDatabase

from premblyd.engines.engine import (
    Database,
    Done,
    Scrubbed,
    Transaction,
)
from premblyd.engines.sqlite.files import (
    beside,
    clone,
    readers_of_log,
    real_path,
    restoring_folder,
    restrict,
    set_log_aside,
    size,
)
from premblyd.engines.sqlite.guards import following, is_foreign_log
from premblyd.engines.sqlite.residue import Residue, can_clear
from premblyd.engines.sqlite.space import AUTO_VACUUM, mark
from premblyd.engines.sqlite.transaction import SqliteTransaction
from premblyd.errors import (
    CannotStartError,
    LacksRightsError,
    PremblydError,
    SchemaError,
    StoreUnavailableError,
    StoreUnreadableError,
)
from premblyd.model.history import History


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
    "database or disk is full": "the disk is full; make room (`df -h` shows where), then again",
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
            history = _history(database, path)
        if history.pending:
            raise SchemaError(
                f"{path} is older than this premblyd. Start the daemon once: it migrates its own"
                " database. A copy is read by the version that wrote it."
            )
    except PremblydError:
        database.close()
        raise


def _history(database: Database, path: Path, known: Collection[str] | None = None) -> History:
    """Return the database's history. Raise SchemaError for one that knows more than this
    program, or than these migrations."""
    history = History(database)
    if newer := history.newer if known is None else sorted(history.applied.difference(known)):
        raise SchemaError(
            f"{path} was written by a newer premblyd (it knows {', '.join(newer)})."
            f" Install that version again, or run `premblyd restore {path}.before-{newer[0]}`."
        )
    return history


_CACHED_STATEMENTS = 256  # prepared: with inserts of every size, a daemon has more than 128
MAGIC = b"SQLite format 3\0"
CLEAR_TRIES = 3  # the daemon may write meanwhile
SCRUB_AGAIN_S = (0, 0.02, 0.05, 0.1, 0.2, 0.3)
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

    _residue: Residue | None = None  # of a connection that has written

    def transact(self, work: Callable[[Transaction], Done], *, alone: bool = False) -> Done:
        del alone  # it always is
        with translated():
            with self.atomic("IMMEDIATE"):
                connection = self.connection()
                if self._residue is not None:
                    self._residue.clear(connection)
                done = work(SqliteTransaction(connection, self.vault))
            if self._residue is not None:
                self._residue.pages.clear()
            self._look_for_residue()
            return done

    def look(self, work: Callable[[Transaction], Done]) -> Done:
        with translated(StoreUnreadableError), self.atomic("DEFERRED"):
            return work(SqliteTransaction(self.connection(), self.vault))

    def scrub(self) -> Scrubbed:
        """Have all that is committed in the file itself, and none of it in the log, which is cut to
        nothing. Who writes waits for that, so it looks again instead of waiting for who reads."""
        with translated():
            self._clear_residue()
            moved_stays = not can_clear(self.connection())
            self.execute_sql("PRAGMA busy_timeout = 0")
            try:
                for wait_s in SCRUB_AGAIN_S:
                    time.sleep(wait_s)
                    busy, _, _ = self.execute_sql("PRAGMA wal_checkpoint(truncate)").fetchone()
                    if not busy:
                        return Scrubbed(is_gone=True, moved_stays=moved_stays)
            finally:
                self.execute_sql(f"PRAGMA busy_timeout = {int(BUSY_TIMEOUT_S * 1000)}")
            readers = readers_of_log(beside(self._file(), "-shm"))
            return Scrubbed(is_gone=False, readers=readers, moved_stays=moved_stays)

    def _look_for_residue(self) -> None:
        """Look what pages have of rows that are elsewhere now, or nowhere: it is cleared by the
        next transaction, or when this is closed."""
        with contextlib.suppress(sqlite3.Error, PeeweeException, OSError):
            if self._residue is None:
                self._residue = Residue()
                self._residue.open(beside(self._file(), "-wal"), self.connection())
            self._residue.look()

    def _clear_residue(self) -> None:
        """Clear it now."""
        self._look_for_residue()
        for _ in range(CLEAR_TRIES):
            if self._residue is not None and self._residue.pages:
                self.transact(lambda _: None)

    def _file(self) -> Path:
        (file,) = self.execute_sql("SELECT file FROM pragma_database_list").fetchone()
        return Path(file)

    def close(self) -> bool:
        with contextlib.suppress(StoreUnavailableError):
            if not self.is_closed() and self._residue is not None and self._residue.pages:
                self._clear_residue()
        if self._residue is not None:
            self._residue.close()
            self._residue = None
        is_closed: bool = super().close()
        return is_closed

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


def _text(stored: bytes) -> str:
    return str(stored, "utf-8", "replace")


def connect(path: Path) -> Database:
    """Return a database that reads and writes `path`; its connection is opened on first use.

    mode=rw: a removed file is an error, never quietly a new and empty database.
    """
    # Before the first page, so that it is made so: later it would have to be packed.
    first = {} if size(real_path(path)) else AUTO_VACUUM
    return _Database(
        f"{path.absolute().as_uri()}?mode=rw",
        pragmas={**first, **_PRAGMAS},
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
                f"{path} was not closed, and the newest of it is in {beside(real, '-wal')}, which"
                " only who may write its folder can read now. Start the daemon, and all may."
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
    if path.suffix == ".age":  # by its name: who closes a database's file ends SQLite's locks of it
        raise PremblydError(
            f"{path} is sealed by age. `age --decrypt -i KEY {path} > FILE` opens it: FILE is in"
            " clear."
        )


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
            f"There is no folder {real.parent} for the database. Mend `database`, or make the"
            " folder for the daemon's user. (An absolute path has four slashes: sqlite:////PATH.)"
        )
    if not may_be_one(path):
        raise CannotStartError(
            f"{path} is no SQLite database. Move it away, and the daemon makes a new one; or put a"
            " copy in its place by `premblyd restore`."
        )
    wal, folder = beside(real, "-wal"), restoring_folder(real)
    if size(real):
        return
    if folder.exists() and not real.exists():
        raise CannotStartError(
            f"{real} is not there: putting a copy in its place was interrupted. Run `premblyd"
            " restore` with that copy again; it goes on."
        )
    if size(wal):
        raise CannotStartError(
            f"{real} is missing or empty, and {wal} holds a part of it. Put the file back beside"
            " it. If it is lost, run `premblyd restore` with a copy: that keeps the -wal aside."
        )


def prepare(path: Path, check: Callable[[Database], None] = lambda _: None) -> list[str]:
    """Make or migrate the database at `path`; return the migrations applied now. `check` looks at
    it before anything is changed.

    An existing file is copied beside itself first. Raise SchemaError when a newer premblyd
    wrote it, StoreUnavailableError when it can't be opened.
    """
    try:
        restrict(path)
    except OSError as error:
        raise StoreUnavailableError(f"{path}: {error.strerror}") from None
    real = real_path(path)
    if is_foreign_log(real):
        set_log_aside(real)
    with contextlib.closing(connect(path)) as database:
        with translated():
            history = _history(database, path)
            check(database)
            if history.applied and history.pending:
                clone(path, path.with_name(f"{path.name}.before-{history.pending[0]}"))
            is_new = not history.applied
            applied = history.apply()
            if is_new:
                mark(database.connection())
        _number(database)
        return applied


def _number(database: Database) -> None:
    """Give a record its first number, in the file itself: see guards.py. Without one, whether a
    log belongs to a file can't be told, and nothing else depends on it."""
    with contextlib.suppress(sqlite3.Error, PeeweeException):
        (number,) = database.execute_sql("PRAGMA user_version").fetchone()
        if not number:
            database.execute_sql(f"PRAGMA user_version = {following(0)}")
            database.execute_sql("PRAGMA wal_checkpoint(truncate)")


def require_usable(
    path: Path,
    known: Collection[str] | None = None,
    check: Callable[[Database], None] = lambda _: None,
) -> None:
    """Raise SchemaError when a newer premblyd has changed the database at `path`, so that this one,
    or the one with the migrations `known`, can't work on it, StoreUnavailableError when it can't be
    read, and what `check` raises. A database that is not there yet is no obstacle."""
    if path.exists():
        url = f"{real_path(path).as_uri()}?mode=ro"
        with (
            contextlib.closing(_Database(url, uri=True, timeout=BUSY_TIMEOUT_S)) as database,
            translated(StoreUnreadableError),
        ):
            _history(database, path, known)
            check(database)
