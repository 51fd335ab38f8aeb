"""SQLite as an engine: a file, which one daemon has for itself. Begin with SqliteEngine.transact.

"Log" means SQLite's write-ahead log in this folder: what is committed is there first.
"""

import contextlib
import errno
import functools
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from peewee import PeeweeException

from premblyd.engines.besides import Copied, OtherCopy, Sought
from premblyd.engines.engine import (
    Database,
    Inspection,
    Packed,
    Room,
    Sizes,
    Transaction,
)
from premblyd.engines.sqlite import leftovers, opening, packing, pages
from premblyd.engines.sqlite.files import (
    beside,
    forbid_checkpoint,
    hold,
    keep_file,
    real_path,
    restrict,
    set_log_aside,
    size,
    tell_where,
    try_out,
    used_beside,
)
from premblyd.engines.sqlite.guards import FILE_OVERWRITTEN, FileGuard, LogGuard
from premblyd.engines.sqlite.opening import connect, plain
from premblyd.engines.sqlite.residue import Residue
from premblyd.engines.sqlite.space import GivingBack, give_back
from premblyd.engines.sqlite.transaction import SqliteTransaction
from premblyd.errors import (
    CannotStartError,
    PremblydError,
    StoreUnavailableError,
    StoreUnreadableError,
)
from premblyd.telemetry import tell
from premblyd.vault import Vault

CHECKPOINT_AFTER = 40  # items. After 160, a checkpoint takes 9 ms beside a million events
# Where at least so many come in a transaction, checkpoints after 160 leave more time to them all.
MANY = 4
CHECKPOINT_AFTER_MANY = 160


class SqliteEngine:
    """See engines.engine.Engine."""

    runs_here = True

    def __init__(self, path: Path, vault: Vault | None = None) -> None:
        self._real = real_path(path)
        self._database = connect(path)
        self._vault = vault
        self._file = FileGuard(path)
        self._guard = LogGuard(path)
        self._is_saved = False  # what a replaced file was to keep
        self._keeping: threading.Thread | None = None
        self._failed = False
        self._items_since_checkpoint = 0  # as many may be in the log alone
        self._giving_back = GivingBack()
        self._residue = Residue()

    def transact(self, work: Callable[[Transaction], None], *, is_patient: bool = True) -> None:
        del is_patient  # there are no locks but the one of the file
        try:
            connection = self._connect()
            with connection:  # commits, or rolls back whatever happens
                connection.execute("BEGIN IMMEDIATE")
                changes = connection.total_changes
                self._residue.clear(connection)
                work(SqliteTransaction(connection, self._vault))
                if connection.total_changes != changes:
                    self._file.number(connection)
                self._file.require_own(connection)
            self._file.committed()
            self._residue.pages.clear()
            self._is_saved = False
            self._save_removed_log()
        except (sqlite3.IntegrityError, sqlite3.ProgrammingError, sqlite3.DataError):
            raise  # the work's own fault
        except StoreUnavailableError:
            self._failed = True
            with contextlib.suppress(sqlite3.Error):
                self._save_replaced_file()
            raise
        except (sqlite3.Error, PeeweeException) as error:
            self._failed = True
            # After an I/O error only a new connection is sure to recover. But when somebody has
            # removed the log, only this connection can still read what is in it; and to close an
            # overwritten file would bring the log into it.
            if not self._is_own():
                raise StoreUnavailableError(FILE_OVERWRITTEN) from None
            if not self._log_was_removed():
                self._database.close()
            raise StoreUnavailableError(plain(error)) from None
        else:
            self._failed = False
        finally:
            self._file.rolled_back()

    def tidy_up(self, item_count: int) -> bool:
        """Move the write-ahead log into the database file now and then, while the loop answers:
        left to itself, SQLite does it within a COMMIT, and what was committed waits 10 ms for
        nothing. And clear what SQLite left in pages, and give back what is free in the file."""
        self._items_since_checkpoint += item_count
        after = CHECKPOINT_AFTER if item_count < MANY else CHECKPOINT_AFTER_MANY
        is_due = self._items_since_checkpoint >= after
        # Before a checkpoint, also of SQLite's own: then the log may be begun anew.
        if looks := is_due or not item_count or self._residue.log_is_long():
            self._residue.look()
        if is_due:
            self._items_since_checkpoint = 0
            self._checkpoint()
        # A disk that fails is the next commit's to report: nothing depends on this.
        with contextlib.suppress(sqlite3.Error, StoreUnavailableError):
            if not item_count and self._residue.pages:
                self._clear_residue()
            if self._give_back(is_idle=not item_count) or self._residue.pages:
                return True
            if looks and self._giving_back.took_pages():  # a checkpoint cuts the file
                self._checkpoint()
        return not looks

    def _clear_residue(self) -> None:
        """Clear at once what would else be cleared by the next transaction."""
        if not self._failed and not self._database.is_closed():
            self.transact(lambda _: None)
            self._residue.look()

    def _give_back(self, *, is_idle: bool) -> bool:
        """Give back some of the pages that are free; return whether there are more."""
        if self._failed or self._database.is_closed():
            return False
        connection: sqlite3.Connection = self._database.connection()
        pages = self._giving_back.pages(connection, is_idle=is_idle)
        if pages is None:
            return False
        if pages:
            self.transact(functools.partial(self._give_back_pages, pages))
            self._items_since_checkpoint += CHECKPOINT_AFTER // 10
        return True

    def _give_back_pages(self, pages: int, transaction: Transaction) -> None:
        self._file.number(transaction.connection)
        give_back(transaction.connection, pages)

    def _checkpoint(self) -> None:
        # A disk that fails is the next commit's to report; what is in the log is safe there.
        with contextlib.suppress(sqlite3.Error):
            if not self._database.is_closed() and self._is_own():
                checkpoint = self._database.connection().execute("PRAGMA wal_checkpoint(passive)")
                # While another program does it, both numbers are -1.
                is_busy, frames, done = checkpoint.fetchone()
                if not is_busy and frames == done:
                    self._file.checkpointed()

    def close(self) -> None:
        self._residue.look()
        with contextlib.suppress(sqlite3.Error, StoreUnavailableError):
            if self._residue.pages:
                self._clear_residue()
        self._residue.close()
        with contextlib.suppress(sqlite3.Error, StoreUnavailableError):
            self._save_removed_log()
            self._save_replaced_file()
        if self._keeping is not None:
            self._keeping.join()
        if not self._is_own():
            forbid_checkpoint(self._file.descriptor)
        self._database.close()
        if (
            self._file.descriptor >= 0
            and self._guard.is_own_log()
            and size(beside(self._real, "-wal"))
        ):
            if self._file.is_replaced:
                keep_file(self._file.descriptor, self._real, with_log=True)
            elif self._file.is_overwritten:
                set_log_aside(self._real)
        self._file.close()

    def _connect(self) -> sqlite3.Connection:
        if self._failed:
            self._save_removed_log()
        is_new = self._database.is_closed()
        if is_new:
            self._file.require_same_file()  # else this would open another file
            self._file.open()
        connection: sqlite3.Connection = self._database.connection()
        if is_new:
            self._guard.remember_log()
            self._file.opened(connection)
            self._giving_back.connected()
            self._residue.open(beside(self._real, "-wal"), connection)
        return connection

    def _is_own(self) -> bool:
        """Return whether the file has still this record's content, as far as can be told."""
        with contextlib.suppress(sqlite3.Error, StoreUnavailableError):
            if not self._database.is_closed():
                return self._file.is_own(self._database.connection())
        return not self._file.is_overwritten

    def _save_replaced_file(self) -> None:
        """Have all that is committed in the file that was open, when somebody has put another in
        its place, and keep that file if it has no name any more. Then its log is empty, and
        harmless beside the other file."""
        if self._is_saved or self._database.is_closed() or not self._file.is_replaced:
            return
        checkpoint = self._database.connection().execute("PRAGMA wal_checkpoint(truncate)")
        busy, _, _ = checkpoint.fetchone()
        if busy:  # again at the next transaction
            return
        self._is_saved = True
        if os.fstat(self._file.descriptor).st_nlink:
            tell_where(self._file.descriptor)
            return
        keep = functools.partial(keep_file, self._file.descriptor, self._real, with_log=False)
        self._keeping = threading.Thread(target=keep, name="premblyd-keeping")
        self._keeping.start()  # the writer goes on, and answers webhooks: with 503

    def _save_removed_log(self) -> None:
        """Save what is committed when somebody has removed the write-ahead log. Raise
        StoreUnavailableError when it can't be saved yet."""
        if self._log_was_removed():
            self._file.require_same_file()
            self._guard.save_log(self._database.connection())
            self._database.close()
            tell("store.log_removed", saved=True)

    def _log_was_removed(self) -> bool:
        return not self._database.is_closed() and self._guard.log_was_removed()


# What trying again does not mend: somebody must change a path or a right.
_LASTING = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.ENAMETOOLONG)


@dataclass(frozen=True, slots=True)
class SqliteBackend:
    """See engines.backend.Backend."""

    path: Path
    vault: Vault | None = None
    is_shared = False
    copy_suffix = "db"

    @contextlib.contextmanager
    def hold(self) -> Iterator[None]:
        with contextlib.ExitStack() as held:
            with self._usable():
                restrict(self.path)  # so that there is a file to lock
                held.enter_context(hold(self.path))
            yield

    @contextlib.contextmanager
    def _usable(self) -> Iterator[None]:
        """Look whether what is there is fit, and translate why it can't be opened."""
        try:
            opening.require_fit(self.path)
            yield
        except OSError as error:
            kind = CannotStartError if error.errno in _LASTING else PremblydError
            is_file = error.filename is not None and os.path.isfile(error.filename)
            place = error.filename if is_file else self.path.parent
            raise kind(f"Can't use {place} for the database: {error.strerror}") from None

    def prepare(self, check: Callable[[Database], None] = lambda _: None) -> list[str]:
        return opening.prepare(self.path, self._with_vault(check))

    def inspect(self, check: Callable[[Database], None] = lambda _: None) -> Inspection:
        inspected = packing.inspect(self.path)
        try:
            with self._usable():
                is_new = not size(real_path(self.path))
                try_out(self.path)
            if not is_new:
                opening.require_usable(self.path, check=self._with_vault(check))
        except PremblydError as error:
            return replace(inspected, obstacles=(str(error),))
        if not is_new:
            return inspected
        new = f"There is no database at {self.path}: a new one would be made."
        if not (others := used_beside(self.path)):
            return replace(inspected, facts=(new, *inspected.facts))
        named = ", ".join(map(str, others))
        return replace(inspected, warnings=(f"{new} Is {named} meant?", *inspected.warnings))

    def _with_vault(self, check: Callable[[Database], None]) -> Callable[[Database], None]:
        return lambda database: check(database.with_vault(self.vault))

    def engine(self) -> SqliteEngine:
        return SqliteEngine(self.path, self.vault)

    def connect_read_only(self) -> Database:
        return opening.connect_read_only(self.path).with_vault(self.vault)

    def connect_operator(self) -> Database:
        return opening.connect_operator(self.path).with_vault(self.vault)

    def beacon(self) -> None:
        return None

    def room(self) -> Room:
        opening.require_readable(self.path)
        return packing.room(self.path)

    def pack(self) -> Packed:
        opening.require_readable(self.path)
        with self.hold():
            return packing.pack(self.path)

    def write_copy(
        self, out: BinaryIO, tell: Callable[[Copied], None], *, without_keys: bool = False
    ) -> None:
        with (
            opening.translated(StoreUnreadableError),
            contextlib.closing(self.connect_read_only()) as database,
        ):
            pages.write_copy(database, out, tell, without_keys=without_keys)

    def sizes(self) -> Sizes:
        real = real_path(self.path)
        return Sizes(
            database_bytes=size(real),
            log_bytes=size(beside(real, "-wal")),
            free_bytes=_free(real),
        )

    def copies_with(self, sought: Sought) -> list[OtherCopy]:
        return leftovers.copies_with(self.path, sought)

    def delete_copy(self, copy: OtherCopy) -> None:
        leftovers.delete(copy)


def _free(path: Path) -> int:
    try:
        disk = os.statvfs(path.parent)
    except OSError:
        return 0
    return disk.f_bavail * disk.f_frsize
