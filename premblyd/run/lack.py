"""Waiting for what the machine lacks for a moment: descriptors, processes, threads, memory."""

import asyncio
import errno
import os
from collections.abc import Awaitable, Callable

from premblyd.errors import PremblydError
from premblyd.model.states import AttemptOutcome
from premblyd.occurrences import DaemonWaits
from premblyd.queue.jobs import Result
from premblyd.telemetry import tell

FIRST_PAUSE_S = 0.05
MAX_PAUSE_S = 1.0
PATIENCE_S = 20.0  # then the delivery goes back to the queue, before its lease ends
TRY_AGAIN_AFTER_S = 5.0
LOG_EVERY_S = 10.0
_LACKED = {
    errno.EMFILE: "file descriptors",
    errno.ENFILE: "file descriptors",
    errno.EAGAIN: "processes",
    errno.ENOMEM: "memory",
    errno.ENOBUFS: "memory",
    # While somebody exchanges the program or the links to it:
    errno.ETXTBSY: "a program that nobody is writing to",
    errno.ELOOP: "a way to the program without a loop of links",
}


class LackError(PremblydError):
    """The hook was not started, because the machine lacks something. Try again soon."""


def what_is_lacking(error: BaseException) -> str | None:
    """Return what the machine lacks, if that is why `error` was raised."""
    if isinstance(error, LackError):
        return str(error)
    if isinstance(error, MemoryError):
        return "memory"
    return _LACKED.get(error.errno or 0) if isinstance(error, OSError) else None


def require_descriptor() -> None:
    """Raise LackError when no file can be opened now: a library's own error would not tell that."""
    try:
        os.close(os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC))
    except OSError as error:
        if what := what_is_lacking(error):
            raise LackError(what) from None


def not_run(what: str) -> Result:
    """Return the result of a hook that was not run because the machine lacks `what`: it costs no
    attempt."""
    return Result(
        outcome=AttemptOutcome.INTERRUPTED,
        error=f"the machine lacks {what}",
        retry_after_s=TRY_AGAIN_AFTER_S,
    )


class Patience:
    """Tries again and again to start hooks while the machine lacks what they need."""

    def __init__(self) -> None:
        self._stopping = asyncio.Event()
        self._logged_at = float("-inf")

    def end(self) -> None:
        """Wait for nothing any more: the daemon stops."""
        self._stopping.set()

    async def run(self, start: Callable[[], Awaitable[Result]]) -> Result:
        """Return what `start` returns. While it raises LackError, call it again, a little later
        each time; after `PATIENCE_S` give up, at no cost of an attempt."""
        loop = asyncio.get_running_loop()
        end = loop.time() + PATIENCE_S
        pause_s = FIRST_PAUSE_S
        while True:
            try:
                return await start()
            except LackError as lack:
                what = str(lack)
            if loop.time() > self._logged_at + LOG_EVERY_S:
                self._logged_at = loop.time()
                tell(DaemonWaits(part="hooks", lacks=what))
            if self._stopping.is_set() or loop.time() > end:
                return not_run(what)
            try:
                async with asyncio.timeout(pause_s):
                    await self._stopping.wait()
            except TimeoutError:
                pause_s = min(2 * pause_s, MAX_PAUSE_S)
