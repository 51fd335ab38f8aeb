"""Which daemons work on a database, told by their beats: no clock is believed.

A daemon that was killed leaves its row as one that lives has it, so each is watched for as long as
it takes to see it beat: three beats, within bounds. Hosts beat a tenth of `lost_after` apart.
"""

import time
from dataclasses import dataclass
from typing import NamedTuple

from premblyd.engines.postgresql.transaction import NOW_MS, Connection

WATCHED_S = 12.0  # at least
MOST_WATCHED_S = 120.0
GATHERED_S = 1.5  # once one has beaten, the others have so long to be named too
LOOK_S = 0.25
_FRESH_S = 60.0
_HOSTS = f"""
SELECT worker, name, pid, version, beat_count,
       abs({NOW_MS} - seen_at_ms)::float / 1000,
       least(60, coalesce((seen_at_ms - started_at_ms)::float / 1000 / nullif(beat_count, 0), 4))
FROM host WHERE ended_at_ms IS NULL ORDER BY id
"""  # noqa: S608 (a constant)


class Living(NamedTuple):
    """A daemon that has beaten while it was watched."""

    name: str
    pid: int
    version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Host:
    """A daemon that has not ended, as its row has it."""

    daemon: Living
    beat_count: int
    unseen_s: float
    beat_s: float  # from one beat to the next, so far

    @property
    def is_fresh(self) -> bool:
        """Whether its last beat is so young that it may live."""
        return self.unseen_s < _FRESH_S + 5 * self.beat_s


def living(
    connection: Connection, *, watched_s: float | None = None, fresh_only: bool = False
) -> list[Living]:
    """Watch the daemons that have not ended, for `watched_s` at least (None: WATCHED_S). Return
    those that live. `fresh_only`: who has not beaten for a minute and five beats is dead."""
    before = _hosts(connection, fresh_only=fresh_only)
    least_s = WATCHED_S if watched_s is None else watched_s
    longest_beat_s = max((host.beat_s for host in before.values()), default=0)
    until_s = time.monotonic() + min(max(3 * longest_beat_s, least_s), MOST_WATCHED_S)
    beaten: dict[str, Living] = {}
    while before and time.monotonic() < until_s:
        time.sleep(LOOK_S)
        now = _hosts(connection, fresh_only=fresh_only)
        for worker, host in now.items():
            has_beaten = worker not in before or before[worker].beat_count != host.beat_count
            if has_beaten and worker not in beaten:
                beaten[worker] = host.daemon
                until_s = min(until_s, time.monotonic() + GATHERED_S)
        before = {worker: host for worker, host in before.items() if worker in now}
        if beaten.keys() >= now.keys():
            break
    return list(beaten.values())


def _hosts(connection: Connection, *, fresh_only: bool) -> dict[str, _Host]:
    """Return who has not ended, by worker."""
    found = {
        worker: _Host(
            daemon=Living(name, pid, version),
            beat_count=beat_count,
            unseen_s=unseen_s,
            beat_s=beat_s,
        )
        for worker, name, pid, version, beat_count, unseen_s, beat_s in connection.execute(_HOSTS)
    }
    return {worker: host for worker, host in found.items() if host.is_fresh or not fresh_only}
