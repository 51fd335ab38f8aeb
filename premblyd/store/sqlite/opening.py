"""Opening the database: modes, pragmas, the one-daemon lock, migrations."""

import contextlib
import fcntl
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from peewee import PeeweeException, SqliteDatabase
from playhouse.migrations import Runner

from premblyd.errors import (
    AlreadyRunningError,
    CannotStartError,
    LacksRightsError,
    PremblydError,
    SchemaError,
    StoreUnavailableError,
)
from premblyd.store.sqlite import copies

BUSY_TIMEOUT_S = 2  # a webhook that waits for the lock is better told 503 in time
UNREADABLE = "\N{REPLACEMENT CHARACTER}"  # stands in a text for bytes that are no UTF-8
MIGRATIONS = Path(__file__).parents[1] / "migrations"
# FULL: a commit is on the disk before it returns. That is the promise behind every 200.
_PRAGMAS = {
    "journal_mode": "wal",
    "synchronous": "full",
    "foreign_keys": 1,
    "journal_size_limit": 64 << 20,
    "wal_autocheckpoint": 4000,  # pages; usually the writer is earlier, between two commits
    # A statement of many rows keeps a journal: in memory, not in a file of a /tmp that may be full.
    "temp_store": "memory",
}


class _Database(SqliteDatabase):
    """One whose texts can always be read. Another program may store bytes that are no UTF-8, and
    sqlite3's error over these would name the value, which may be personal."""

    def _connect(self) -> sqlite3.Connection:
        connection: sqlite3.Connection = super()._connect()  # type: ignore[misc]
        connection.text_factory = _text
        return connection


def _text(stored: bytes) -> str:
    return str(stored, "utf-8", "replace")


def _real(path: Path) -> Path:
    """Return where the file itself is: SQLite puts its other files beside that, not beside a
    symbolic link to it."""
    return Path(os.path.realpath(path))


def _beside(real: Path, suffix: str) -> Path:
    return real.with_name(real.name + suffix)


def connect(path: Path) -> SqliteDatabase:
    """Return a database that reads and writes `path`; its connection is opened on first use.

    mode=rw: a removed file is an error, never quietly a new and empty database.
    """
    return _Database(
        f"{path.absolute().as_uri()}?mode=rw", pragmas=_PRAGMAS, timeout=BUSY_TIMEOUT_S, uri=True
    )


def connect_read_only(path: Path) -> SqliteDatabase:
    """Return a database that only reads `path`, also while the daemon writes.

    Raise PremblydError when there is none, StoreUnavailableError when it can't be read.
    """
    require(path)
    real = _real(path)
    mode = "mode=ro"
    if not os.access(real.parent, os.W_OK):  # and so can't make the -shm file that a log needs
        if not _has_log(real):
            mode = "immutable=1"
        elif not _beside(real, "-shm").exists():
            raise LacksRightsError(
                f"{path} was not closed, and the newest of it is in {_beside(real, '-wal')}, which"
                " only who may write its folder can read now. Start the daemon, and all may."
            )
    database = _Database(f"{real.as_uri()}?{mode}", uri=True, timeout=BUSY_TIMEOUT_S)
    check_schema(database, path)
    return database


def _has_log(real: Path) -> bool:
    """Return whether there is, or was a moment ago, a log to be read: after a clean stop there is
    none. Without it, the file alone would be an old state."""
    try:
        return _beside(real, "-wal").stat().st_size > 0 or _beside(real, "-shm").exists()
    except OSError:
        return False


def connect_operator(path: Path) -> SqliteDatabase:
    """Return a database on which a command writes while the daemon runs.

    Raise PremblydError when there is none, StoreUnavailableError when it can't be written.
    """
    require(path)
    if not os.access(path, os.W_OK):
        raise LacksRightsError(f"You may not write {path}. Run this as root or as its owner.")
    database = connect(path)
    check_schema(database, path)
    return database


def require(path: Path) -> None:
    """Raise PremblydError when there is no database at `path` or it may not be read."""
    try:
        path.stat()
    except PermissionError:  # its folder is closed to this user
        raise LacksRightsError(f"You may not read {path}. Members of its group may.") from None
    except OSError:
        raise PremblydError(
            f"There is no database at {path}. The daemon makes it: run `premblyd serve`."
        ) from None
    if not os.access(path, os.R_OK):
        raise LacksRightsError(f"You may not read {path}. Members of its group may.")


def prepare(path: Path) -> list[str]:
    """Make or migrate the database at `path`; return the migrations applied now.

    An existing file is copied beside itself first. Raise SchemaError when a newer premblyd
    wrote it, StoreUnavailableError when it can't be opened.
    """
    try:
        path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
        _restrict(path)
    except OSError as error:
        raise StoreUnavailableError(f"{path}: {error.strerror}") from None
    with contextlib.closing(connect(path)) as database, translated():
        runner = Runner(database, str(MIGRATIONS))
        applied, pending = _compare(runner, path)
        if applied and pending:
            copies.clone(path, path.with_name(f"{path.name}.before-{pending[0]}"))
        return [str(name) for name in runner.up()]


def check_schema(database: SqliteDatabase, path: Path) -> None:
    """Raise SchemaError when the schema of the database at `path` is not this program's."""
    try:
        with translated():
            _, pending = _compare(Runner(database, str(MIGRATIONS)), path)
        if pending:
            raise SchemaError(
                f"{path} is older than this premblyd. Start the daemon once: it migrates."
            )
    except PremblydError:
        database.close()
        raise


def lock(path: Path) -> int:
    """Take the one-daemon lock of the database at `path` and return its file descriptor; the
    lock lasts until that is closed. Raise AlreadyRunningError when another process has it,
    CannotStartError when the file has another name.

    A record lock needs a descriptor that writes, so only the file's owner can take it, and no
    child inherits it. (Closing any descriptor of the file ends it: nothing else opens the file.)
    """
    real = _real(path)
    _require_one_name(real)
    name = _beside(real, ".lock")
    descriptor = os.open(name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        os.fchmod(descriptor, 0o600)
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Version 0.1 has it by flock(2), for which a reader's descriptor is enough, and mode 0640.
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fcntl.flock(descriptor, fcntl.LOCK_UN)
    except BlockingIOError:
        os.close(descriptor)
        raise AlreadyRunningError(
            f"Another premblyd uses {path}. Stop it, or give this one another `database:`."
            f" `fuser -v {name}` shows which process it is."
        ) from None
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _require_one_name(real: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        if real.stat().st_nlink > 1:
            raise CannotStartError(
                f"{real} has a second name (a hard link), under which another program would not"
                f" see its log and its lock. Find it with `find / -samefile {real}`, remove it."
            )


def _compare(runner: Runner, path: Path) -> tuple[set[str], list[str]]:
    """Return which migrations are applied and which are pending. Raise SchemaError for a
    database that knows more than this program."""
    applied = set(runner.applied())
    if not os.access(MIGRATIONS, os.R_OK | os.X_OK):  # to the runner that is an empty folder
        raise CannotStartError(
            f"This premblyd may not read its own program in {MIGRATIONS}. Install it where this"
            " user may read it, or use another user."
        )
    known = [str(migration.name) for migration in runner.migrations()]
    if newer := sorted(applied - set(known)):
        raise SchemaError(
            f"{path} was written by a newer premblyd (it knows {', '.join(newer)})."
            f" Install that version again, or restore the copy {path}.before-{newer[0]}."
        )
    return applied, [name for name in known if name not in applied]


def _restrict(path: Path) -> None:
    """Create the file, or take away what goes beyond 0640. SQLite gives its other files the
    same mode."""
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640))
    mode = path.stat().st_mode & 0o777
    if mode & ~0o640:
        path.chmod(mode & 0o640)


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """Turn a database's failure into StoreUnavailableError. SQLite's texts hold no values."""
    try:
        yield
    except (PeeweeException, sqlite3.Error) as error:
        raise StoreUnavailableError(plain(error)) from None


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
