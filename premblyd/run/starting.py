"""What must hold before a hook starts: nobody else has its delivery (`Permit`), and the machine has
files, processes and memory for it (`Patience`).

Between a claim and the start of its hook any time may pass: the machine may sleep, or a host be cut
off, so that others have taken the delivery over; or a worker process takes long to start, and the
person is erased meanwhile. So a runner asks at the last moment. What is not started costs no
attempt.
"""

import asyncio
import contextlib
import errno
import threading
from collections.abc import Awaitable, Callable, Iterator
from typing import Protocol

from premblyd.ground.errors import PremblydError, StoreUnavailableError
from premblyd.queue.jobs import LACKS, Job, Result
from premblyd.run.process import Mark
from premblyd.store.states import AttemptOutcome

TAKEN_OVER = "another host may have the delivery by now"
NOT_OURS = f"{TAKEN_OVER}, or its person was erased"
NOT_PROVED = "the database could not tell whether another host has the delivery"
AGAIN_S = 5.0  # after that, as each try is a row on record; and after the machine lacked something
PAUSE_S = 1.0
MOST_TRIES = 20  # then the delivery goes back to the queue, before its lease ends
_LACKED = {
    errno.EMFILE: "file descriptors",
    errno.ENFILE: "file descriptors",
    errno.EAGAIN: "processes",
    errno.ENOMEM: "memory",
    errno.ENOBUFS: "memory",
    errno.ETXTBSY: "a program that nobody is writing to",  # while somebody exchanges it
}


class LapsedError(PremblydError):
    """The hook was not started: its claim is to be proved first."""


class LackError(PremblydError):
    """The hook was not started, because the machine lacks something. Try again soon."""


class Claim(Protocol):
    """What a daemon knows of a claim of its own."""

    def is_sure(self) -> bool:
        """Return whether it stands for certain. Any thread may ask."""

    async def prove(self) -> bool:
        """Ask the database whether it stands, which makes it sure again. Raise
        StoreUnavailableError when the database can't tell."""


class Permit:
    """What the hook of one claim needs to start. Without a `claim` nothing can be against it."""

    def __init__(self, claim: Claim | None = None) -> None:
        self._claim = claim
        self._ends: dict[Callable[[], object], Mark | None] = {}
        self._changing = threading.Lock()
        self.is_revoked = False

    def holds(self) -> bool:
        """Return whether the hook may start at this moment. Any thread may ask."""
        return not self.is_revoked and (self._claim is None or self._claim.is_sure())

    def require(self) -> None:
        """Raise LapsedError unless the hook may start at this moment. Any thread may ask."""
        if not self.holds():
            raise LapsedError

    async def prove(self) -> Result | None:
        """Prove the claim. Return how the run ends if the hook may not start."""
        try:
            if self.is_revoked or self._claim is None:
                return _not_run(TAKEN_OVER)
            if not await self._claim.prove():
                return _not_run(NOT_OURS)
        except StoreUnavailableError:
            return _not_run(NOT_PROVED, AGAIN_S)
        return None

    def revoke(self) -> None:
        """End the hook, or let it not start: this daemon has lost the delivery, or may have."""
        with self._changing:
            self.is_revoked = True
            for end in self._ends:
                end()

    @property
    def marks(self) -> set[Mark]:
        """The marks of the processes that end when it is revoked."""
        with self._changing:
            return {mark for mark in self._ends.values() if mark is not None}

    @contextlib.contextmanager
    def ends_by(self, end: Callable[[], object], mark: Mark | None = None) -> Iterator[None]:
        """Have `end` called, by any thread, if the permit is revoked while this is entered, or was
        before. `mark`: of the process that it ends."""
        with self._changing:
            self._ends[end] = mark
            if self.is_revoked:
                end()
        try:
            yield
        finally:
            with self._changing:
                del self._ends[end]

    def judged(self, result: Result) -> Result:
        """Return how a run counts that ended with `result`: what was ended by `revoke` costs no
        attempt."""
        if self.is_revoked and result.outcome is not AttemptOutcome.SUCCEEDED:
            return _not_run(TAKEN_OVER)
        return result


FREE = Permit()  # of what is no delivery
Permits = Callable[[Job, float], Permit]  # of a job, and when its claim was asked for (boot_s)


def _not_run(error: str, wait_s: float = 0) -> Result:
    return Result(outcome=AttemptOutcome.INTERRUPTED, error=error, retry_after_s=wait_s)


def lacking(what: str) -> Result:
    """Return how the run of a hook ends that was not started because the machine lacks `what`."""
    return _not_run(f"{LACKS}{what}", AGAIN_S)


def what_is_lacking(error: BaseException) -> str | None:
    """Return what the machine lacks, if that is why `error` was raised."""
    if isinstance(error, LackError):
        return str(error)
    if isinstance(error, MemoryError):
        return "memory"
    return _LACKED.get(error.errno or 0) if isinstance(error, OSError) else None


class Patience:
    """Tries again and again to start hooks while the machine lacks what they need."""

    def __init__(self) -> None:
        self._stopping = asyncio.Event()

    def end(self) -> None:
        """Wait for nothing any more: the daemon stops."""
        self._stopping.set()

    async def run(self, permit: Permit, start: Callable[[], Awaitable[Result]]) -> Result:
        """Return what `start` returns. When it raises LapsedError, prove the claim and call it
        again. While it raises LackError, call it again a little later. Give up in the end."""
        lacked: str | None = None
        for _ in range(MOST_TRIES):
            try:
                return await start()
            except LapsedError:
                if (refused := await permit.prove()) is not None:
                    return refused
            except LackError as lack:
                lacked = str(lack)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(PAUSE_S):
                        await self._stopping.wait()
                        break
        return _not_run(NOT_PROVED, AGAIN_S) if lacked is None else lacking(lacked)
