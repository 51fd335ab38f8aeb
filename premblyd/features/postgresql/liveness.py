"""Whether the other hosts still count this daemon as alive, as it knows by itself; and those
others, as it sees them. Time is given."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from premblyd.queue.register import SILENT_MS, Sighting

SURE = 0.5  # of lost_after: for so long after a beat a claim needs no proof
KEPT = 0.9  # and for so long hooks run on: they must have ended when others start them


class SharedTime(NamedTuple):
    """A time by two clocks: `times.boot_s`, and the database's as it is known here."""

    boot_s: float
    shared_ms: int


class Liveness:
    """Whether a daemon counts as alive. The others take it for lost once they saw no beat of it for
    `lost_after`. Here that time is counted from when a beat was asked for, which is earlier, and by
    a clock that counts the machine's sleep. No clock of this machine counts how long it was paused,
    if it is a virtual one: the database's tells that, as soon as it is read again."""

    def __init__(self, lost_after_s: float) -> None:
        self._sure_s = lost_after_s * SURE
        self._kept_s = lost_after_s * KEPT
        self._beaten_at_s = float("-inf")
        self._lost_at_s = float("-inf")
        self._has_let_go = False
        self._heard: SharedTime | None = None
        # Whether this daemon has not beaten for so long that others may have begun what it can't
        # do, and asked only those that they saw; until it has looked again.
        self.was_silent = False

    def heard(self, now: SharedTime) -> None:
        """Take in that the database's time was read with a beat: so long was none."""
        if (before := self._heard) is not None:
            silent_s = max(now.boot_s - before.boot_s, (now.shared_ms - before.shared_ms) / 1000)
            self.was_silent = self.was_silent or silent_s >= SILENT_MS / 1000
        self._heard = now

    def looked_again(self) -> None:
        """Note that it has looked at what others have begun, and can continue."""
        self.was_silent = False

    def beaten(self, asked: SharedTime) -> None:
        """Take in that a beat counted which was asked for then, or another sign of life: hooks may
        start again from here."""
        self._beaten_at_s = max(self._beaten_at_s, asked.boot_s)
        self._has_let_go = False

    def lost(self, at: SharedTime) -> None:
        """Note that the others have declared this daemon lost: nothing from before is sure."""
        self._lost_at_s = at.boot_s
        self._beaten_at_s = float("-inf")

    def is_sure(self, claimed: SharedTime, now: SharedTime) -> bool:
        """Return whether nobody else can have taken over what was claimed then."""
        since_s = min(claimed.boot_s, self._beaten_at_s)
        age_s = max(now.boot_s - since_s, (now.shared_ms - claimed.shared_ms) / 1000)
        return claimed.boot_s > self._lost_at_s and age_s < self._sure_s

    def must_let_go(self, now: SharedTime) -> bool:
        """Return whether others may soon start what runs here: this daemon has not beaten for too
        long, and has not let go of it since."""
        return not self._has_let_go and now.boot_s - self._beaten_at_s >= self._kept_s

    def let_go(self) -> None:
        """Take in that nothing runs here any more."""
        self._has_let_go = True


GAP = 0.5  # of `lost_after_s`: who has not looked for longer begins anew


@dataclass(slots=True)
class _Seen:
    beat_count: int
    at_s: float  # on the observer's monotonic clock


class Observation:
    """The others, as one daemon sees them.

    No clock of theirs is believed: who lives counts its beats, and is lost when the count has not
    grown for as long as its row says, while this daemon looked on without a gap. So after the
    database was away, or this daemon was stopped, nobody is lost at once. `lost_after_s`: of this
    daemon, and of those whose row does not say.
    """

    def __init__(self, lost_after_s: float) -> None:
        self._lost_after_s = lost_after_s
        self._seen: dict[str, _Seen] = {}  # by worker: its number may become another's
        self._looked_at_s = float("-inf")
        self._first_id: int | None = None

    def look(self, hosts: Sequence[Sighting], at_s: float) -> list[Sighting]:
        """Take in what the database has of the hosts at `at_s`; return those that are lost."""
        if at_s - self._looked_at_s > self._lost_after_s * GAP:
            self._seen.clear()
        self._looked_at_s = at_s
        before, self._seen = self._seen, {}
        lost = []
        for host in hosts:
            seen = before.get(host.worker)
            if seen is None or seen.beat_count != host.beat_count:
                seen = _Seen(host.beat_count, at_s)
            elif at_s - seen.at_s >= self._after_s(host):
                lost.append(host)
            self._seen[host.worker] = seen
        alive = [host.id for host in hosts if host not in lost]
        self._first_id = min(alive, default=None)
        return lost

    def _after_s(self, host: Sighting) -> float:
        if host.lost_after_ms is None:
            return self._lost_after_s
        return host.lost_after_ms / 1000

    def is_leader(self, host_id: int) -> bool:
        """Return whether that host is the one that does what only one shall do, as far as the last
        look tells."""
        return self._first_id == host_id
