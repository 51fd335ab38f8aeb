"""The signals of a daemon's process: none of them is lost, however many come, and none ends it that
is not meant to.

asyncio passes a signal on as a byte in a pipe, which may be full. Python itself keeps one note for
each kind of signal, so the handlers here are Python's own. They are a method of a dict, which is
written in C: a function in Python is interrupted by the handler of the next signal, that one by the
next, and so on, until Python raises RecursionError in one of them, which may be that of a stop.
"""

import asyncio
import contextlib
import signal
import socket
from types import FrameType
from typing import Self

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
        self._came: dict[int, FrameType | None] = {}  # the numbers of signals, until they are taken
        self._waking, self._wakes = socket.socketpair()

    def __enter__(self) -> Self:
        for end in (self._waking, self._wakes):
            end.setblocking(False)
        self._loop.add_reader(self._waking, self._wake)
        # Only wakes the loop. Full, it wakes as well.
        signal.set_wakeup_fd(self._wakes.fileno(), warn_on_full_buffer=False)
        for number in (*STOP, *IGNORED):
            signal.signal(number, self._came.setdefault)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, IGNORED)
        return self

    def __exit__(self, *_: object) -> None:
        for number in HELD:  # which Python, at its end, would let end the process
            signal.signal(number, signal.SIG_IGN)
        signal.set_wakeup_fd(-1)
        self._loop.remove_reader(self._waking)
        self._waking.close()
        self._wakes.close()

    def take_reloads(self) -> None:
        """Take what asks for a reload from now on, and what has asked for one since the start."""
        signal.signal(RELOAD, self._came.setdefault)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {RELOAD})

    def _wake(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self._waking.recv(4096)
        self._take()  # by a call: before one, Python runs the handlers of what woke this

    def _take(self) -> None:
        while self._came:
            number, _ = self._came.popitem()
            if number in STOP:
                self.stop.set()
            elif number == RELOAD:
                self.reload.set()
            else:
                self._tell_ignored(number)

    def _tell_ignored(self, number: int) -> None:
        if number not in self._told:
            self._told.add(number)
            tell("daemon.signal_ignored", signal=signal.Signals(number).name)
