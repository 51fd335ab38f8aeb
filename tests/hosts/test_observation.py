"""Whom a daemon takes for lost, by what it sees of the others."""

from premblyd.hosts.observation import Observation
from premblyd.hosts.register import Sighting

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
