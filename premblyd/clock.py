"""The daemon's clock."""

import time


class Clock:
    """The time of day, advancing steadily.

    When somebody sets the machine's clock, this clock follows only in `jumped_ms`, whose caller
    moves what is due by as much: until then both agree.
    """

    def __init__(self) -> None:
        self._offset_ms = self._offset()

    def now_ms(self) -> int:
        """Return Unix time in milliseconds."""
        return time.monotonic_ns() // 1_000_000 + self._offset_ms

    def jumped_ms(self) -> int:
        """Return by how much the machine's clock was set since the last call, and follow it."""
        offset = self._offset()
        jump, self._offset_ms = offset - self._offset_ms, offset
        return jump

    def _offset(self) -> int:
        return (time.time_ns() - time.monotonic_ns()) // 1_000_000
