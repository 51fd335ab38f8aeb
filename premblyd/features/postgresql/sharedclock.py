"""The clock of several hosts: their database's."""

import time
from collections import deque
from typing import NamedTuple

from premblyd.ground.times import Clock


class _Sample(NamedTuple):
    took_ms: float  # to read it: the shorter, the closer
    offset_ms: int


class SharedClock(Clock):
    """The database's clock, which all hosts use: it is read now and then, and advances steadily
    between. Nobody sets it by setting this machine's."""

    is_own = False
    STEADY = time.CLOCK_MONOTONIC  # as the database is asked
    SAMPLES = 8  # the one counts that was read fastest
    STEP_MS = 1_000  # further off: the clock itself was set, or another server has taken over

    def __init__(self) -> None:
        super().__init__()
        self._samples: deque[_Sample] = deque(maxlen=self.SAMPLES)

    def follow(self, read_ms: int, asked_at_s: float, answered_at_s: float) -> None:
        """Take in that the database's clock said `read_ms` between two times of the monotonic
        clock."""
        between_ms = (asked_at_s + answered_at_s) * 500
        sample = _Sample((answered_at_s - asked_at_s) * 1000, round(read_ms - between_ms))
        if self._samples and abs(sample.offset_ms - self.offset_ms) > self.STEP_MS:
            self._samples.clear()
        self._samples.append(sample)
        self.offset_ms = min(self._samples).offset_ms

    def jumped_ms(self) -> int:
        """Return 0: what waits is due by this clock, whatever is done to it."""
        return 0
