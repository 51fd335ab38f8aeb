"""Whether the others must still count this daemon as alive, by what it knows itself.

They take it for lost once they have not seen it beat for `lost_after`. Here that time is counted
from when a beat was asked for, which is earlier, and by a clock that counts the machine's sleep. No
clock of this machine counts how long it was paused, if it is a virtual one: the database's tells
that, as soon as it is read again.
"""

from typing import NamedTuple

SURE = 0.5  # of lost_after: for so long after a beat a claim needs no proof
KEPT = 0.9  # and for so long hooks run on: they must have ended when others start them


class Moment(NamedTuple):
    """A time by two clocks: `clock.boot_s`, and the database's as it is known here."""

    boot_s: float
    shared_ms: int


class Standing:
    """A daemon's standing among the others. Pure: times are given."""

    def __init__(self, lost_after_s: float) -> None:
        self._sure_s = lost_after_s * SURE
        self._kept_s = lost_after_s * KEPT
        self._beaten_at_s = float("-inf")
        self._lost_at_s = float("-inf")

    def beaten(self, asked: Moment) -> None:
        """Take in that a beat counted which was asked for then."""
        self._beaten_at_s = max(self._beaten_at_s, asked.boot_s)

    def lost(self, at: Moment) -> None:
        """Take in that the others have called this daemon lost: nothing of before is sure."""
        self._lost_at_s = at.boot_s
        self._beaten_at_s = float("-inf")

    def is_sure(self, claimed: Moment, now: Moment) -> bool:
        """Return whether nobody else can have taken over what was claimed then."""
        since_s = min(claimed.boot_s, self._beaten_at_s)
        age_s = max(now.boot_s - since_s, (now.shared_ms - claimed.shared_ms) / 1000)
        return claimed.boot_s > self._lost_at_s and age_s < self._sure_s

    def has_lapsed(self, now: Moment) -> bool:
        """Return whether others may soon start what runs here: this daemon has not beaten for too
        long."""
        return now.boot_s - self._beaten_at_s >= self._kept_s
