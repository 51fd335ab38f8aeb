"""When the daemon last could store webhooks, and the times in which it could not.

The daemon writes a row each minute: its heartbeat. Where none came for more than an hour, webhooks
may have been lost, as Prembly sends most events once: that time is kept as a downtime.
"""

import asyncio
import functools
from dataclasses import dataclass

from premblyd.engines.engine import Transaction
from premblyd.engines.writer import Step, Writer
from premblyd.model.statements import Statement, insert, param, update
from premblyd.model.tables import Downtime, Heartbeat

LEAST_MS = 3_600_000  # shorter gaps are restarts, for which Prembly's senders may still try again


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """A time by two clocks: that of the day, which people set, and that of the machine, which
    begins at 0 with each of its starts and which nobody sets."""

    at_ms: int
    machine_start: str | None  # which start of the machine; None: not known
    uptime_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """A time in which nothing could be stored, by the clock as it is now."""

    from_ms: int
    until_ms: int


def gap_between(last: Moment, now: Moment) -> Gap | None:
    """Return the downtime between two heartbeats; None if it is too short to be one.

    Within one start of the machine its own clock tells how long it was: setting the time of the
    day makes no downtime and hides none. Over a restart of the machine only the time of the day
    tells.
    """
    if last.machine_start is not None and last.machine_start == now.machine_start:
        length_ms = now.uptime_ms - last.uptime_ms
    else:
        length_ms = now.at_ms - last.at_ms
    if length_ms <= LEAST_MS:
        return None
    return Gap(from_ms=now.at_ms - length_ms, until_ms=now.at_ms)


class Heartbeats:
    """Keeps heartbeats, and finds downtimes between them."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer

    def beat(self, now: Moment) -> "asyncio.Future[Gap | None]":
        """Keep that webhooks can be stored at `now`. Return the downtime that ends with that, and
        that is kept too. Raise StoreUnavailableError when nothing can be kept."""
        return self._writer.call(functools.partial(_beat, now=now), Step.PROOF)


def _beat(transaction: Transaction, *, now: Moment) -> Gap | None:
    row = transaction.row(_LAST)
    if row is None:  # another host keeps the same at this moment
        return None
    gap = None
    if row[0] is not None:  # else none of this version ran before
        at_ms, machine_start, uptime_ms = row
        last = Moment(at_ms=at_ms, machine_start=machine_start, uptime_ms=uptime_ms or 0)
        gap = gap_between(last, now)
    if gap is not None:
        transaction.insert(_INSERT, from_ms=gap.from_ms, until_ms=gap.until_ms)
    transaction.change(
        _KEEP, alive_at_ms=now.at_ms, machine_start=now.machine_start, uptime_ms=now.uptime_ms
    )
    return gap


def reconciled(transaction: Transaction, *, since_ms: int, until_ms: int, now_ms: int) -> int:
    """Keep that nothing is missing of what Prembly knows of this time. Return how many downtimes
    that mends."""
    return transaction.change(_MEND, since_ms=since_ms, until_ms=until_ms, reconciled_at_ms=now_ms)


_IS_LAST = Heartbeat.id == 1  # the other rows are proofs of commits, see inbox.py
_LAST = Statement(
    Heartbeat.select(Heartbeat.alive_at_ms, Heartbeat.machine_start, Heartbeat.uptime_ms).where(
        _IS_LAST
    ),
    locks=True,
)
_KEEP = Statement(
    Heartbeat.update(
        alive_at_ms=param("alive_at_ms"),
        machine_start=param("machine_start"),
        uptime_ms=param("uptime_ms"),
    ).where(_IS_LAST)
)
_INSERT = insert(Downtime, "from_ms", "until_ms")
_MEND = update(
    Downtime,
    "reconciled_at_ms",
    where=Downtime.reconciled_at_ms.is_null()
    & (Downtime.from_ms >= param("since_ms"))
    & (Downtime.until_ms <= param("until_ms")),
)
