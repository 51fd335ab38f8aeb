"""When a daemon may start and keep hooks without a proof, by a clock of the test's own."""

import time

import pytest

from premblyd.features.postgresql.membership import Liveness, Observation, SharedTime, Sighting
from premblyd.features.postgresql.sharedclock import SharedClock


def at(boot_s: float, shared_s: float | None = None) -> SharedTime:
    """Return a moment; the database's clock runs as the machine's, unless the test says else."""
    return SharedTime(boot_s, round((boot_s if shared_s is None else shared_s) * 1000))


@pytest.fixture(name="liveness")
def make_standing() -> Liveness:
    """Of a daemon that is lost after 10 s, and has beaten at 100."""
    liveness = Liveness(10)
    liveness.beaten(at(100))
    return liveness


def test_a_claim_needs_no_proof_for_half_of_lost_after(liveness: Liveness) -> None:
    assert liveness.is_sure(at(100), at(104.9))
    assert not liveness.is_sure(at(100), at(105))


def test_a_young_claim_needs_a_proof_when_the_last_beat_is_old(liveness: Liveness) -> None:
    """The others may call this daemon lost at any moment, and run what it has just claimed."""
    assert not liveness.is_sure(at(109), at(109.1))
    liveness.beaten(at(109))
    assert liveness.is_sure(at(109), at(109.1))


def test_an_old_claim_needs_a_proof_although_the_daemon_beats(liveness: Liveness) -> None:
    """It may have been taken over before."""
    liveness.beaten(at(160))
    assert not liveness.is_sure(at(150), at(160.1))


def test_a_pause_that_only_the_databases_clock_counted_needs_a_proof(liveness: Liveness) -> None:
    assert liveness.is_sure(at(100), at(101, shared_s=101))
    assert not liveness.is_sure(at(100), at(101, shared_s=161))


def test_what_was_claimed_before_the_others_called_it_lost_needs_a_proof(
    liveness: Liveness,
) -> None:
    liveness.lost(at(101))
    assert not liveness.is_sure(at(101.5), at(101.6)), "nobody has counted a beat since"
    liveness.beaten(at(102))
    assert not liveness.is_sure(at(100.9), at(102.1))
    assert liveness.is_sure(at(102), at(102.1))


def test_hooks_end_before_the_others_may_start_them(liveness: Liveness) -> None:
    assert not liveness.must_let_go(at(108.9))
    assert liveness.must_let_go(at(109))
    liveness.beaten(at(109))
    assert not liveness.must_let_go(at(117.9))


def test_hooks_end_once_until_they_may_start_again(liveness: Liveness) -> None:
    """A hook starts by a proof too, when the daemon has not yet beaten again."""
    assert liveness.must_let_go(at(109))
    liveness.let_go()
    assert not liveness.must_let_go(at(109))
    liveness.beaten(at(110))
    assert not liveness.must_let_go(at(118.9))
    assert liveness.must_let_go(at(119))


def test_a_beat_that_is_told_late_does_not_undo_a_later_one(liveness: Liveness) -> None:
    liveness.beaten(at(99))
    assert not liveness.must_let_go(at(108.9))


# Whom a daemon takes for lost, by what it sees of the others.

LOST_AFTER_S = 10.0


def host(number: int, beats: int, lost_after_ms: int | None = None) -> Sighting:
    return Sighting(
        id=number,
        worker=f"w{number}",
        name=f"host-{number}",
        beat_count=beats,
        lost_after_ms=lost_after_ms,
    )


def watch(observation: Observation, times: range, **beats: int) -> list[int]:
    """Look once a second; `beats` has the count of host h1 and so on, which does not grow. Return
    when each was lost."""
    lost = []
    for second in times:
        hosts = [host(int(name[1:]), count) for name, count in beats.items()]
        lost += [second for _ in observation.look([*hosts, host(99, second)], float(second))]
    return lost


def test_a_host_that_beats_is_never_lost() -> None:
    observation = Observation(LOST_AFTER_S)
    assert not any(observation.look([host(1, second)], second) for second in range(100))


def test_a_host_is_lost_once_it_was_silent_for_long_enough_under_watch() -> None:
    assert watch(Observation(LOST_AFTER_S), range(12), h1=7) == [10, 11]


def test_a_host_is_lost_after_the_time_that_its_own_row_says() -> None:
    """One that beats every six seconds is not lost to one that would be after ten."""
    observation = Observation(LOST_AFTER_S)
    lost = [
        (second, each.name)
        for second in range(62)
        for each in observation.look([host(1, 7, 60_000), host(2, 7, 2_000)], float(second))
        if second in (1, 2, 59, 60)
    ]
    assert lost == [(2, "host-2"), (59, "host-2"), (60, "host-1"), (60, "host-2")]


def test_a_number_that_a_failover_gave_to_another_host_begins_anew() -> None:
    observation = Observation(LOST_AFTER_S)
    for second in range(10):
        observation.look([host(1, 7)], float(second))
    other = Sighting(id=1, worker="another", name="another", beat_count=7)
    assert observation.look([other], 10.0) == []


def test_a_look_after_a_gap_begins_anew() -> None:
    """The database was away, or this daemon was stopped: the others had no chance to be seen."""
    observation = Observation(LOST_AFTER_S)
    assert watch(observation, range(9), h1=7) == []
    assert watch(observation, range(300, 310), h1=7) == []
    assert watch(observation, range(310, 311), h1=7) == [310]


def test_a_new_host_is_not_lost_at_once() -> None:
    observation = Observation(LOST_AFTER_S)
    watch(observation, range(50), h1=7)
    assert watch(observation, range(50, 51), h2=7) == []


def test_the_first_host_is_the_one_with_the_lowest_number_that_is_not_lost() -> None:
    observation = Observation(LOST_AFTER_S)
    assert not observation.is_leader(1), "nobody has looked"
    for second in range(10):
        observation.look([host(1, 0), host(2, second)], second)
        assert (observation.is_leader(1), observation.is_leader(2)) == (True, False)
    observation.look([host(1, 0), host(2, 10)], 10)
    assert (observation.is_leader(1), observation.is_leader(2)) == (False, True)


# The clock of daemons that share a database: the database's.

AHEAD_MS = 5 * 60_000


def read(clock: SharedClock, ahead_ms: int, took_s: float = 0.0, *, late_s: float = 0.0) -> None:
    """Take in that the database's clock is ahead by so much, read in `took_s`; its time is of
    `late_s` before the answer."""
    answered_s = time.monotonic()
    machine_ms = time.time_ns() / 1_000_000 - late_s * 1000
    clock.follow(round(machine_ms + ahead_ms), answered_s - took_s, answered_s)


def ahead_ms(clock: SharedClock) -> float:
    return clock.now_ms() - time.time_ns() / 1_000_000


def test_it_says_what_the_databases_clock_says_and_a_reading_that_took_long_moves_nothing() -> None:
    clock = SharedClock()
    read(clock, AHEAD_MS, took_s=0.001)
    assert abs(ahead_ms(clock) - AHEAD_MS) < 60_000
    read(clock, AHEAD_MS, took_s=0.9, late_s=0.9)
    assert abs(ahead_ms(clock) - AHEAD_MS) < 60_000


def test_it_follows_another_server_at_once() -> None:
    clock = SharedClock()
    read(clock, AHEAD_MS)
    read(clock, -AHEAD_MS, took_s=0.5, late_s=0.25)
    assert abs(ahead_ms(clock) + AHEAD_MS) < 60_000


def test_what_waits_is_never_moved() -> None:
    clock = SharedClock()
    read(clock, AHEAD_MS)
    assert clock.jumped_ms() == 0
