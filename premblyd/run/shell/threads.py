"""The threads in which hooks wait for their processes: one for each that runs at once."""

import asyncio
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

from premblyd.run.lack import LackError

T = TypeVar("T")


class Threads:
    """As many threads as there are things to run at once; they are kept for later ones.

    Not ThreadPoolExecutor: it takes the work first, and when it can make no thread for it, it
    raises, keeps the work, and runs it some time later.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._free = 0
        self._all: list[threading.Thread] = []
        self._work: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()

    async def run(self, work: Callable[[], T]) -> T:
        """Run `work` in a thread and return what it returns. Raise LackError when no thread can
        be made: then it is not run."""
        if self._free:
            self._free -= 1
        else:
            self._add()
        done: Future[T] = Future()
        self._work.put(lambda: _resolve(done, work))
        try:
            return await asyncio.wrap_future(done)
        finally:
            self._free += 1

    def close(self) -> None:
        """End all threads, when what they run has ended."""
        for _ in self._all:
            self._work.put(None)
        for thread in self._all:
            thread.join()

    def _add(self) -> None:
        thread = threading.Thread(target=self._serve, name=self._name)
        try:
            thread.start()
        except (RuntimeError, MemoryError):
            raise LackError("threads") from None
        self._all.append(thread)

    def _serve(self) -> None:
        while work := self._work.get():
            work()
            del work  # else what it holds would stay in memory until more work comes


def _resolve(done: "Future[T]", work: Callable[[], T]) -> None:
    # From here on who waits may be cancelled, but not `done`, which could take no result then.
    if not done.set_running_or_notify_cancel():
        return
    try:
        result = work()
    # Whatever it is, it is raised where the result is waited for.
    except Exception as error:  # noqa: BLE001
        done.set_exception(error)
    else:
        done.set_result(result)
