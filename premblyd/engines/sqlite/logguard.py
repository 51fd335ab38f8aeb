"""Watching over the write-ahead log of an open database: somebody may remove it."""

import contextlib
import os
import sqlite3
from pathlib import Path

from premblyd.engines.sqlite.files import Identity, beside, identity, real_path
from premblyd.errors import StoreUnavailableError

LOG_REMOVED = (
    "the database's -wal or -shm file was removed, and another program's reading delays saving it"
)
LOG_REPLACED = (
    "another program began a -wal file of its own beside the database; end it, move that file away"
)


class LogGuard:
    """Knows which files of a log a connection has open."""

    def __init__(self, path: Path) -> None:
        real = real_path(path)
        self._log_paths = (beside(real, "-wal"), beside(real, "-shm"))
        self._logs = self._log_identities()

    def remember_log(self) -> None:
        """Take the log that is there now to be that of a connection opened just now."""
        self._logs = self._log_identities()

    def is_own_log(self) -> bool:
        """Return whether the log beside the database is the connection's."""
        return identity(self._log_paths[0]) == self._logs[0]

    def log_was_removed(self) -> bool:
        """Return whether the connection's log is no longer the one beside the database."""
        return self._log_identities() != self._logs

    def save_log(self, connection: sqlite3.Connection) -> None:
        """Move all that is committed from a removed log into the database file: the log would be
        lost with this process. The connection is to be closed then, and a new one begins a new log.

        Raise StoreUnavailableError when it can't be saved yet.
        """
        busy, _, _ = connection.execute("PRAGMA wal_checkpoint(truncate)").fetchone()
        if busy:
            raise StoreUnavailableError(LOG_REMOVED)
        if self._is_other_log():
            raise StoreUnavailableError(LOG_REPLACED)

    def _is_other_log(self) -> bool:
        """Return whether another program wrote into a log of its own: what that holds is of an
        older state, and would spoil the database."""
        wal, _ = self._log_paths
        with contextlib.suppress(OSError):
            return identity(wal) != self._logs[0] and os.stat(wal).st_size > 0
        return False

    def _log_identities(self) -> tuple[Identity | None, ...]:
        return tuple(identity(path) for path in self._log_paths)
