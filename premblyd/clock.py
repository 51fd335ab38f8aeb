"""The daemon's clock."""

import time


class Clock:
    """Wall time for people that runs steadily. When somebody sets the wall clock, this one follows
    at the next `jumped_ms`: until then nothing is written by a time that due times do not follow.
    """

    def __init__(self) -> None:
        self._offset_ms = self._offset()

    def now_ms(self) -> int:
        """Return Unix time in milliseconds."""
        return time.monotonic_ns() // 1_000_000 + self._offset_ms

    def jumped_ms(self) -> int:
        """Return by how much the wall clock left the steady one since the last call, and follow."""
        offset = self._offset()
        jump, self._offset_ms = offset - self._offset_ms, offset
        return jump

    def _offset(self) -> int:
        return (time.time_ns() - time.monotonic_ns()) // 1_000_000
