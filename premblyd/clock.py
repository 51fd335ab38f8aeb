"""The daemon's clock."""

import time


class Clock:
    """The time of day, which advances steadily even when somebody sets the machine's clock.

    This clock follows the machine's only when `jumped_ms` is called. The caller moves due times by
    as much, so that no wait becomes longer or shorter.
    """

    def __init__(self) -> None:
        self._offset_ms = self._offset()

    def now_ms(self) -> int:
        """Return Unix time in milliseconds."""
        return time.monotonic_ns() // 1_000_000 + self._offset_ms

    @property
    def offset_ms(self) -> int:
        """How far it is from a clock that nobody sets. This changes when the machine's was set."""
        return self._offset_ms

    def jumped_ms(self) -> int:
        """Return by how much the machine's clock was set since the last call, and follow it."""
        offset = self._offset()
        jump, self._offset_ms = offset - self._offset_ms, offset
        return jump

    def _offset(self) -> int:
        return (time.time_ns() - time.monotonic_ns()) // 1_000_000
