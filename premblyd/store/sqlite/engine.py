"""SQLite as an engine: a file that belongs to one daemon. Begin with SqliteEngine.transact.

"Log" means SQLite's write-ahead log in this folder: what is committed is there first.
"""

import contextlib
import errno
import os
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from premblyd.ground.errors import CannotStartError, PremblydError, StoreUnavailableError
from premblyd.store.engine import Database, Inspection, Sizes, Transaction
from premblyd.store.sqlite import opening
from premblyd.store.sqlite.connecting import errors, failures
from premblyd.store.sqlite.files import (
    beside,
    give_away,
    hold,
    real_path,
    restrict,
    size,
    try_out,
)
from premblyd.store.sqlite.opening import connect, plain
from premblyd.store.sqlite.transaction import SqliteTransaction

CHECKPOINT_AFTER = 40  # items. After 160, a checkpoint takes 9 ms beside a million events
# Where at least so many come in a transaction, checkpoints after 160 leave more time to them all.
MANY = 4
CHECKPOINT_AFTER_MANY = 160
FILE_REPLACED = (
    "the database file was removed or replaced; put it back, or restart premblyd to use"
    " the file that is there now"
)


class SqliteEngine:
    """See engine.Engine."""

    runs_here = True

    def __init__(self, path: Path, key_path: Path | None = None) -> None:
        self._path = path
        opening.require_readable(path)
        self._opened = os.stat(path)
        with contextlib.closing(opening.connect_read_only(path, key_path)) as database:
            self.digest_key = database.digest_key
        self._database = connect(path, key_path)
        self._errors = errors("Error")
        self.refusals = (*errors("IntegrityError", "DataError"), OverflowError)
        self._items_since_checkpoint = 0  # as many may be in the log alone

    def transact(self, work: Callable[[Transaction], None]) -> None:
        try:
            if self._database.is_closed():
                self._require_same_file()  # else this would open another file
            connection: sqlite3.Connection = self._database.connection()
            with connection:  # commits, or rolls back whatever happens
                connection.execute("BEGIN IMMEDIATE")
                work(SqliteTransaction(connection, self.digest_key))
                self._require_same_file()
        except errors("IntegrityError", "ProgrammingError", "DataError"):
            raise  # the work's own fault
        except failures() as error:
            # After an I/O error only a new connection is sure to recover.
            self._database.close()
            raise StoreUnavailableError(plain(error)) from None

    def tidy_up(self, item_count: int) -> None:
        """Move the write-ahead log into the database file now and then, while the loop answers:
        left to itself, SQLite does it within a COMMIT, and what was committed waits 10 ms for
        nothing."""
        self._items_since_checkpoint += item_count
        after = CHECKPOINT_AFTER if item_count < MANY else CHECKPOINT_AFTER_MANY
        if self._items_since_checkpoint < after or self._database.is_closed():
            return
        self._items_since_checkpoint = 0
        # A disk that fails is the next commit's to report; what is in the log is safe there.
        with contextlib.suppress(*self._errors):
            self._database.connection().execute("PRAGMA wal_checkpoint(passive)")

    def close(self) -> None:
        self._database.close()

    def _require_same_file(self) -> None:
        """Raise StoreUnavailableError when the path no longer names the file that was opened:
        commits to a removed file succeed, and are lost."""
        with contextlib.suppress(OSError):
            if os.path.samestat(os.stat(self._path), self._opened):
                return
        raise StoreUnavailableError(FILE_REPLACED)


# What trying again does not mend: somebody must change a path or a right.
_LASTING = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.ENAMETOOLONG)


@dataclass(frozen=True, slots=True)
class SqliteBackend:
    """See engine.Backend."""

    path: Path
    key_path: Path | None = None  # of an encrypted one
    is_shared = False

    @contextlib.contextmanager
    def hold(self) -> Iterator[None]:
        with contextlib.ExitStack() as held:
            with self._usable():
                restrict(self.path)  # so that there is a file to lock
                held.enter_context(hold(self.path))
                give_away(self.path)
            yield

    @contextlib.contextmanager
    def _usable(self) -> Iterator[None]:
        """Look whether what is there is fit, and translate why it can't be opened."""
        try:
            opening.require_fit(self.path, self.key_path)
            yield
        except OSError as error:
            kind = CannotStartError if error.errno in _LASTING else PremblydError
            is_file = error.filename is not None and os.path.isfile(error.filename)
            place = error.filename if is_file else self.path.parent
            raise kind(f"Can't use {place} for the database: {error.strerror}") from None

    def prepare(self) -> bool:
        return opening.prepare(self.path, self.key_path)

    def inspect(self) -> Inspection:
        try:
            with self._usable():
                is_new = not size(real_path(self.path))
                try_out(self.path)
            if not is_new:
                opening.require_usable(self.path, self.key_path)
                return Inspection()
        except PremblydError as error:
            return Inspection(obstacles=(str(error),))
        return Inspection(facts=(f"There is no database at {self.path}: a new one would be made.",))

    def engine(self) -> SqliteEngine:
        return SqliteEngine(self.path, self.key_path)

    def connect_read_only(self) -> Database:
        return opening.connect_read_only(self.path, self.key_path)

    def connect_operator(self) -> Database:
        return opening.connect_operator(self.path, self.key_path)

    def sizes(self) -> Sizes:
        real = real_path(self.path)
        return Sizes(
            database_bytes=size(real),
            log_bytes=size(beside(real, "-wal")),
            free_bytes=_free(real),
        )


def _free(path: Path) -> int:
    try:
        disk = os.statvfs(path.parent)
    except OSError:
        return 0
    return disk.f_bavail * disk.f_frsize
