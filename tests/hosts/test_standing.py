"""When a daemon may start and keep hooks without a proof, by a clock of the test's own."""

import pytest

from premblyd.hosts.standing import HostStanding, SharedTime


def at(boot_s: float, shared_s: float | None = None) -> SharedTime:
    """Return a moment; the database's clock runs as the machine's, unless the test says else."""
    return SharedTime(boot_s, round((boot_s if shared_s is None else shared_s) * 1000))


@pytest.fixture(name="standing")
def make_standing() -> HostStanding:
    """Of a daemon that is lost after 10 s, and has beaten at 100."""
    standing = HostStanding(10)
    standing.beaten(at(100))
    return standing


def test_a_claim_needs_no_proof_for_half_of_lost_after(standing: HostStanding) -> None:
    assert standing.is_sure(at(100), at(104.9))
    assert not standing.is_sure(at(100), at(105))


def test_a_young_claim_needs_a_proof_when_the_last_beat_is_old(standing: HostStanding) -> None:
    """The others may call this daemon lost at any moment, and run what it has just claimed."""
    assert not standing.is_sure(at(109), at(109.1))
    standing.beaten(at(109))
    assert standing.is_sure(at(109), at(109.1))


def test_an_old_claim_needs_a_proof_although_the_daemon_beats(standing: HostStanding) -> None:
    """It may have been taken over before."""
    standing.beaten(at(160))
    assert not standing.is_sure(at(150), at(160.1))


def test_a_pause_that_only_the_databases_clock_counted_needs_a_proof(
    standing: HostStanding,
) -> None:
    assert standing.is_sure(at(100), at(101, shared_s=101))
    assert not standing.is_sure(at(100), at(101, shared_s=161))


def test_what_was_claimed_before_the_others_called_it_lost_needs_a_proof(
    standing: HostStanding,
) -> None:
    standing.lost(at(101))
    assert not standing.is_sure(at(101.5), at(101.6)), "nobody has counted a beat since"
    standing.beaten(at(102))
    assert not standing.is_sure(at(100.9), at(102.1))
    assert standing.is_sure(at(102), at(102.1))


def test_hooks_end_before_the_others_may_start_them(standing: HostStanding) -> None:
    assert not standing.must_let_go(at(108.9))
    assert standing.must_let_go(at(109))
    standing.beaten(at(109))
    assert not standing.must_let_go(at(117.9))


def test_hooks_end_once_until_they_may_start_again(standing: HostStanding) -> None:
    """A hook starts by a proof too, when the daemon has not yet beaten again."""
    assert standing.must_let_go(at(109))
    standing.let_go()
    assert not standing.must_let_go(at(109))
    standing.beaten(at(110))
    assert not standing.must_let_go(at(118.9))
    assert standing.must_let_go(at(119))


def test_a_beat_that_is_told_late_does_not_undo_a_later_one(standing: HostStanding) -> None:
    standing.beaten(at(99))
    assert not standing.must_let_go(at(108.9))


@pytest.mark.parametrize("later", [at(160), at(100, shared_s=160)])
def test_a_minute_without_a_beat_is_known_until_it_was_looked_again(later: SharedTime) -> None:
    """By whichever clock: others have asked only those that they saw."""
    standing = HostStanding(10)
    standing.heard(at(100))
    standing.heard(at(159.9))
    assert not standing.was_silent
    standing = HostStanding(10)
    standing.heard(at(100))
    for moment in (later, later):
        standing.heard(moment)
        assert standing.was_silent
    standing.looked_again()
    assert not standing.was_silent
