"""The other daemons on a database, as one of them sees them. Time is given."""

from collections.abc import Sequence
from dataclasses import dataclass

from premblyd.queue.register import Sighting

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
