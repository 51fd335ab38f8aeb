"""Whether the hook of a claim may start, and go on.

Between a claim and the start of its hook any time may pass: the machine may sleep, or a host be cut
off, so that others have taken the delivery over. So a runner asks at the last moment.
"""

import contextlib
import threading
from collections.abc import Awaitable, Callable, Iterator
from typing import Protocol

from premblyd.errors import PremblydError, StoreUnavailableError
from premblyd.model.states import AttemptOutcome
from premblyd.queue.jobs import Job, Result
from premblyd.run.children import Mark

TAKEN_OVER = "another host may have the delivery by now"
AGAIN_S = 5.0  # after the database could not tell: each try is a row on record
NOT_PROVED = "the database could not tell whether another host has the delivery"


class LapsedError(PremblydError):
    """The hook was not started: its claim is to be proved first."""


class Claim(Protocol):
    """What a daemon knows of a claim of its own."""

    def is_sure(self) -> bool:
        """Return whether it stands for certain. Any thread may ask."""

    async def prove(self) -> bool:
        """Ask the database whether it stands, which makes it sure again. Raise
        StoreUnavailableError when the database can't tell."""


class Permit:
    """What the hook of one claim needs to start. Without a `claim` nobody else can have it."""

    def __init__(self, claim: Claim | None = None) -> None:
        self._claim = claim
        self._ends: dict[Callable[[], object], Mark | None] = {}
        self._changing = threading.Lock()
        self.is_revoked = False

    def require(self) -> None:
        """Raise LapsedError unless the hook may start at this moment. Any thread may ask."""
        if self.is_revoked or (self._claim is not None and not self._claim.is_sure()):
            raise LapsedError

    async def run(self, start: Callable[[], Awaitable[Result]]) -> Result:
        """Return what `start` returns. When it raises LapsedError, prove the claim and call it
        again; a hook that may not start costs no attempt."""
        while True:
            try:
                return await start()
            except LapsedError:
                pass
            try:
                if self.is_revoked or self._claim is None or not await self._claim.prove():
                    return _interrupted(TAKEN_OVER)
            except StoreUnavailableError:
                return _interrupted(NOT_PROVED, AGAIN_S)

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
            return _interrupted(TAKEN_OVER)
        return result


FREE = Permit()  # of what no other host can have
Permits = Callable[[Job, float], Permit]  # of a job, and when its claim was asked for (boot_s)


def _interrupted(error: str, wait_s: float = 0) -> Result:
    return Result(outcome=AttemptOutcome.INTERRUPTED, error=error, retry_after_s=wait_s)
