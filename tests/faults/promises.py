"""What premblyd promises about its database, checked from outside."""

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from premblyd.databases import DatabaseAddress
from tests.support.database import reading

FIGURES = {
    "deliveries succeeded": "SELECT count(*) FROM delivery WHERE state = 'succeeded'",
    "deliveries dead": "SELECT count(*) FROM delivery WHERE state = 'dead'",
    "attempts": "SELECT count(*) FROM attempt",
    "attempts interrupted": "SELECT count(*) FROM attempt WHERE outcome = 'interrupted'",
}
BROKEN = {
    "events stored twice": "SELECT count(*) FROM"
    " (SELECT 1 FROM event GROUP BY token HAVING count(*) > 1) AS twice",
    "events without their delivery": "SELECT count(*) FROM event WHERE NOT EXISTS"
    " (SELECT 1 FROM delivery WHERE event_id = event.id AND action = 'count')",
    "deliveries that succeeded twice": "SELECT count(*) FROM (SELECT 1 FROM attempt"
    " WHERE outcome = 'succeeded' GROUP BY delivery_id HAVING count(*) > 1) AS twice",
    "deliveries neither succeeded nor dead": "SELECT count(*) FROM delivery"
    " WHERE state NOT IN ('succeeded', 'dead')",
    "attempts left open": "SELECT count(*) FROM attempt WHERE outcome IS NULL",
    "deliveries whose attempts don't add up": "SELECT count(*) FROM delivery WHERE"
    " attempt_count <> (SELECT count(*) FROM attempt WHERE delivery_id = delivery.id)",
}
RUNS = """
SELECT action, delivery_id, number, attempt.outcome FROM attempt
JOIN delivery ON delivery.id = delivery_id WHERE action <> 'post'
"""
POSTS = """
SELECT event.key || '-' || action, count(*),
    max(CASE WHEN attempt.outcome = 'succeeded' THEN 1 ELSE 0 END)
FROM attempt
JOIN delivery ON delivery.id = delivery_id JOIN event ON event.id = event_id
WHERE action = 'post' GROUP BY delivery.id, event.key, action
"""


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


def broken(place: DatabaseAddress, runs: Sequence[Run], posts: Counter[str]) -> dict[str, int]:
    """Return how often each promise is broken. `runs`: as the hooks of all actions but `post` wrote
    them down themselves; `posts`: how often each webhook-id of `post` reached its receiver."""
    ran = set(runs)
    with reading(place) as connection:
        found = {name: connection.execute(sql).fetchone()[0] for name, sql in BROKEN.items()}
        attempts = {Run(*run): outcome for *run, outcome in connection.execute(RUNS)}
        tried = {name: (times, done) for name, times, done in connection.execute(POSTS)}
    successes = {run for run, outcome in attempts.items() if outcome == "succeeded"}
    return {
        **found,
        "runs without an attempt row": len(ran - attempts.keys()),
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
