"""The time that periods of retention count back from: by a wrong clock alone nothing is deleted.

A number in the database, `trusted_ms`, follows the wall clock and never goes back. It advances at
most twice as fast as time passes, by a clock that nobody sets. So a clock that is set forward by a
year makes at most one extra day expire each day, and after a month without a daemon `trusted_ms`
needs a month to catch up. With each heartbeat the one of several hosts that does so for all has it
go on.
"""

from premblyd.ground.times import DAY_MS, MachineTime, elapsed_ms
from premblyd.store.engine import Statement, Transaction, update
from premblyd.store.tables import Record

APART_MS = 2 * DAY_MS  # of clock and trusted time: somebody must say which of them is right
BEHIND_MS = 5 * 60_000  # of a clock that does not lag, but is wrong


def go_on(transaction: Transaction, now: MachineTime) -> None:
    """Have the trusted time go on. Its row is locked."""
    at_ms, machine_start, uptime_ms = transaction.row(_LAST) or (None, None, None)
    if at_ms is None:
        write_trusted(transaction, now)
    else:
        last = MachineTime(at_ms=at_ms, machine_start=machine_start, uptime_ms=uptime_ms)
        write_trusted(transaction, advanced(last, now))


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


def read_trusted(transaction: Transaction, wall_ms: int) -> int:
    """Return the trusted time. Where no daemon has worked yet, that is the clock's."""
    return transaction.number(_READ_TRUSTED) or wall_ms


def counted_ms(transaction: Transaction, wall_ms: int) -> int:
    """Return the time that periods count back from."""
    return min(wall_ms, read_trusted(transaction, wall_ms))


def write_trusted(transaction: Transaction, trusted: MachineTime) -> None:
    """Have this be the trusted time."""
    transaction.change(
        _WRITE_TRUSTED,
        trusted_ms=trusted.at_ms,
        trusted_start=trusted.machine_start,
        trusted_uptime_ms=trusted.uptime_ms,
    )


_IS_FIRST = Record.id == 1
_LAST = Statement(
    Record.select(Record.trusted_ms, Record.trusted_start, Record.trusted_uptime_ms).where(
        _IS_FIRST
    )
)
_READ_TRUSTED = Statement(Record.select(Record.trusted_ms).where(_IS_FIRST))
_WRITE_TRUSTED = update(Record, "trusted_ms", "trusted_start", "trusted_uptime_ms", where=_IS_FIRST)
