"""The signals of a daemon's process: none of them is lost, however many come, and none ends it that
is not meant to.

asyncio passes a signal on as a byte in a pipe, which may be full. Python itself keeps one note for
each kind of signal, so the handlers here are Python's own.
"""

import asyncio
import contextlib
import signal
import socket
from collections.abc import Callable
from types import FrameType
from typing import Self

from premblyd.occurrences import SignalIgnored
from premblyd.telemetry import tell

RELOAD = signal.SIGHUP
STOP = (signal.SIGTERM, signal.SIGINT)
# They end a process that does not handle them, and logrotate's recipes send them.
IGNORED = (signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM)
HELD = frozenset({RELOAD, *IGNORED})  # they wait in the kernel until a daemon has begun


class Signals:
    """What signals ask for, on the loop of the main thread. Entered for as long as they count."""

    def __init__(self) -> None:
        self.stop = asyncio.Event()
        self.reload = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._told: set[int] = set()
        self._waking, self._wakes = socket.socketpair()

    def __enter__(self) -> Self:
        for end in (self._waking, self._wakes):
            end.setblocking(False)
        self._loop.add_reader(self._waking, self._waking.recv, 4096)
        # Only wakes the loop, so that the handlers below run. Full, it wakes as well.
        signal.set_wakeup_fd(self._wakes.fileno(), warn_on_full_buffer=False)
        for number in STOP:
            signal.signal(number, self._handler(self.stop.set))
        for number in IGNORED:
            signal.signal(number, self._ignore)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, IGNORED)
        return self

    def __exit__(self, *_: object) -> None:
        signal.set_wakeup_fd(-1)
        self._loop.remove_reader(self._waking)
        self._waking.close()
        self._wakes.close()

    def take_reloads(self) -> None:
        """Take what asks for a reload from now on, and what has asked for one since the start."""
        signal.signal(RELOAD, self._handler(self.reload.set))
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {RELOAD})

    def _handler(self, work: Callable[[], None]) -> Callable[[int, FrameType | None], None]:
        def handle(_: int, __: FrameType | None) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: the process ends
                self._loop.call_soon_threadsafe(work)

        return handle

    def _ignore(self, number: int, _: FrameType | None) -> None:
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._tell_ignored, number)

    def _tell_ignored(self, number: int) -> None:
        if number not in self._told:
            self._told.add(number)
            tell(SignalIgnored(signal=signal.Signals(number).name))
