"""A clock for tests that jump."""

import time

from premblyd.ground.times import Clock


class SettableClock(Clock):
    """The real clock, whose wall time can be set: as if somebody moved it by `set_by_ms`."""

    set_by_ms = 0
    stands = False  # still: it says what it said when it was asked first since

    def _offset(self) -> int:
        if not self.stands:
            return super()._offset() + self.set_by_ms
        if not hasattr(self, "_stood_at_ms"):
            self._stood_at_ms = time.time_ns() // 1_000_000
        return self._stood_at_ms - time.clock_gettime_ns(self.STEADY) // 1_000_000
