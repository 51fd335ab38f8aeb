"""Virtual time, and a loop that has no other: it jumps to what is due next.

Three clocks: that of the machine, which counts its sleep (CLOCK_BOOTTIME); that of the loop, which
does not (monotonic); and the wall's, which can be set, and stand still.
"""

import asyncio
import heapq
import itertools
import math
import os
import random
import selectors
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

from premblyd.ground import httpclient  # noqa: F401 (what it imports reads the real clocks)

SECOND = 1_000_000_000
MOST_AWAITS = 50
BEGIN_NS = 1_780_000_000 * SECOND  # what the wall's clock says first


class Crash(KeyboardInterrupt):
    """The process is killed: here, between any two instructions that wait or commit. (Asyncio lets
    no other exception out of a task.)"""


class Clocks:
    """What the clocks of one machine say."""

    def __init__(self) -> None:
        self.boot_ns = self.mono_ns = 3600 * SECOND
        self.wall_ns = BEGIN_NS
        self.wall_stands = self.is_asleep = False

    def advance(self, ns: int, *, asleep: bool) -> None:
        self.boot_ns += ns
        self.mono_ns += 0 if asleep or self.is_asleep else ns
        self.wall_ns += 0 if self.wall_stands else ns


class Time:
    """All clocks, and what happens in the world at which time. `own`: of the machine that is at
    work now."""

    def __init__(self) -> None:
        self.true_ns = 0  # nobody sees it
        self.own = Clocks()
        self.machines = [self.own]
        self._agenda: list[tuple[int, int, Callable[[], None]]] = []
        self._count = itertools.count()

    @property
    def now_s(self) -> float:
        """The true time, from 0."""
        return self.true_ns / SECOND

    def at(self, in_s: float, act: Callable[[], None]) -> None:
        """Have `act` happen in so many seconds."""
        due_ns = self.true_ns + max(0, round(in_s * SECOND))
        heapq.heappush(self._agenda, (due_ns, next(self._count), act))

    def advance(self, ns: int, *, asleep: bool = False) -> None:
        """Let time pass."""
        self.true_ns += ns
        for clocks in self.machines:
            clocks.advance(ns, asleep=asleep)

    def pass_until(self, true_ns: int) -> bool:
        """Go on to the next thing in the world, if it is not after this, and let it happen; else to
        this. Return whether something happened."""
        if not self._agenda or self._agenda[0][0] > true_ns:
            self.advance(max(0, true_ns - self.true_ns))
            return False
        due_ns, _, act = heapq.heappop(self._agenda)
        self.advance(max(0, due_ns - self.true_ns))
        act()
        return True

    def restart_machine(self) -> None:
        self.own.boot_ns = self.own.mono_ns = 20 * SECOND

    @contextmanager
    def instead_of_real(self, rng: random.Random) -> Iterator[None]:
        """Have the process read these clocks, and nothing random but `rng`, while it is entered."""

        def clock_ns(which: int) -> int:
            if which == time.CLOCK_REALTIME:
                return self.own.wall_ns
            return self.own.boot_ns if which == time.CLOCK_BOOTTIME else self.own.mono_ns

        fakes: Any = {
            "monotonic": lambda: self.own.mono_ns / SECOND,
            "monotonic_ns": lambda: self.own.mono_ns,
            "perf_counter": lambda: self.own.mono_ns / SECOND,
            "time": lambda: self.own.wall_ns / SECOND,
            "time_ns": lambda: self.own.wall_ns,
            "clock_gettime": lambda which: clock_ns(which) / SECOND,
            "clock_gettime_ns": clock_ns,
            "sleep": lambda _: None,
        }
        with (
            mock.patch.multiple(time, **fakes),
            mock.patch.object(os, "urandom", rng.randbytes),
            mock.patch.object(random, "_urandom", rng.randbytes),
        ):
            yield


class _Ready(deque[Any]):
    """The callbacks that a loop runs next. Between any two of them the process may be killed."""

    kill_in = -1  # callbacks; negative: not now

    def popleft(self) -> Any:
        if self.kill_in >= 0:
            self.kill_in -= 1
            if self.kill_in < 0:
                raise Crash
        return super().popleft()


class _Selector(selectors.SelectSelector):
    """Watches nothing: whoever waits lets virtual time pass."""

    def __init__(self, at: Time) -> None:
        super().__init__()
        self._time = at

    def select(self, timeout: float | None = None) -> list[Any]:
        if timeout is None or timeout > 0:
            # None: everything waits for the world.
            most_ns = round((86_400 if timeout is None else timeout) * SECOND)
            self._time.pass_until(self._time.true_ns + max(1, most_ns))
        return []


class Loop(asyncio.SelectorEventLoop):
    """One life of the daemon: no thread, no socket, no real time."""

    def __init__(self, at: Time, selector: selectors.BaseSelector | None = None) -> None:
        self._clocks = at.own
        super().__init__(selector or _Selector(at))
        self._clock_resolution = 1e-9
        self._ready = _Ready()
        self.set_exception_handler(lambda *_: None)

    def time(self) -> float:
        return self._clocks.mono_ns / SECOND

    def kill_soon(self, callbacks: int) -> None:
        """Kill the process after so many callbacks."""
        self._ready.kill_in = callbacks

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> Any:  # type: ignore[override]
        """Run it at once: there is one thread."""
        del executor
        future = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:  # noqa: BLE001 (who waits for it gets it)
            future.set_exception(error)
        return future

    def throw_away(self) -> None:
        """Leave nothing of what ran: no code of it sees any more that it ended."""
        self._ready.kill_in = -1
        for task in asyncio.all_tasks(self):
            task._log_destroy_pending = False  # type: ignore[attr-defined]
            coroutine: Any = task.get_coro()
            for _ in range(MOST_AWAITS):  # while it ends; in a dead process nothing would
                try:
                    coroutine.close()
                    break
                except (Exception, KeyboardInterrupt):  # noqa: BLE001
                    continue
        self._ready.clear()
        self._scheduled.clear()  # type: ignore[attr-defined]
        self.close()


class _Never(selectors.SelectSelector):
    """Watches nothing, and waits for nothing."""

    def select(self, timeout: float | None = None) -> list[Any]:
        return []


class TurnLoop(Loop):
    """The loop of one of several daemons: it lives by `turn`, and others let time pass."""

    def __init__(self, at: Time) -> None:
        super().__init__(at, _Never())
        self._clock_resolution = 0.0  # who wakes early by less than a nanosecond waits again

    def waits_ns(self) -> int | None:
        """Return in how long it has something to do; None: when somebody else gives it some."""
        timers: list[Any] = self._scheduled  # type: ignore[attr-defined]
        if self._ready or not timers:
            return 0 if self._ready else None
        left_s = timers[0].when() - self.time()
        return max(1, math.ceil(left_s * SECOND)) if left_s >= 0 else 0

    def turn(self) -> None:
        """Run what is to run now."""
        self._run_once()  # type: ignore[attr-defined]
