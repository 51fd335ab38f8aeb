"""When a daemon may start and keep hooks without a proof, by a clock of the test's own."""

import pytest

from premblyd.hosts.liveness import Liveness, SharedTime


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


@pytest.mark.parametrize("later", [at(160), at(100, shared_s=160)])
def test_a_minute_without_a_beat_is_known_until_it_was_looked_again(later: SharedTime) -> None:
    """By whichever clock: others have asked only those that they saw."""
    liveness = Liveness(10)
    liveness.heard(at(100))
    liveness.heard(at(159.9))
    assert not liveness.was_silent
    liveness = Liveness(10)
    liveness.heard(at(100))
    for moment in (later, later):
        liveness.heard(moment)
        assert liveness.was_silent
    liveness.looked_again()
    assert not liveness.was_silent
