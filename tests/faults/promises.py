"""What premblyd promises about its database, checked from outside: by SQL, and beside what hooks
wrote down themselves."""

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import NamedTuple

from premblyd.features.postgresql.settings import Server
from premblyd.ground.databases import DatabaseAddress
from tests.support.database import Connection, reading

# Actions of the crash campaign, of which each delivery is tried until it is over.
ONCE, LINE = "activate", "line"
# So far the clocks of two hosts may be apart, which they take from the database: a busy machine may
# hold up the first reading.
CLOCKS_MS = 1_000
FIGURES = {
    "deliveries succeeded": "SELECT count(*) FROM delivery WHERE state = 'succeeded'",
    "deliveries dead": "SELECT count(*) FROM delivery WHERE state = 'dead'",
    "deliveries skipped": "SELECT count(*) FROM delivery WHERE state = 'skipped'",
    "attempts": "SELECT count(*) FROM attempt",
    "attempts interrupted": "SELECT count(*) FROM attempt WHERE outcome = 'interrupted'",
    "answers of Prembly's stored": "SELECT count(*) FROM event WHERE type = 'prembly.status'",
}
BROKEN = {
    "events stored twice": "SELECT count(*) FROM (SELECT 1 FROM event WHERE token IS NOT NULL"
    " GROUP BY token HAVING count(*) > 1) AS twice",
    "events without their delivery": "SELECT count(*) FROM event WHERE NOT EXISTS"
    " (SELECT 1 FROM delivery WHERE event_id = event.id AND action = 'count')",
    "deliveries that succeeded twice": "SELECT count(*) FROM (SELECT 1 FROM attempt"
    " WHERE outcome = 'succeeded' GROUP BY delivery_id HAVING count(*) > 1) AS twice",
    "deliveries that are not over": "SELECT count(*) FROM delivery"
    " WHERE state NOT IN ('succeeded', 'dead') AND NOT (action = 'activate' AND state = 'skipped')",
    "deliveries that died too soon": "SELECT count(*) FROM delivery"
    " WHERE action IN ('activate', 'line') AND state = 'dead'",
    "attempts left open": "SELECT count(*) FROM attempt WHERE outcome IS NULL",
    "deliveries whose attempts don't add up": "SELECT count(*) FROM delivery WHERE"
    " attempt_count <> (SELECT count(*) FROM attempt WHERE delivery_id = delivery.id)",
    "skipped ones for another than succeeded": "SELECT count(*) FROM delivery"
    " JOIN event ON event.id = delivery.event_id"
    " WHERE (delivery.state = 'skipped') <> (ran_instead_id IS NOT NULL)"
    " OR delivery.state = 'skipped' AND NOT EXISTS (SELECT 1 FROM delivery AS other"
    " JOIN event AS its ON its.id = other.event_id WHERE other.id = delivery.ran_instead_id"
    " AND other.state = 'succeeded' AND other.action = delivery.action"
    " AND its.reference = event.reference AND its.outcome = event.outcome)",
    "verifications awaited twice": "SELECT count(*) FROM"
    " (SELECT 1 FROM awaited GROUP BY reference HAVING count(*) > 1) AS twice",
    "answers stored twice": "SELECT count(*) FROM (SELECT 1 FROM event"
    " WHERE type = 'prembly.status' GROUP BY reference HAVING count(*) > 1) AS twice",
    "pending events that nobody awaited": "SELECT count(*) FROM event WHERE outcome = 'pending'"
    " AND NOT EXISTS (SELECT 1 FROM awaited WHERE awaited.reference = event.reference)"
    " AND NOT EXISTS (SELECT 1 FROM event AS other WHERE other.reference = event.reference"
    " AND other.outcome IN ('verified', 'not_verified'))",
    "questions that settled without their event": "SELECT count(*) FROM inquiry"
    " WHERE result = 'settled' AND stored_event_id IS NULL AND NOT EXISTS"
    " (SELECT 1 FROM event WHERE reference = inquiry.reference"
    " AND outcome IN ('verified', 'not_verified'))",
    "verifications that are not settled": "SELECT count(*) FROM awaited LEFT JOIN event"
    " ON event.id = settled_by_id WHERE awaited.state <> 'settled'"
    " OR event.outcome IS NULL OR event.outcome NOT IN ('verified', 'not_verified')",
}
RUNS = """
SELECT action, delivery_id, number, worker, attempt.outcome FROM attempt
JOIN delivery ON delivery.id = delivery_id WHERE action <> 'post'
"""
POSTS = """
SELECT event.key || '-' || action, count(*),
    max(CASE WHEN attempt.outcome = 'succeeded' THEN 1 ELSE 0 END)
FROM attempt
JOIN delivery ON delivery.id = delivery_id JOIN event ON event.id = event_id
WHERE action = 'post' GROUP BY delivery.id, event.key, action
"""
OF_ONCE = """
SELECT reference, event.outcome,
    count(DISTINCT CASE WHEN state = 'succeeded' THEN delivery.id END),
    count(CASE WHEN attempt.outcome = 'interrupted' THEN 1 END)
FROM delivery JOIN event ON event.id = event_id LEFT JOIN attempt ON delivery_id = delivery.id
WHERE action = 'activate' GROUP BY 1, 2
"""
OF_LINES = """
SELECT reference, started_at_ms, attempt.finished_at_ms FROM attempt
JOIN delivery ON delivery.id = delivery_id JOIN event ON event.id = event_id
WHERE attempt.outcome = 'succeeded' AND action = 'line' ORDER BY event.id
"""
EVENTS = "SELECT id, reference, outcome FROM event"


class Run(NamedTuple):
    """One run of a hook, as the hook writes it down."""

    action: str
    delivery: int
    attempt: int


def runs_in(path: Path) -> list[Run]:
    """Return what hooks wrote down, `action delivery attempt` a line."""
    lines = [line.split() for line in path.read_text().splitlines()]
    return [Run(action, int(delivery), int(attempt)) for action, delivery, attempt, *_ in lines]


def kept(
    place: DatabaseAddress, promised: Sequence[tuple[str, int]], body_of: Callable[[str], bytes]
) -> list[str]:
    """Return what is wrong: each (token, event) that was acknowledged is there once, with its
    body and number, and a database that is a file is sound."""
    problems = []
    with reading(place) as connection:
        stored: dict[str, list[tuple[int, bytes]]] = {}
        lowest = min((event for _, event in promised), default=0)
        rows = connection.execute("SELECT token, id, body FROM event WHERE id >= ?", [lowest])
        for token, event, body in rows:
            stored.setdefault(token, []).append((event, body))
        for token, event in promised:
            if stored.get(token) != [(event, body_of(token))]:
                found = [number for number, _ in stored.get(token, [])]
                problems.append(f"{token}: acknowledged as {event}, found {found}")
        if isinstance(place, Path):
            sound = connection.execute("PRAGMA integrity_check").fetchall()
            if sound != [("ok",)]:
                problems.append(f"integrity_check: {sound}")
    return problems


def fails(run: Run) -> bool:
    """Return whether the hook exits with 1: every ninth run does."""
    return sum(run[1:]) % 9 == 0


def figures(place: DatabaseAddress) -> dict[str, int]:
    """Return how much there is of what."""
    with reading(place) as connection:
        return {name: connection.execute(sql).fetchone()[0] for name, sql in FIGURES.items()}


def broken(place: DatabaseAddress, at: Path, posts: Counter[str]) -> dict[str, int]:
    """Return how often each promise is broken, when all has ended. In the folder `at` hooks wrote
    down their `runs` and `effects`; `posts`: how often each webhook-id of `post` reached its
    receiver."""
    written = [line.split() for line in (at / "runs").read_text().splitlines()]
    runs = runs_in(at / "runs")
    ran = set(runs)
    with reading(place) as connection:
        found = {name: connection.execute(sql).fetchone()[0] for name, sql in BROKEN.items()}
        by_whom = {Run(*run): (worker, end) for *run, worker, end in connection.execute(RUNS)}
        tried = {name: (times, done) for name, times, done in connection.execute(POSTS)}
        is_late = isinstance(place, Server)  # what a host began that was stopped then
        late = {run for run, (_, outcome) in by_whom.items() if is_late and outcome != "succeeded"}
        found |= _of_effects(connection, at / "effects", late)
    successes = {run for run, (_, outcome) in by_whom.items() if outcome == "succeeded"}
    return {
        **found,
        "runs without an attempt row": len(ran - by_whom.keys()),
        "runs by another than the attempt's": sum(
            by_whom.get(run, (line[3],))[0] != line[3]
            for run, line in zip(runs, written, strict=True)
        ),
        "starts of what had been taken over and started": _late_starts(runs),
        "attempts that ran twice": len(runs) - len(ran),
        "succeeded attempts that never ran": len(successes - ran),
        "failed runs that count as succeeded": sum(map(fails, successes)),
        "posts without an attempt row": sum(
            times > tried.get(name, (0, 0))[0] for name, times in posts.items()
        ),
        "succeeded posts that never came": sum(
            bool(done) and not posts[name] for name, (_, done) in tried.items()
        ),
    }


def _of_effects(connection: Connection, path: Path, late: Collection[Run]) -> dict[str, int]:
    """Return what is wrong with what hooks did, the run and the event a line, for each
    verification: once for each outcome, but after a crash before the record; in the order of
    receipt, but for those that may come `late`."""
    about = {id_: tuple(names) for id_, *names in connection.execute(EVENTS)}
    of_once: Counter[tuple[str, str]] = Counter()
    of_lines: dict[str, list[int]] = defaultdict(list)
    events = [int(line.split()[3]) for line in path.read_text().splitlines()]
    for run, event in zip(runs_in(path), events, strict=True):
        reference, outcome = about[event]
        if run.action == ONCE:
            of_once[reference, outcome] += 1
        elif run not in late:
            of_lines[reference].append(event)
    too_early, ended_ms = 0, dict[str, int]()
    for reference, started_at_ms, finished_at_ms in connection.execute(OF_LINES):
        too_early += started_at_ms + CLOCKS_MS < ended_ms.get(reference, 0)
        ended_ms[reference] = finished_at_ms
    keys = connection.execute(OF_ONCE).fetchall()
    return {
        "keys of `once` without exactly one success": sum(row[2] != 1 for row in keys),
        "keys of `once` without their effect": sum(not of_once[row[0], row[1]] for row in keys),
        "keys of `once` with more effects than crashes explain": sum(
            of_once[reference, outcome] > 1 + crashes for reference, outcome, _, crashes in keys
        ),
        "references whose effects are out of order": sum(
            found != sorted(found) for found in of_lines.values()
        ),
        "successes of a line that began before the one before them ended": too_early,
    }


def _late_starts(runs: Sequence[Run]) -> int:
    """Return how many of `runs`, in the order in which they began, came after a later attempt of
    their delivery: a host that slept, say, that did not look again."""
    last: dict[int, int] = {}
    late = 0
    for run in runs:
        late += run.attempt < last.get(run.delivery, 0)
        last[run.delivery] = max(run.attempt, last.get(run.delivery, 0))
    return late
