"""Reading beside the daemon's work: a few connections, each with a thread and a limit of time, so
that people who look at the record slow down neither the loop nor the writer. What the database does
is interrupted then."""

import asyncio
import contextlib
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from premblyd.ground.errors import PremblydError, TryAgainError
from premblyd.store.connections import translated
from premblyd.store.engine import Backend, Database

Found = TypeVar("Found")


COUNT = 2
TIME_LIMIT_S = 3.0
AGAIN_S = 0.05
MAX_WAITING = 32
_TOO_SLOW = "That took too long, so it was stopped. Ask for less: a shorter time, another filter."


class TooBusyError(TryAgainError):
    """More people look at the record at once than it answers. Try again in a moment."""


class TooSlowError(TryAgainError):
    """Reading took too long and was stopped. Ask for less: a shorter time, a filter."""


class _Reader:
    """One connection and its thread, for one piece of work at a time."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._thread = ThreadPoolExecutor(1, "premblyd-reader")
        self._database: Database | None = None
        self._stop_reading: Callable[[], None] | None = None
        self._alarm: asyncio.TimerHandle | None = None
        self._is_late = False
        self._was_late = False

    async def run(self, work: Callable[[Database], Found], time_limit_s: float) -> Found:
        """Return what `work` makes of the database. All its work has this time: what it reads, and
        what it makes of that."""
        loop = asyncio.get_running_loop()
        self._was_late, self._is_late = self._is_late, False
        self._alarm = loop.call_later(time_limit_s, self._interrupt, loop)
        try:
            return await loop.run_in_executor(self._thread, self._work, work)
        finally:
            self._alarm.cancel()

    def close(self) -> None:
        self._thread.submit(self._disconnect)
        self._thread.shutdown()

    def _work(self, work: Callable[[Database], Found]) -> Found:
        if self._was_late:  # to stop what is read may have ended the connection
            self._disconnect()
        is_new = self._database is None
        try:
            return self._read(work)
        except TryAgainError:
            # A server may have been restarted since, or a file put back.
            self._disconnect()
            if is_new or self._is_late:
                raise
            return self._read(work)

    def _read(self, work: Callable[[Database], Found]) -> Found:
        try:
            if self._database is None:
                self._database = self._backend.connect_read_only()
                self._stop_reading = self._database.interrupter()
            if self._is_late:  # there was nothing yet to be stopped
                raise TooSlowError(_TOO_SLOW)
            return work(self._database)
        except PremblydError:
            if self._is_late:
                raise TooSlowError(_TOO_SLOW) from None
            raise

    def _interrupt(self, loop: asyncio.AbstractEventLoop) -> None:
        """Stop what the thread reads, until it has ended: SQLite forgets it where no statement runs
        at that moment. (Nothing new begins there before the loop has seen the end of what runs.)"""
        self._is_late = True
        self._alarm = loop.call_later(AGAIN_S, self._interrupt, loop)
        if (stop_reading := self._stop_reading) is not None:
            stop_reading()

    def _disconnect(self) -> None:
        self._stop_reading = None
        if self._database is not None:
            with contextlib.suppress(PremblydError), translated():
                self._database.close()
            self._database = None


class Readers:
    """A few readers, given to who asks in turn."""

    def __init__(
        self, backend: Backend, *, count: int = COUNT, time_limit_s: float = TIME_LIMIT_S
    ) -> None:
        self._readers = [_Reader(backend) for _ in range(count)]
        self._free: asyncio.Queue[_Reader] = asyncio.Queue()
        for reader in self._readers:
            self._free.put_nowait(reader)
        self.time_limit_s = time_limit_s
        self._running: set[asyncio.Task[object]] = set()

    def for_page(self) -> "PageReader":
        """Return what one page reads by: all its works together have the limit of time."""
        return PageReader(self)

    async def run(
        self, work: Callable[[Database], Found], page: "PageReader | None" = None
    ) -> Found:
        """Return what `work` reads. Raise TooBusyError when too many wait, TooSlowError after the
        limit of time, and what `work` raises."""
        if len(self._running) >= MAX_WAITING:
            raise TooBusyError("Too many people read the record at once. Try again in a moment.")
        # A task of its own: whoever waits may be cancelled, and the thread can't be.
        task = asyncio.create_task(self._run(work, page or self.for_page()))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return await asyncio.shield(task)

    async def _run(self, work: Callable[[Database], Found], page: "PageReader") -> Found:
        reader = await self._free.get()
        began_s = time.monotonic()
        try:
            if page.left_s <= 0:
                raise TooSlowError(_TOO_SLOW)
            return await reader.run(work, page.left_s)
        finally:
            page.left_s -= time.monotonic() - began_s
            self._free.put_nowait(reader)

    async def close(self) -> None:
        """End the threads, after what they read."""
        await asyncio.gather(*self._running, return_exceptions=True)
        for reader in self._readers:
            await asyncio.to_thread(reader.close)


class PageReader:
    """Reads for one page. What waits for a reader takes nothing of its time."""

    def __init__(self, readers: Readers) -> None:
        self._readers = readers
        self.left_s = readers.time_limit_s

    async def run(self, work: Callable[[Database], Found]) -> Found:
        """Do as `Readers.run`, within what is left of the page's time."""
        return await self._readers.run(work, self)
