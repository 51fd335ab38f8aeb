"""The daemon's loops: what runs beside the requests for as long as the daemon does."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine
from types import TracebackType
from typing import Any, Self

from premblyd.ground.errors import PremblydError, StoreUnavailableError
from premblyd.ground.telemetry import tell


class Loops:
    """One task group for all of them, so that no daemon goes on when any has ended.

    Entered by the daemon (`async with`). A loop that fails, or that ends while the daemon runs,
    is logged and interrupts whatever the daemon waits for; leaving then raises PremblydError.
    """

    def __init__(self) -> None:
        self._group = asyncio.TaskGroup()
        self._tasks: list[asyncio.Task[None]] = []
        self._ending = False

    async def __aenter__(self) -> Self:
        await self._group.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End all loops and wait until they have ended."""
        self.may_end()
        for task in self._tasks:
            task.cancel()
        try:
            await self._group.__aexit__(kind, error, traceback)
        except BaseExceptionGroup as failed:
            if error not in failed.exceptions:  # else `error` itself propagates
                raise PremblydError("A part of the daemon failed; the log says which.") from None

    def start(self, name: str, loop: Coroutine[Any, Any, None]) -> None:
        """Run `loop` until the daemon stops."""
        self._tasks.append(self._group.create_task(self._watch(name, loop), name=name))

    def may_end(self) -> None:
        """The daemon stops: a loop that ends from now on does what it should."""
        self._ending = True

    async def _watch(self, name: str, loop: Coroutine[Any, Any, None]) -> None:
        try:
            await loop
            if not self._ending:
                raise RuntimeError("a loop ended by itself")
        except Exception as error:  # whatever it is, it ends the daemon, and the log says so first
            tell("daemon.failed", part=name, cause=error)
            raise


async def repeat(
    work: Callable[[], Awaitable[float | None]],
    pause_s: float,
    *,
    first_s: float = 0,
    wake: asyncio.Event | None = None,
    failed: str | Callable[[Exception], None] | None = None,
) -> None:
    """Do rounds of `work`, which returns the seconds until the next, or None: that was the last.
    The first one is after `first_s`; none waits once `wake` is set.

    After a round without the database, which the writer has logged, pause. After one that fails
    otherwise too, if there is a `failed` for it (a log event's name, or a function): webhooks go on
    coming. Else it is raised.
    """
    wake = wake or asyncio.Event()
    wait_s: float | None = first_s
    while wait_s is not None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                await wake.wait()
        wake.clear()
        try:
            wait_s = await work()
        except StoreUnavailableError:
            wait_s = pause_s
        except Exception as error:
            if failed is None:
                raise
            tell(failed, cause=error) if isinstance(failed, str) else failed(error)
            wait_s = pause_s
