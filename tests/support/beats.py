"""Heartbeats, and the moments at which they are."""

import functools
from dataclasses import replace

from premblyd.ground.times import HOUR_MS, MachineTime
from premblyd.queue.heartbeat import Gap, beat
from tests.support.store import NOW_MS, Store

MINUTE_MS = 60_000
START = MachineTime(at_ms=NOW_MS, machine_start="a", uptime_ms=HOUR_MS)


def later(now: MachineTime, ms: int, *, set_by_ms: int = 0) -> MachineTime:
    """Return the moment `ms` later, on a clock that was set by so much meanwhile."""
    return replace(now, at_ms=now.at_ms + ms + set_by_ms, uptime_ms=now.uptime_ms + ms)


def beaten(store: Store, now: MachineTime, *, is_leader: bool = True) -> Gap | None:
    return store.call(functools.partial(beat, now=now, is_leader=is_leader))
