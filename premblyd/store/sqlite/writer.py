"""The one thread that writes: it commits everything that waits as one transaction.

The loop never waits for a disk, and one fsync serves every request that came meanwhile.
"""

import asyncio
import contextlib
import os
import queue
import sqlite3
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from peewee import PeeweeException

from premblyd.errors import StoreUnavailableError
from premblyd.logs import get_logger
from premblyd.store.sqlite import opening as database

MAX_BATCH = 500
ENOUGH = 32  # so many need not wait for others: the disk works while the loop takes more
CHECKPOINT_AFTER = 40  # items: small steps; 160 take 9 ms beside a million events
LOG_REMOVED = (
    "the database's -wal or -shm file was removed, and another program's reading delays saving it"
)
LOG_REPLACED = (
    "another program began a -wal file of its own beside the database; end it, move that file away"
)
Item = TypeVar("Item")
Done = TypeVar("Done")
Operation = Callable[[sqlite3.Connection, list[Item]], list[Done]]
log = get_logger()


@dataclass(slots=True)
class _Waiting:
    operation: Operation[Any, Any]
    item: Any
    future: "asyncio.Future[Any]"
    result: Any = None
    error: Exception | None = None


class Writer:
    """Runs operations on the database in a thread of its own.

    An operation takes all items that wait for it at once, and returns a result for each: many
    rows in one statement cost one change of threads instead of one each. It may run twice: when
    something in its transaction fails, that is rolled back and each item is tried alone. So it
    must do nothing but work on its connection.
    """

    def __init__(self, path: Path) -> None:
        self.last_error: str | None = None
        self.failed_at = float("-inf")  # on the monotonic clock
        self._path = path
        self._database = database.connect(path)
        self._identity = _identity(path)
        real = os.path.realpath(path)  # SQLite puts its other files beside that
        self._log_paths = (f"{real}-wal", f"{real}-shm")
        self._log_identity = _log_identity(self._log_paths)
        self._gathered: list[_Waiting] = []
        self._handing_over = False
        self._committing = False
        self._batches: queue.SimpleQueue[list[_Waiting] | None] = queue.SimpleQueue()
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._run, name="premblyd-writer", daemon=True)
        self._thread.start()

    def submit(self, operation: Operation[Item, Done], item: Item) -> "asyncio.Future[Done]":
        """Run `operation` with `item` in the next transaction. The future resolves after the
        commit; it fails with StoreUnavailableError when nothing could be kept."""
        waiting = _Waiting(operation, item, self._loop.create_future())
        self._gathered.append(waiting)
        if len(self._gathered) == ENOUGH:
            self._hand_over()
        elif not self._handing_over:
            # At the end of this round of the loop: what else it brings joins the transaction.
            self._handing_over = True
            self._loop.call_soon(self._end_round)
        return waiting.future

    def call(self, operation: Callable[[sqlite3.Connection], Done]) -> "asyncio.Future[Done]":
        """Like `submit`, for an operation that is not gathered with others."""
        future: asyncio.Future[Done] = self.submit(_each, operation)
        return future

    async def close(self) -> None:
        """Commit what waits, then close the database."""
        while self._gathered or self._committing:
            await asyncio.sleep(0.001)
        self._batches.put(None)
        await asyncio.to_thread(self._thread.join)

    def _end_round(self) -> None:
        self._handing_over = False
        self._hand_over()

    def _hand_over(self) -> None:
        if self._gathered and not self._committing:
            batch, self._gathered = self._gathered[:MAX_BATCH], self._gathered[MAX_BATCH:]
            self._committing = True
            self._batches.put(batch)

    def _committed(self, batch: list[_Waiting]) -> None:
        self._committing = False
        self._hand_over()
        for waiting in batch:
            if waiting.future.done():
                continue
            if waiting.error is not None:
                waiting.future.set_exception(waiting.error)
            else:
                waiting.future.set_result(waiting.result)

    def _run(self) -> None:
        unmoved = 0
        while batch := self._batches.get():
            try:
                self._commit(batch)
            # Whatever it is, those who wait must be told, and the thread must go on.
            except Exception as error:
                for waiting in batch:
                    waiting.error = StoreUnavailableError(type(error).__name__)
                log.error("store.operation_failed", exc_info=error)
            self._loop.call_soon_threadsafe(self._committed, batch)
            unmoved += len(batch)
            if unmoved >= CHECKPOINT_AFTER:
                self._checkpoint()
                unmoved = 0
        with contextlib.suppress(sqlite3.Error, StoreUnavailableError):
            self._keep_log()
        self._database.close()

    def _checkpoint(self) -> None:
        """Move the write-ahead log into the database file, while the loop answers: left to
        itself, SQLite does it within a COMMIT, and what was committed waits 10 ms for nothing."""
        # A disk that fails is the next commit's to report; what is in the log is safe there.
        with contextlib.suppress(sqlite3.Error):
            if not self._database.is_closed():
                self._database.connection().execute("PRAGMA wal_checkpoint(passive)").fetchone()

    def _commit(self, batch: list[_Waiting]) -> None:
        """Commit `batch` as one transaction, or, when one of it is faulty, each alone."""
        try:
            self._transact(batch)
        except StoreUnavailableError as error:
            self._report(error.reason)
            for waiting in batch:
                waiting.error = error
        # Whatever one operation raises must fail that operation, and not the writer.
        except Exception as error:
            if len(batch) == 1:
                log.error("store.operation_failed", exc_info=error)
                batch[0].error = error
                return
            for waiting in batch:
                self._commit([waiting])
        else:
            self._report(None)

    def _transact(self, batch: list[_Waiting]) -> None:
        try:
            connection = self._connect()
            with connection:  # commits, or rolls back whatever happens
                connection.execute("BEGIN IMMEDIATE")
                for operation, group in _by_operation(batch).items():
                    results = operation(connection, [waiting.item for waiting in group])
                    for waiting, result in zip(group, results, strict=True):
                        waiting.result = result
                self._require_same_file()
            self._keep_log()
        except (sqlite3.IntegrityError, sqlite3.ProgrammingError, sqlite3.DataError):
            raise  # the operation's own fault
        except MemoryError:  # sqlite3's too; it passes
            if len(batch) > 1:
                raise  # each alone may have enough
            raise StoreUnavailableError("there is not enough memory") from None
        except (sqlite3.Error, PeeweeException) as error:
            # After an I/O error only a new connection is sure to recover. But where the log has
            # no name any more, this one alone has what is in it.
            if not self._log_was_removed():
                self._database.close()
            raise StoreUnavailableError(database.plain(error)) from None

    def _connect(self) -> sqlite3.Connection:
        if self.last_error:
            self._keep_log()
        is_new = self._database.is_closed()
        if is_new:
            self._require_same_file()  # before a connection to another is opened
        connection: sqlite3.Connection = self._database.connection()
        if is_new:
            self._log_identity = _log_identity(self._log_paths)
        return connection

    def _keep_log(self) -> None:
        """Save what is committed when somebody has removed the write-ahead log, which would be
        lost with this process: move it all into the database file, and begin a new log.

        Raise StoreUnavailableError when it can't be saved yet.
        """
        if not self._log_was_removed():
            return
        self._require_same_file()
        busy, _, _ = (
            self._database.connection().execute("PRAGMA wal_checkpoint(truncate)").fetchone()
        )
        if busy:
            raise StoreUnavailableError(LOG_REMOVED)
        if self._is_other_log():
            raise StoreUnavailableError(LOG_REPLACED)
        self._database.close()
        log.error("store.log_removed", saved=True)

    def _log_was_removed(self) -> bool:
        """Return whether the open connection's log is no longer the one beside the database."""
        return (
            not self._database.is_closed() and _log_identity(self._log_paths) != self._log_identity
        )

    def _is_other_log(self) -> bool:
        """Return whether another program wrote into a log of its own: what that holds is of an
        older state, and would spoil the database."""
        wal, _ = self._log_paths
        with contextlib.suppress(OSError):
            return _identity(wal) != self._log_identity[0] and os.stat(wal).st_size > 0
        return False

    def _require_same_file(self) -> None:
        if _identity(self._path) != self._identity:
            raise StoreUnavailableError(
                "the database file was removed or replaced; put it back or restart"
            )

    def _report(self, reason: str | None) -> None:
        if reason:
            self.failed_at = time.monotonic()
        if reason != self.last_error:
            if reason:
                log.error("store.unavailable", reason=reason)
            else:
                log.info("store.recovered")
        self.last_error = reason


def _each(
    connection: sqlite3.Connection, operations: list[Callable[[sqlite3.Connection], Any]]
) -> list[Any]:
    return [operation(connection) for operation in operations]


def _by_operation(batch: list[_Waiting]) -> dict[Operation[Any, Any], list[_Waiting]]:
    groups: dict[Operation[Any, Any], list[_Waiting]] = {}
    for waiting in batch:
        groups.setdefault(waiting.operation, []).append(waiting)
    return groups


def _identity(path: Path | str) -> tuple[int, int] | None:
    """Return which file `path` names now: commits to a removed file succeed, and are lost."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _log_identity(paths: tuple[str, str]) -> tuple[tuple[int, int] | None, ...]:
    return tuple(_identity(path) for path in paths)
