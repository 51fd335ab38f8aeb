"""The one thread that writes: it commits everything that waits as one transaction.

The loop never waits for a disk, and one fsync serves every request that came meanwhile.
"""

import asyncio
import queue
import sqlite3
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peewee import PeeweeException

from premblyd.errors import StoreUnavailableError
from premblyd.logs import get_logger
from premblyd.store import database

MAX_BATCH = 500
Operation = Callable[[sqlite3.Connection], Any]
log = get_logger()


@dataclass(slots=True)
class _Waiting:
    operation: Operation
    future: "asyncio.Future[Any]"
    result: Any = None
    error: Exception | None = None


class Writer:
    """Runs operations on the database, in order, in a thread of its own.

    An operation may run twice: when another one of its transaction fails, the transaction is
    rolled back and each is tried alone. So it must do nothing but work on its connection.
    """

    def __init__(self, path: Path) -> None:
        self.last_error: str | None = None
        self._path = path
        self._database = database.connect(path)
        self._identity = _identity(path)
        self._queue: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._run, name="premblyd-writer", daemon=True)
        self._thread.start()

    def submit(self, operation: Operation) -> "asyncio.Future[Any]":
        """Run `operation` in the next transaction. The future resolves after the commit, with
        what it returned; it fails with StoreUnavailableError when nothing could be kept."""
        waiting = _Waiting(operation, self._loop.create_future())
        self._queue.put(waiting)
        return waiting.future

    async def close(self) -> None:
        """Commit what waits, then close the database."""
        self._queue.put(None)
        await asyncio.to_thread(self._thread.join)

    def _run(self) -> None:
        open_ = True
        while open_:
            batch = [self._queue.get()]
            while len(batch) < MAX_BATCH:
                try:
                    batch.append(self._queue.get_nowait())
                except queue.Empty:
                    break
            open_ = None not in batch
            waiting = [one for one in batch if one is not None]
            if waiting:
                self._commit(waiting)
                self._loop.call_soon_threadsafe(_resolve, waiting)
        self._database.close()

    def _commit(self, batch: list[_Waiting]) -> None:
        """Commit `batch` as one transaction, or, when one of it is faulty, each alone."""
        try:
            self._transact(batch)
            self._report(None)
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

    def _transact(self, batch: list[_Waiting]) -> None:
        try:
            connection = self._database.connection()
            connection.execute("BEGIN IMMEDIATE")
            try:
                for waiting in batch:
                    waiting.result = waiting.operation(connection)
                if _identity(self._path) != self._identity:
                    raise StoreUnavailableError(
                        "the database file was removed or replaced; put it back or restart"
                    )
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
        except (sqlite3.IntegrityError, sqlite3.ProgrammingError, sqlite3.DataError):
            raise  # the operation's own fault
        except (sqlite3.Error, PeeweeException) as error:
            self._database.close()  # after an I/O error only a new connection is sure to recover
            raise StoreUnavailableError(str(error)) from None

    def _report(self, reason: str | None) -> None:
        if reason != self.last_error:
            if reason:
                log.error("store.unavailable", reason=reason)
            else:
                log.info("store.recovered")
        self.last_error = reason


def _resolve(batch: list[_Waiting]) -> None:
    for waiting in batch:
        if waiting.future.done():
            continue
        if waiting.error is not None:
            waiting.future.set_exception(waiting.error)
        else:
            waiting.future.set_result(waiting.result)


def _identity(path: Path) -> tuple[int, int] | None:
    """Return which file `path` names now: commits to a removed file succeed, and are lost."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino
