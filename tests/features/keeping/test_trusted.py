"""The time that periods count back from, on clocks that are set forward and back, that sleep, and
that start anew."""

import functools
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from premblyd.features.keeping import trusted
from premblyd.features.keeping.trusted import advanced, counted_ms, is_apart
from premblyd.ground.times import DAY_MS, MachineTime
from tests.support.beats import MINUTE_MS, START, beaten, later
from tests.support.rows import for_each
from tests.support.store import NOW_MS, Store


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
        store.call(lambda each: trusted.write_trusted(each, now))  # noqa: B023
        assert counted(store, NOW_MS + 900 * DAY_MS) == now.at_ms
        beaten(store, later(now, MINUTE_MS))
        assert counted(store, NOW_MS + 900 * DAY_MS) == now.at_ms + MINUTE_MS
