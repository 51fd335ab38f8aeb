"""SQLite as the store's engine: one connection, its transactions and its write-ahead log."""

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

CHECKPOINT_AFTER = 40  # items: small steps; 160 take 9 ms beside a million events


class SqliteEngine:
    """See store.engine.Engine."""

    def __init__(self, path: Path) -> None:
        self._database = connect(path)
        self._guard = LogGuard(path)
        self._failed = False
        self._unmoved = 0  # items that may still be in the log alone

    def transact(self, work: Callable[[Transaction], None]) -> None:
        try:
            connection = self._connect()
            with connection:  # commits, or rolls back whatever happens
                connection.execute("BEGIN IMMEDIATE")
                work(SqliteTransaction(connection))
                self._guard.require_same_file()
            self._keep_log()
        except (sqlite3.IntegrityError, sqlite3.ProgrammingError, sqlite3.DataError):
            raise  # the work's own fault
        except StoreUnavailableError:
            self._failed = True
            raise
        except (sqlite3.Error, PeeweeException) as error:
            self._failed = True
            # After an I/O error only a new connection is sure to recover. But where the log has
            # no name any more, this one alone has what is in it.
            if not self._log_was_removed():
                self._database.close()
            raise StoreUnavailableError(plain(error)) from None
        else:
            self._failed = False

    def rest(self, done: int) -> None:
        """Move the write-ahead log into the database file now and then, while the loop answers:
        left to itself, SQLite does it within a COMMIT, and what was committed waits 10 ms for
        nothing."""
        self._unmoved += done
        if self._unmoved < CHECKPOINT_AFTER:
            return
        self._unmoved = 0
        # A disk that fails is the next commit's to report; what is in the log is safe there.
        with contextlib.suppress(sqlite3.Error):
            if not self._database.is_closed():
                self._database.connection().execute("PRAGMA wal_checkpoint(passive)").fetchone()

    def close(self) -> None:
        with contextlib.suppress(sqlite3.Error, StoreUnavailableError):
            self._keep_log()
        self._database.close()

    def _connect(self) -> sqlite3.Connection:
        if self._failed:
            self._keep_log()
        is_new = self._database.is_closed()
        if is_new:
            self._guard.require_same_file()  # before a connection to another is opened
        connection: sqlite3.Connection = self._database.connection()
        if is_new:
            self._guard.know_log()
        return connection

    def _keep_log(self) -> None:
        """Save what is committed when somebody has removed the write-ahead log. Raise
        StoreUnavailableError when it can't be saved yet."""
        if self._log_was_removed():
            self._guard.save_log(self._database.connection())
            self._database.close()
            tell(StoreLogRemoved(saved=True))

    def _log_was_removed(self) -> bool:
        return not self._database.is_closed() and self._guard.log_was_removed()
