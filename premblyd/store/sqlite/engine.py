"""SQLite as the store's engine: one connection, its transactions and its write-ahead log.

"Log" means SQLite's write-ahead log in this folder: what is committed is there first.
"""

import contextlib
import sqlite3
from collections.abc import Callable
from pathlib import Path

from peewee import PeeweeException

from premblyd.errors import StoreUnavailableError
from premblyd.occurrences import StoreLogRemoved
from premblyd.store.engine import Transaction
from premblyd.store.sqlite.failures import plain
from premblyd.store.sqlite.logguard import LogGuard
from premblyd.store.sqlite.opening import connect
from premblyd.store.sqlite.transaction import SqliteTransaction
from premblyd.telemetry import tell

CHECKPOINT_AFTER = 40  # items. After 160, a checkpoint takes 9 ms beside a million events


class SqliteEngine:
    """See store.engine.Engine."""

    def __init__(self, path: Path) -> None:
        self._database = connect(path)
        self._guard = LogGuard(path)
        self._failed = False
        self._items_since_checkpoint = 0  # as many may be in the log alone

    def transact(self, work: Callable[[Transaction], None]) -> None:
        try:
            connection = self._connect()
            with connection:  # commits, or rolls back whatever happens
                connection.execute("BEGIN IMMEDIATE")
                work(SqliteTransaction(connection))
                self._guard.require_same_file()
            self._save_removed_log()
        except (sqlite3.IntegrityError, sqlite3.ProgrammingError, sqlite3.DataError):
            raise  # the work's own fault
        except StoreUnavailableError:
            self._failed = True
            raise
        except (sqlite3.Error, PeeweeException) as error:
            self._failed = True
            # After an I/O error only a new connection is sure to recover. But when somebody has
            # removed the log, only this connection can still read what is in it.
            if not self._log_was_removed():
                self._database.close()
            raise StoreUnavailableError(plain(error)) from None
        else:
            self._failed = False

    def tidy_up(self, item_count: int) -> None:
        """Move the write-ahead log into the database file now and then, while the loop answers:
        left to itself, SQLite does it within a COMMIT, and what was committed waits 10 ms for
        nothing."""
        self._items_since_checkpoint += item_count
        if self._items_since_checkpoint < CHECKPOINT_AFTER:
            return
        self._items_since_checkpoint = 0
        # A disk that fails is the next commit's to report; what is in the log is safe there.
        with contextlib.suppress(sqlite3.Error):
            if not self._database.is_closed():
                self._database.connection().execute("PRAGMA wal_checkpoint(passive)").fetchone()

    def close(self) -> None:
        with contextlib.suppress(sqlite3.Error, StoreUnavailableError):
            self._save_removed_log()
        self._database.close()

    def _connect(self) -> sqlite3.Connection:
        if self._failed:
            self._save_removed_log()
        is_new = self._database.is_closed()
        if is_new:
            self._guard.require_same_file()  # else this would open another file
        connection: sqlite3.Connection = self._database.connection()
        if is_new:
            self._guard.remember_log()
        return connection

    def _save_removed_log(self) -> None:
        """Save what is committed when somebody has removed the write-ahead log. Raise
        StoreUnavailableError when it can't be saved yet."""
        if self._log_was_removed():
            self._guard.save_log(self._database.connection())
            self._database.close()
            tell(StoreLogRemoved(saved=True))

    def _log_was_removed(self) -> bool:
        return not self._database.is_closed() and self._guard.log_was_removed()
