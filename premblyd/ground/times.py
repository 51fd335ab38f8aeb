"""Time: the clocks that premblyd uses, and times as text, which no other module formats or reads.
Inside they are Unix milliseconds."""

import functools
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
JUMP_MS = 2_000  # a clock set by less is drift
_EPOCH = datetime.fromtimestamp(0, UTC)
_MILLISECOND = timedelta(milliseconds=1)


def now_ms() -> int:
    """Return what the wall clock says. (The daemon runs by its own `Clock`.)"""
    return time.time_ns() // 1_000_000


def for_people(ms: int | None) -> str:
    """Return a time to the second, UTC, without saying so; nothing for None."""
    if ms is None:
        return ""
    try:
        moment = datetime.fromtimestamp(ms / 1000, UTC)
    # The machine's clock was far off, or somebody has put a text there.
    except (ValueError, OverflowError, OSError, TypeError):
        return f"{ms} ms"
    return moment.strftime("%Y-%m-%d %H:%M:%S")


def iso(ms: int) -> str:
    """Return a time for programs, in ISO 8601 with its zone, which is UTC."""
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat()


def day(ms: int) -> str:
    """Return the day of a time, UTC: 2026-01-31."""
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d")


def from_iso(text: str) -> int:
    """Return the time of an ISO 8601 date or time, in UTC unless it says another zone. Raise
    ValueError when it is none."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return round((moment - _EPOCH) / _MILLISECOND)


def log_timestamp(unix_ns: int) -> str:
    """Return a log line's time, to the microsecond."""
    second, nanoseconds = divmod(unix_ns, 1_000_000_000)
    return f"{_iso_second(second)}.{nanoseconds // 1000:06}Z"


@functools.lru_cache(maxsize=2)
def _iso_second(second: int) -> str:
    """Format a second once for all its log lines."""
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))


def boot_s() -> float:
    """Return the seconds since the machine's start, those of its sleep counted."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineTime:
    """A time by two clocks: that of the day, which people set, and that of the machine, which
    begins at 0 with each of its starts and which nobody sets."""

    at_ms: int
    machine_start: str | None  # which start of the machine; None: not known
    uptime_ms: int


def elapsed_ms(last: MachineTime, now: MachineTime) -> int | None:
    """Return how long it is from one to the other by the machine's clock; None: it has started
    since, or that is not known."""
    if last.machine_start is None or last.machine_start != now.machine_start:
        return None
    return now.uptime_ms - last.uptime_ms


class Clock:
    """The time of day, which advances steadily even when somebody sets the machine's clock.

    This clock follows the machine's only when `jumped_ms` is called. The caller moves due times by
    as much, so that no wait becomes longer or shorter.
    """

    is_own = True  # of this machine, where somebody may set it
    STEADY = time.CLOCK_BOOTTIME  # it goes on while the machine sleeps

    def __init__(self) -> None:
        # How far it is from a clock that nobody sets. This changes when the machine's was set.
        self.offset_ms = self._offset()

    def now_ms(self) -> int:
        """Return Unix time in milliseconds."""
        return time.clock_gettime_ns(self.STEADY) // 1_000_000 + self.offset_ms

    def jumped_ms(self) -> int:
        """Return by how much the machine's clock was set since the last call, and follow it."""
        offset = self._offset()
        jump, self.offset_ms = offset - self.offset_ms, offset
        return jump

    def _offset(self) -> int:
        return (time.time_ns() - time.clock_gettime_ns(self.STEADY)) // 1_000_000
