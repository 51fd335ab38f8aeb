"""One timer for many times, which move often."""

import asyncio
from collections.abc import Callable, Iterable
from typing import NamedTuple


class Deadline(NamedTuple):
    """What is to happen, and when, by the loop's time."""

    at: float
    act: Callable[[], None]


class Alarm:
    """Acts at the first of `deadlines`, which are asked for anew each time."""

    def __init__(self, deadlines: Callable[[], Iterable[Deadline]]) -> None:
        self._deadlines = deadlines
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None

    def set(self, at: float | None = None) -> None:
        """Wake no later than the first is due: at `at`, where all others are as they were. Only one
        that came nearer moves the timer: that of a worker which answers moves away by each line."""
        due_at = at
        if due_at is None:
            due_at = min((deadline.at for deadline in self._deadlines()), default=None)
        if due_at is None or (self._timer is not None and self._timer.when() <= due_at):
            return
        self.cancel()
        self._timer = self._loop.call_at(due_at, self._wake)

    def cancel(self) -> None:
        """Wake no more, until it is set again."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _wake(self) -> None:
        self._timer = None
        now = self._loop.time()
        due = next((deadline for deadline in self._deadlines() if deadline.at <= now), None)
        if due is not None:
            due.act()
        self.set()
