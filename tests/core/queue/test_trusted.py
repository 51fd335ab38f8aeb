"""The time that periods count back from, on clocks that are set forward and back, that sleep, and
that start anew."""

import functools
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from premblyd.ground.times import DAY_MS, HOUR_MS
from premblyd.queue import heartbeat
from premblyd.queue.heartbeat import (
    LEAST_MS,
    Gap,
    MachineTime,
    advanced,
    beat,
    counted_ms,
    gap_between,
    is_apart,
    reconciled,
)
from tests.support.rows import for_each
from tests.support.store import NOW_MS, Store

MINUTE_MS = 60_000
START = MachineTime(at_ms=NOW_MS, machine_start="a", uptime_ms=HOUR_MS)


def later(now: MachineTime, ms: int, *, set_by_ms: int = 0) -> MachineTime:
    """Return the moment `ms` later, on a clock that was set by so much meanwhile."""
    return replace(now, at_ms=now.at_ms + ms + set_by_ms, uptime_ms=now.uptime_ms + ms)


def test_in_ordinary_life_it_is_the_clock_also_over_a_sleep_of_a_week() -> None:
    for ms in (0, MINUTE_MS, 7 * DAY_MS):
        now = later(START, ms)
        assert advanced(START, now) == now


def test_a_clock_that_is_set_back_takes_nothing_back() -> None:
    now = later(START, MINUTE_MS, set_by_ms=-400 * DAY_MS)
    time = advanced(START, now)
    assert time == replace(now, at_ms=NOW_MS)
    again = later(now, MINUTE_MS, set_by_ms=400 * DAY_MS)
    assert advanced(time, again).at_ms == again.at_ms


@for_each("machine_start", ["b", None])
def test_in_another_start_of_the_machine_time_begins_to_pass_anew(
    machine_start: str | None,
) -> None:
    off_ms = 30 * DAY_MS
    now = MachineTime(
        at_ms=NOW_MS + off_ms, machine_start=machine_start, uptime_ms=START.uptime_ms + off_ms
    )
    assert advanced(START, now) == replace(now, at_ms=NOW_MS)
    unknown = replace(START, machine_start=None)
    assert advanced(unknown, later(unknown, DAY_MS)).at_ms == NOW_MS, "no time passes"


@given(
    st.lists(
        st.tuples(
            st.integers(0, 40 * DAY_MS), st.integers(-800 * DAY_MS, 800 * DAY_MS), st.booleans()
        )
    )
)
def test_whatever_is_done_to_the_clock_it_passes_at_most_twice_as_fast(
    steps: list[tuple[int, int, bool]],
) -> None:
    now, time, passed_ms = START, START, 0
    for number, (ms, set_by_ms, restarts) in enumerate(steps):
        now = later(now, ms, set_by_ms=set_by_ms)
        if restarts:
            now = replace(now, machine_start=f"start {number}", uptime_ms=0)
        passed_ms += ms
        before, time = time, advanced(time, now)
        assert before.at_ms <= time.at_ms <= NOW_MS + 2 * passed_ms
        assert time.at_ms <= max(before.at_ms, now.at_ms)


def test_who_is_apart_by_more_than_two_days_must_be_told() -> None:
    for by_ms in (2 * DAY_MS, -2 * DAY_MS):
        assert not is_apart(NOW_MS, NOW_MS + by_ms)
    for by_ms in (2 * DAY_MS + 1, -2 * DAY_MS - 1):
        assert is_apart(NOW_MS, NOW_MS + by_ms)


def beaten(store: Store, now: MachineTime, *, is_leader: bool = True) -> Gap | None:
    return store.call(functools.partial(beat, now=now, is_leader=is_leader))


def counted(store: Store, wall_ms: int) -> int:
    return store.call(functools.partial(counted_ms, wall_ms=wall_ms))


def test_it_goes_on_with_each_heartbeat_of_the_leader_and_with_no_other(store: Store) -> None:
    assert counted(store, NOW_MS) == NOW_MS, "no daemon has worked yet"
    beaten(store, START)
    on = later(START, MINUTE_MS, set_by_ms=400 * DAY_MS)
    beaten(store, replace(on, machine_start="of another host"), is_leader=False)
    assert counted(store, on.at_ms) == NOW_MS
    beaten(store, on)
    assert counted(store, on.at_ms) == NOW_MS + 2 * MINUTE_MS
    assert counted(store, NOW_MS - DAY_MS) == NOW_MS - DAY_MS, "never later than the clock"


def test_what_somebody_says_to_be_right_is_written_over_it(store: Store) -> None:
    beaten(store, START)
    for by_ms in (-400 * DAY_MS, 400 * DAY_MS):
        now = later(START, MINUTE_MS, set_by_ms=by_ms)
        store.call(lambda each: heartbeat.write_trusted(each, now))  # noqa: B023
        assert counted(store, NOW_MS + 900 * DAY_MS) == now.at_ms
        beaten(store, later(now, MINUTE_MS))
        assert counted(store, NOW_MS + 900 * DAY_MS) == now.at_ms + MINUTE_MS


# Heartbeats and the downtimes between them: by which clock, and that none is invented.

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


def test_a_reconciliation_mends_the_downtimes_that_it_covers_whole(store: Store) -> None:
    for hours in (0, 2, 4):
        beaten(store, after(hours * HOUR_MS))
    first, second = [(row[0], row[1]) for row in store.rows(DOWNTIMES)]

    def mend(since_ms: int, until_ms: int, now_ms: int) -> int:
        values = {"since_ms": since_ms, "until_ms": until_ms, "now_ms": now_ms}
        return store.call(lambda transaction: reconciled(transaction, **values))

    assert mend(first[0] + 1, second[1] - 1, 7) == 0
    assert mend(first[0], second[1] - 1, 8) == 1
    assert mend(first[0], second[1], 9) == 1
    assert store.rows(DOWNTIMES) == [(*first, 8), (*second, 9)]


def test_a_clock_that_was_set_back_while_no_daemon_ran_holds_nothing_up(store: Store) -> None:
    store.add("crm")
    for now in (START, later(START, MINUTE_MS, set_by_ms=-DAY_MS)):
        store.wait(store.writer.call(functools.partial(beat, now=now, is_first=True)))
    assert store.rows("SELECT due_at_ms FROM delivery") == [(NOW_MS - DAY_MS,)]
