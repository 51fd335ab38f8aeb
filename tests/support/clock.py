"""A clock for tests that jump."""

from premblyd.times import Clock


class SettableClock(Clock):
    """The real clock, whose wall time can be set: as if somebody moved it by `set_by_ms`."""

    set_by_ms = 0

    def _offset(self) -> int:
        return super()._offset() + self.set_by_ms
