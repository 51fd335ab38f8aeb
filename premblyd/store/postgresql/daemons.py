"""Which daemons work on a database, told by their beats: no clock is believed."""

import time

from premblyd.store.postgresql.transaction import Connection

WATCHED_S = 12.0  # a daemon that has not beaten for so long is no more
GATHERED_S = 1.5  # once one has beaten, the others have so long to be named too
LOOK_S = 0.25
_BEATS = """
SELECT worker, name, pid, version, beat_count FROM host
WHERE ended_at_ms IS NULL
  AND abs(extract(epoch FROM clock_timestamp()) * 1000 - seen_at_ms) < %s
ORDER BY id
"""
_EVER_MS = 1 << 62


def living(connection: Connection, *, seen_within_ms: int = _EVER_MS) -> list[str]:
    """Watch the daemons that have not ended, for WATCHED_S at most. Return who lives, in words.
    `seen_within_ms`: those that were not seen for so long are left out."""
    first = _beats(connection, seen_within_ms)
    beaten: dict[str, str] = {}
    until_s = time.monotonic() + WATCHED_S
    while first and time.monotonic() < until_s:
        time.sleep(LOOK_S)
        now = _beats(connection, seen_within_ms)
        for worker, (who, count) in now.items():
            if first.get(worker) != (who, count) and worker not in beaten:
                beaten[worker] = who
                until_s = min(until_s, time.monotonic() + GATHERED_S)
        first = {worker: seen for worker, seen in first.items() if worker in now}
        if beaten.keys() >= now.keys():
            break
    return list(beaten.values())


def _beats(connection: Connection, seen_within_ms: int) -> dict[str, tuple[str, int]]:
    """Return who has not ended, and how often each has beaten."""
    found = connection.execute(_BEATS, [seen_within_ms]).fetchall()
    return {
        worker: (f"{name} (process {pid}, premblyd {version})", count)
        for worker, name, pid, version, count in found
    }
