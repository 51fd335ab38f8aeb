"""What premblyd promises about what is kept, removed and erased, checked from outside: an event is
whole, or lacks all of a class, in every table at once."""

from collections.abc import Iterator
from dataclasses import dataclass

from premblyd.features.asking.tables import Awaited, Inquiry
from premblyd.features.keeping.erased import NameDigests
from premblyd.features.postgresql.settings import Server
from premblyd.ground.databases import DatabaseAddress
from premblyd.queue.end import CRASHED, UNSTARTED
from premblyd.queue.queue import BODY_GONE, ERASED
from premblyd.store.columns import PLAIN, Column, Kept, columns
from premblyd.store.tables import Attempt, Delivery, Event
from tests.support.database import Connection, reading

BODY, IDENTITY = (Kept.BODY,), (Kept.BODY, Kept.IDENTITY)
# How the rows of each table are found from the events that lack something.
OF_EVENTS = {
    Event: "id IN ({})",
    Delivery: "event_id IN ({})",
    Attempt: "delivery_id IN (SELECT id FROM delivery WHERE event_id IN ({}))",
    Inquiry: "event_id IN ({})",
    Awaited: "event_id IN ({})",
}
# What is noted of an event after it was emptied, in premblyd's own words.
ERRORS = ("last_error", "error")
OWN_WORDS = (ERASED, CRASHED, UNSTARTED, BODY_GONE)
BROKEN = {
    "events with an erasure that is not there": "SELECT count(*) FROM event"
    " FULL JOIN erased_event ON event_id = event.id WHERE event.id IS NULL"
    " OR (coalesce(removed_parts, '') = 'erased') <> (event_id IS NOT NULL) OR"
    " (event_id IS NOT NULL AND erasure_id NOT IN (SELECT id FROM erasure))",
    "erased names that are of no erasure": "SELECT count(*) FROM erased_name"
    " WHERE erasure_id NOT IN (SELECT id FROM erasure)",
    # One that ran meanwhile, and failed, waits until it is looked at.
    "deliveries of erased events that wait": "SELECT count(*) FROM delivery JOIN event"
    " ON event.id = event_id WHERE removed_parts = 'erased' AND state = 'pending'"
    " AND attempt_count = 0",
    "verifications of erased events that are awaited": "SELECT count(*) FROM awaited"
    " JOIN event ON event.id = event_id WHERE removed_parts = 'erased' AND state = 'waiting'",
    "events with a key that is gone too": "SELECT count(*) FROM event"
    " WHERE key IN (SELECT key FROM gone_event)",
    "events that were counted otherwise": "SELECT (SELECT coalesce(sum(events), 0) FROM event_hour)"
    " - (SELECT count(*) FROM event) - (SELECT count(*) FROM gone_event)",
    "events removed otherwise than said": "SELECT (SELECT count(*) FROM gone_event)"
    " - (SELECT coalesce(sum(count), 0) FROM removal WHERE removed = 'record')",
    "deliveries without an event": "SELECT count(*) FROM delivery"
    " WHERE event_id NOT IN (SELECT id FROM event)",
    "attempts without a delivery": "SELECT count(*) FROM attempt"
    " WHERE delivery_id NOT IN (SELECT id FROM delivery)",
    "deliveries whose attempts don't add up": "SELECT count(*) FROM delivery WHERE"
    " attempt_count <> (SELECT count(*) FROM attempt WHERE delivery_id = delivery.id)",
    "deliveries that run without an attempt": "SELECT count(*) FROM delivery WHERE"
    " (state = 'running') <> EXISTS (SELECT 1 FROM attempt WHERE delivery_id = delivery.id"
    " AND outcome IS NULL)",
    "deliveries that wait for none that runs": "SELECT count(*) FROM delivery WHERE"
    " held_by IS NOT NULL AND id NOT IN (SELECT delivery_id FROM ordered WHERE waits_for_id IN"
    " (SELECT id FROM delivery WHERE state IN ('pending', 'running')))",
}
FIGURES = {
    "events there": "SELECT count(*) FROM event",
    "events whole": "SELECT count(*) FROM event WHERE removed_parts IS NULL",
    "events without a body": "SELECT count(*) FROM event WHERE removed_parts = 'body'",
    "events without an identity": "SELECT count(*) FROM event WHERE removed_parts = 'identity'",
    "events erased": "SELECT count(*) FROM event WHERE removed_parts = 'erased'",
    "events removed": "SELECT count(*) FROM gone_event",
    "erasures": "SELECT count(*) FROM erasure",
    "names erased": "SELECT count(*) FROM erased_name",
}


@dataclass(frozen=True, slots=True)
class Stored:
    """An event as it is stored."""

    removed_parts: str | None
    user_ref: str | None
    body: bytes


def events(place: DatabaseAddress) -> dict[int, Stored]:
    """Return all events by their ids."""
    with reading(place) as connection:
        found = connection.execute("SELECT id, removed_parts, user_ref, body FROM event").fetchall()
        return {
            id_: Stored(removed_parts, user_ref, bytes(body or b""))
            for id_, removed_parts, user_ref, body in found
        }


def figures(place: DatabaseAddress) -> dict[str, int]:
    """Return how much there is of what."""
    with reading(place) as connection:
        return {name: connection.execute(sql).fetchone()[0] for name, sql in FIGURES.items()}


def broken(place: DatabaseAddress) -> list[str]:
    """Return which promises are broken at one moment, and how often."""
    with reading(place) as connection:
        is_file = not isinstance(place, Server)
        connection.execute("BEGIN" if is_file else "BEGIN ISOLATION LEVEL REPEATABLE READ")
        found = {name: connection.execute(sql).fetchone()[0] for name, sql in BROKEN.items()}
        found |= {f"{name} is not empty": count for name, count in _not_emptied(connection)}
        found["references that were erased and are there"] = len(_come_back(connection))
        if is_file:
            for pragma in ("integrity_check", "foreign_key_check"):
                said = connection.execute(f"PRAGMA {pragma}").fetchall()
                found[f"{pragma}: {said}"] = int(said not in ([("ok",)], []))
    return [f"{name}: {count}" for name, count in found.items() if count]


def _not_emptied(connection: Connection) -> Iterator[tuple[str, int]]:
    """Yield how many rows have something in a column that was emptied, by the column."""
    for kept, words in ((BODY, "'body'"), (IDENTITY, "'identity', 'erased'")):
        lacking = f"SELECT id FROM event WHERE removed_parts IN ({words})"
        for model, where in OF_EVENTS.items():
            for column in columns(model):
                if column.holds is PLAIN or column.kept not in kept:
                    continue
                name = f"{model._meta.table_name}.{column.column_name}"
                sql = f"SELECT count(*) FROM {model._meta.table_name} WHERE {where.format(lacking)}"
                count = connection.execute(f"{sql} AND {_is_filled(column)}").fetchone()[0]
                yield f"{name} of what lacks {words}", count


def _is_filled(column: Column) -> str:
    name = column.column_name
    match column.emptied:
        case None if name in ERRORS:
            own = ", ".join(f"'{words}'" for words in OWN_WORDS)
            return f"{name} IS NOT NULL AND {name} NOT IN ({own})"
        case None:
            return f"{name} IS NOT NULL"
        case bytes():
            return f"length({name}) > 0"
        case text:
            return f"{name} <> '{text}'"


def _come_back(connection: Connection) -> list[str]:
    """Return the references of events that are not erased though the reference was."""
    erased = {name for (name,) in connection.execute("SELECT name FROM erased_name").fetchall()}
    [key] = connection.execute("SELECT digest_key FROM record").fetchone()
    digests = NameDigests(bytes(key))
    found = connection.execute("SELECT reference FROM event WHERE reference <> ''").fetchall()
    return [name for (name,) in found if digests.of_reference(name) in erased]
