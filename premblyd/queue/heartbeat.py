"""When the daemon last could store webhooks, and its downtimes.

The daemon writes each minute that it lives: its heartbeat. Where none came for more than an hour,
webhooks may have been lost, as Prembly sends most events once: that time is kept as a downtime.

With it features do what is to be done as time passes (`Hooks.beat`).
"""

import functools
import os
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from premblyd.ground import loops, times
from premblyd.ground.errors import StoreUnavailableError
from premblyd.ground.telemetry import tell
from premblyd.ground.times import JUMP_MS, Clock, MachineTime, elapsed_ms
from premblyd.queue import hooks
from premblyd.queue.queue import shift
from premblyd.store.engine import Statement, Transaction, insert, update
from premblyd.store.tables import Downtime, Record
from premblyd.store.writer import Step, Writer

LEAST_MS = 3_600_000  # shorter gaps are restarts, for which Prembly's senders may still try again
EVERY_S = 60.0
AGAIN_S = 5.0  # after the database could not commit
# The service can't read the kernel's file (ProcSubset=pid), so systemd tells it by this variable.
MACHINE_START_FILE = Path("/proc/sys/kernel/random/boot_id")
MACHINE_START_VARIABLE = "PREMBLYD_MACHINE_START"


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """A time in which nothing could be stored, by the clock as it is now."""

    from_ms: int
    until_ms: int


def gap_between(last: MachineTime, now: MachineTime) -> Gap | None:
    """Return the downtime between two heartbeats; None if it is too short to be one.

    Within one start of the machine its own clock tells how long it was: setting the time of the
    day makes no downtime and hides none. Over a restart of the machine only the time of the day
    tells.
    """
    length_ms = elapsed_ms(last, now)
    if length_ms is None:
        length_ms = now.at_ms - last.at_ms
    if length_ms <= LEAST_MS:
        return None
    # 0: of a length that can't be true
    return Gap(from_ms=max(0, now.at_ms - length_ms), until_ms=now.at_ms)


def beat(
    transaction: Transaction, *, now: MachineTime, is_leader: bool = True, is_first: bool = False
) -> Gap | None:
    """Keep that webhooks can be stored at `now`. Return the downtime that ends with that, and that
    is kept too. `is_leader`: this host does what one does for all. `is_first`: of a daemon, by this
    machine's own clock. If that was set back since the last beat, due times are moved back by as
    much."""
    row = transaction.row(_LAST)
    if row is None:  # another host keeps the same at this moment
        return None
    at_ms, machine_start, uptime_ms = row
    gap = None
    if at_ms is not None:
        last = MachineTime(at_ms=at_ms, machine_start=machine_start, uptime_ms=uptime_ms)
        gap = gap_between(last, now)
        lasted_ms = elapsed_ms(last, now)
        if is_first and lasted_ms is not None and now.at_ms < last.at_ms + lasted_ms - JUMP_MS:
            shift(transaction, now.at_ms - last.at_ms - lasted_ms, now.at_ms, now.at_ms)
    if gap is not None:
        transaction.insert(_INSERT, from_ms=gap.from_ms, until_ms=gap.until_ms)
    transaction.change(
        _KEEP, alive_at_ms=now.at_ms, machine_start=now.machine_start, uptime_ms=now.uptime_ms
    )
    for each in hooks.of(transaction).beat if is_leader else ():
        each(transaction, now)
    return gap


_IS_FIRST = Record.id == 1
_LAST = Statement(
    Record.select(Record.alive_at_ms, Record.machine_start, Record.uptime_ms).where(_IS_FIRST),
    locks=True,
)
_KEEP = update(Record, "alive_at_ms", "machine_start", "uptime_ms", where=_IS_FIRST)
_INSERT = insert(Downtime, "from_ms", "until_ms")


class Heartbeat:
    """Beats while the daemon takes webhooks: `beat` when it begins to, `run` as a loop, `end` when
    it takes no more."""

    def __init__(
        self,
        writer: Writer,
        clock: Clock,
        *,
        is_leader: Callable[[], bool] = lambda: True,
        every_s: float = EVERY_S,
    ) -> None:
        self._writer = writer
        self._clock = clock
        self._is_leader = is_leader
        self._every_s = every_s
        # Not known: then time passes for as long as this process lives.
        self._machine_start = machine_start() or uuid.uuid4().hex
        self._is_first = clock.is_own
        self._has_ended = False
        # What to do after a downtime that began then.
        self.remedy: Callable[[str], str] = lambda _: "look at Prembly what came meanwhile"

    async def run(self) -> None:
        """Beat until the daemon ends."""
        pause_s = min(AGAIN_S, self._every_s)
        await loops.repeat(self._round, pause_s, first_s=self._every_s)

    async def end(self) -> None:
        """Beat for the last time."""
        self._has_ended = True
        try:
            await self.beat()
        except StoreUnavailableError:  # the writer has logged it; a downtime then begins earlier
            return

    async def _round(self) -> float:
        if not self._has_ended:
            await self.beat()
        return self._every_s

    async def beat(self) -> None:
        """Beat once; tell of a downtime before. Raise StoreUnavailableError when the database
        can't commit."""
        now = machine_time(self._clock.now_ms(), self._machine_start)
        work = functools.partial(
            beat, now=now, is_leader=self._is_leader(), is_first=self._is_first
        )
        gap = await self._writer.call(work, Step.LIFE)
        self._is_first = False
        if gap is not None:
            _tell_gap(gap, self.remedy)


def machine_time(wall_ms: int, start: str | None) -> MachineTime:
    """Return the time of now, in this start of the machine."""
    uptime_ms = time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000  # counts sleep too
    return MachineTime(at_ms=wall_ms, machine_start=start, uptime_ms=uptime_ms)


def machine_start() -> str | None:
    """Return which start of the machine this is; None if that is not known."""
    try:
        text = MACHINE_START_FILE.read_text(encoding="ascii")
    except (OSError, ValueError):
        text = os.environ.get(MACHINE_START_VARIABLE, "")
    return text.strip().replace("-", "") or None  # systemd writes it without hyphens


def _tell_gap(gap: Gap, remedy: Callable[[str], str]) -> None:
    since = times.iso(gap.from_ms // 1000 * 1000)
    tell(
        "daemon.was_down",
        down_since=since,
        down_until=times.iso(gap.until_ms // 1000 * 1000),
        minutes=(gap.until_ms - gap.from_ms) // 60_000,
        remedy=remedy(since),
    )
