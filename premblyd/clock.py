"""The daemon's clock."""

import time


class Clock:
    """Wall time for people, and how far somebody has set it since it was last looked at."""

    def __init__(self) -> None:
        self._offset_ms = self._offset()

    def now_ms(self) -> int:
        """Return Unix time in milliseconds."""
        return time.time_ns() // 1_000_000

    def jumped_ms(self) -> int:
        """Return by how much the wall clock left the steady one since the last call."""
        offset = self._offset()
        jump, self._offset_ms = offset - self._offset_ms, offset
        return jump

    def _offset(self) -> int:
        return (time.time_ns() - time.monotonic_ns()) // 1_000_000
