"""A database as it is after years: many events, and a queue behind an action that is slow."""

import hashlib
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from premblyd.engines.sqlite import opening
from premblyd.verifications.spellings import reference_key
from tests.bench import webhooks
from tests.support import rollups

FIRST_MS = 1_700_000_000_000
EVERY_MS = 1_000  # between two events
MAX_WAITING = 100_000
ONE_DEAD_IN = 100  # so that a small database fills the list of the dead too
ATTEMPTS = 10
SLOW = "slow"  # the action that the waiting deliveries are for
_EVENT = (
    "key endpoint received_at_ms remote_ip token headers body_bytes body_digest verified_by kind"
    " response_code status detail verification_status outcome reference user_ref face_match"
    " face_confidence body reference_key"
).split()
_DELIVERY = (
    "id event_id action state due_at_ms attempt_count attempts_left created_at_ms finished_at_ms"
    " last_error"
).split()
_ATTEMPT = (
    "delivery_id number worker action_digest started_at_ms finished_at_ms outcome exit_code output"
).split()


def waiting(events: int) -> int:
    """Return how many deliveries wait in a database of so many events."""
    return min(MAX_WAITING, events // 10)


def build(path: Path, events: int) -> None:
    """Make the database at `path`: `events` events with a delivery each. The newest deliveries
    wait and are due, of the others one in ONE_DEAD_IN is dead, and all have had an attempt."""
    opening.prepare(path)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA synchronous = off")  # nobody relies on it before it is whole
        connection.execute("PRAGMA cache_size = -500000")
        with connection:
            for table in tables(events):
                _insert(connection, *table)
            rollups.fill(connection)
        connection.execute("PRAGMA wal_checkpoint(truncate)")
    os.sync()  # or the system writes it while something is measured


def tables(events: int) -> Iterator[tuple[str, list[str], Iterator[tuple[Any, ...]]]]:
    """Yield each table with its columns and rows."""
    waiting_from = events - waiting(events)
    yield "event", _EVENT, map(_event, range(events))
    yield "delivery", _DELIVERY, (_delivery(number, waiting_from) for number in range(events))
    yield "attempt", _ATTEMPT, map(_attempt, range(waiting_from))


def reference(number: int) -> str:
    """Return the reference of the event at this place, which comes in no order."""
    return hashlib.sha256(f"reference {number}".encode()).hexdigest()[:32]


def _insert(
    connection: sqlite3.Connection,
    table: str,
    columns: list[str],
    values: Iterator[tuple[Any, ...]],
) -> None:
    marks = ", ".join("?" * len(columns))
    names = ", ".join(columns)
    connection.executemany(f"INSERT INTO {table} ({names}) VALUES ({marks})", values)


def _event(number: int) -> tuple[Any, ...]:
    content = _BODY.replace(_MARK, reference(number).encode())
    digest = hashlib.sha256(content).hexdigest()
    return (
        *(digest[:32], "prembly", FIRST_MS + number * EVERY_MS, "192.0.2.7", f"token-{number}"),
        *('[["Content-Type","application/json"]]', len(content), digest, "hmac-sha256:live"),
        *("sdk", "00", "true", "Verification successful", "VERIFIED", "verified"),
        *(
            reference(number),
            f"user-{number}",
            True,
            97.5,
            content,
            reference_key(reference(number)),
        ),
    )


def _delivery(number: int, waiting_from: int) -> tuple[Any, ...]:
    made_ms = FIRST_MS + number * EVERY_MS
    key = (number + 1, number + 1, SLOW)
    if number >= waiting_from:
        return (*key, "pending", made_ms, 0, ATTEMPTS, made_ms, None, None)
    if _is_dead(number):
        return (*key, "dead", None, 1, 0, made_ms, made_ms + 5, "exit status 1")
    return (*key, "succeeded", None, 1, ATTEMPTS - 1, made_ms, made_ms + 5, None)


def _attempt(number: int) -> tuple[Any, ...]:
    made_ms = FIRST_MS + number * EVERY_MS
    outcome, code = ("failed", 1) if _is_dead(number) else ("succeeded", 0)
    worker, action_digest = "host:1:00000000", "0" * 12
    return (number + 1, 1, worker, action_digest, made_ms, made_ms + 5, outcome, code, "")


def _is_dead(number: int) -> bool:
    return number % ONE_DEAD_IN == ONE_DEAD_IN // 2


_MARK = b"m" * 32
_BODY = webhooks.body(_MARK.decode())
