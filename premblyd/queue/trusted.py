"""The time that retention periods count back from: a wrong clock alone deletes nothing.

A number in the database, `trusted_ms`, follows the wall clock and never goes back. It advances at
most twice as fast as time passes, by a clock that nobody sets. So a clock that is set forward by a
year makes at most one extra day expire each day, and after a month without a daemon `trusted_ms`
needs a month to catch up.
"""

from dataclasses import dataclass

from premblyd.ground.times import DAY_MS
from premblyd.store.engine import Statement, Transaction, update
from premblyd.store.tables import Record

APART_MS = 2 * DAY_MS  # of clock and trusted time: somebody must say which of them is right
BEHIND_MS = 5 * 60_000  # of a clock that does not lag, but is wrong


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


def advanced(last: MachineTime, now: MachineTime) -> MachineTime:
    """Return the trusted time now. `last`: what it was, and when that was written."""
    most_ms = last.at_ms + 2 * max(0, elapsed_ms(last, now) or 0)
    return MachineTime(
        at_ms=max(last.at_ms, min(now.at_ms, most_ms)),
        machine_start=now.machine_start,
        uptime_ms=now.uptime_ms,
    )


def is_apart(trusted_ms: int, wall_ms: int) -> bool:
    """Return whether somebody must say which of the two is right."""
    return abs(wall_ms - trusted_ms) > APART_MS


def read(transaction: Transaction, wall_ms: int) -> int:
    """Return the trusted time. Where no daemon has worked yet, that is the clock's."""
    row = transaction.row(READ)
    return wall_ms if row is None or row[0] is None else int(row[0])


def counted_ms(transaction: Transaction, wall_ms: int) -> int:
    """Return the time that periods count back from."""
    return min(wall_ms, read(transaction, wall_ms))


def write(transaction: Transaction, trusted: MachineTime) -> None:
    """Have this be the trusted time."""
    transaction.change(
        _WRITE,
        trusted_ms=trusted.at_ms,
        trusted_start=trusted.machine_start,
        trusted_uptime_ms=trusted.uptime_ms,
    )


def is_behind(trusted_ms: int, received_at_ms: int) -> bool:
    """Return whether the clock was behind when something came."""
    return received_at_ms < trusted_ms - BEHIND_MS


_IS_FIRST = Record.id == 1
READ = Statement(Record.select(Record.trusted_ms).where(_IS_FIRST))
_WRITE = update(Record, "trusted_ms", "trusted_start", "trusted_uptime_ms", where=_IS_FIRST)
