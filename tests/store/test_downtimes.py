"""Heartbeats and the downtimes between them: by which clock, and that none is invented."""

import dataclasses
import functools

from premblyd.hosts.heartbeat import LEAST_MS, Gap, beat, gap_between, reconciled
from premblyd.queue.trusted import MachineTime
from tests.support.rows import for_each
from tests.support.store import NOW_MS, Store

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
LAST = MachineTime(at_ms=NOW_MS, machine_start="a", uptime_ms=5 * HOUR_MS)
DOWNTIMES = "SELECT from_ms, until_ms, reconciled_at_ms FROM downtime ORDER BY id"


def later(ms: int, *, set_by_ms: int = 0, machine_start: str | None = "a") -> MachineTime:
    """Return the moment `ms` after LAST, on a clock that was set meanwhile."""
    return MachineTime(
        at_ms=LAST.at_ms + ms + set_by_ms,
        machine_start=machine_start,
        uptime_ms=LAST.uptime_ms + ms if machine_start == "a" else 60_000,
    )


def beaten(store: Store, now: MachineTime) -> Gap | None:
    return store.call(functools.partial(beat, now=now))


@for_each("set_by_ms", [0, -DAY_MS, 5 * DAY_MS])
def test_a_clock_that_is_set_neither_invents_nor_hides_a_downtime(set_by_ms: int) -> None:
    for gap_ms in (0, 60_000, LEAST_MS):
        assert gap_between(LAST, later(gap_ms, set_by_ms=set_by_ms)) is None
    now = later(3 * HOUR_MS, set_by_ms=set_by_ms)
    assert gap_between(LAST, now) == Gap(from_ms=now.at_ms - 3 * HOUR_MS, until_ms=now.at_ms)


@for_each("machine_start", ["b", None])
def test_over_a_restart_of_the_machine_the_time_of_the_day_tells(machine_start: str | None) -> None:
    now = later(3 * HOUR_MS, machine_start=machine_start)
    unknown = dataclasses.replace(LAST, machine_start=None)
    assert gap_between(unknown, now) == Gap(from_ms=LAST.at_ms, until_ms=now.at_ms)
    assert gap_between(LAST, now) == Gap(from_ms=LAST.at_ms, until_ms=now.at_ms)
    assert gap_between(LAST, later(60_000, machine_start=machine_start)) is None
    assert gap_between(LAST, later(60_000, set_by_ms=-DAY_MS, machine_start="b")) is None


def test_a_downtime_is_kept_with_the_heartbeat_that_ends_it(store: Store) -> None:
    """The first one ends none, and the health check hides none."""
    assert beaten(store, LAST) is None
    assert store.rows(DOWNTIMES) == []
    store.wait(store.inbox.prove_commit())
    now = later(2 * HOUR_MS)
    for moment in (now, later(2 * HOUR_MS + 60_000)):
        beaten(store, moment)
    assert store.rows(DOWNTIMES) == [(LAST.at_ms, now.at_ms, None)]


def test_a_reconciliation_mends_the_downtimes_that_it_covers_whole(store: Store) -> None:
    for hours in (0, 2, 4):
        beaten(store, later(hours * HOUR_MS))
    first, second = [(row[0], row[1]) for row in store.rows(DOWNTIMES)]

    def mend(since_ms: int, until_ms: int, now_ms: int) -> int:
        values = {"since_ms": since_ms, "until_ms": until_ms, "now_ms": now_ms}
        return store.call(lambda transaction: reconciled(transaction, **values))

    assert mend(first[0] + 1, second[1] - 1, 7) == 0
    assert mend(first[0], second[1] - 1, 8) == 1
    assert mend(first[0], second[1], 9) == 1
    assert store.rows(DOWNTIMES) == [(*first, 8), (*second, 9)]
