"""Heartbeats and the downtimes between them: by which clock, and that none is invented."""

import functools
from dataclasses import replace

from premblyd.ground.times import DAY_MS, HOUR_MS, MachineTime
from premblyd.queue.heartbeat import LEAST_MS, Gap, beat, gap_between
from tests.support.beats import MINUTE_MS, START, beaten, later
from tests.support.rows import for_each
from tests.support.store import NOW_MS, Store

DOWNTIMES = "SELECT from_ms, until_ms, reconciled_at_ms FROM downtime ORDER BY id"


def after(ms: int, *, set_by_ms: int = 0, machine_start: str | None = "a") -> MachineTime:
    """Return the moment `ms` after START, on a clock that was set meanwhile."""
    now = later(START, ms, set_by_ms=set_by_ms)
    return now if machine_start == "a" else replace(now, machine_start=machine_start, uptime_ms=1)


@for_each("set_by_ms", [0, -DAY_MS, 5 * DAY_MS])
def test_a_clock_that_is_set_neither_invents_nor_hides_a_downtime(set_by_ms: int) -> None:
    for gap_ms in (0, 60_000, LEAST_MS):
        assert gap_between(START, after(gap_ms, set_by_ms=set_by_ms)) is None
    now = after(3 * HOUR_MS, set_by_ms=set_by_ms)
    assert gap_between(START, now) == Gap(from_ms=now.at_ms - 3 * HOUR_MS, until_ms=now.at_ms)


@for_each("machine_start", ["b", None])
def test_over_a_restart_of_the_machine_the_time_of_the_day_tells(machine_start: str | None) -> None:
    now = after(3 * HOUR_MS, machine_start=machine_start)
    unknown = replace(START, machine_start=None)
    assert gap_between(unknown, now) == Gap(from_ms=START.at_ms, until_ms=now.at_ms)
    assert gap_between(START, now) == Gap(from_ms=START.at_ms, until_ms=now.at_ms)
    assert gap_between(START, after(60_000, machine_start=machine_start)) is None
    assert gap_between(START, after(60_000, set_by_ms=-DAY_MS, machine_start="b")) is None


def test_a_downtime_is_kept_with_the_heartbeat_that_ends_it(store: Store) -> None:
    """The first one ends none, and the health check hides none."""
    assert beaten(store, START) is None
    assert store.rows(DOWNTIMES) == []
    store.wait(store.inbox.prove_commit())
    now = after(2 * HOUR_MS)
    for moment in (now, after(2 * HOUR_MS + 60_000)):
        beaten(store, moment)
    assert store.rows(DOWNTIMES) == [(START.at_ms, now.at_ms, None)]


def test_a_clock_that_was_set_back_while_no_daemon_ran_holds_nothing_up(store: Store) -> None:
    store.add("crm")
    for now in (START, later(START, MINUTE_MS, set_by_ms=-DAY_MS)):
        store.wait(store.writer.call(functools.partial(beat, now=now, is_first=True)))
    assert store.rows("SELECT due_at_ms FROM delivery") == [(NOW_MS - DAY_MS,)]
