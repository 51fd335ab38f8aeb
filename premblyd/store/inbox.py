"""Keeping what came in: events with their deliveries in one transaction, and rejections."""

import asyncio
import hashlib
import secrets
import sqlite3
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields

from peewee import SQL

from premblyd.prembly.payload import Verdict
from premblyd.store.models import (
    Delivery,
    Event,
    Heartbeat,
    Rejection,
    State,
    insert,
    param,
    statement,
)
from premblyd.store.writer import Writer

MAX_REJECTIONS = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class NewEvent:
    """An authentic webhook, to be stored."""

    endpoint: str
    received_at_ms: int
    remote_ip: str
    token: str | None
    headers: str
    body: bytes
    verified_by: str
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class NewDelivery:
    """An action that the event is for, and how often its hook may run."""

    action: str
    attempts: int


@dataclass(frozen=True, slots=True)
class Added:
    """The event as it is on disk. Not new: it was there already, and nothing will run."""

    event_id: int
    key: str
    is_new: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class NewRejection:
    """A refused request, as evidence. `reason` is one of premblyd's own words."""

    at_ms: int
    endpoint: str
    remote_ip: str
    reason: str
    body_bytes: int | None
    body_sha256: str | None


class Inbox:
    """Where webhooks are put. Returns after the commit."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer

    def add(self, event: NewEvent, deliveries: Sequence[NewDelivery]) -> "asyncio.Future[Added]":
        """Store `event` with its deliveries, or count it as a duplicate of one that is stored.
        Raise StoreUnavailableError when it can't be."""
        key, row = _event_row(event)

        def operation(connection: sqlite3.Connection) -> Added:
            cursor = connection.execute(_INSERT_EVENT, row)
            if not cursor.rowcount:
                return _count_duplicate(connection, key, event.received_at_ms)
            event_id = cursor.lastrowid or 0
            connection.executemany(
                _INSERT_DELIVERY,
                [
                    {
                        "event_id": event_id,
                        "action": one.action,
                        "state": State.PENDING,
                        "due_at_ms": event.received_at_ms,
                        "attempts_left": one.attempts,
                        "created_at_ms": event.received_at_ms,
                    }
                    for one in deliveries
                ],
            )
            return Added(event_id, key, True)

        return self._writer.submit(operation)

    def reject(self, rejection: NewRejection) -> "asyncio.Future[None]":
        """Keep `rejection`, and forget the oldest beyond MAX_REJECTIONS."""
        row = asdict(rejection)

        def operation(connection: sqlite3.Connection) -> None:
            cursor = connection.execute(_INSERT_REJECTION, row)
            last_kept = (cursor.lastrowid or 0) - MAX_REJECTIONS
            connection.execute(_TRIM_REJECTIONS, {"id": last_kept})

        return self._writer.submit(operation)

    def prove_commit(self, now_ms: int) -> "asyncio.Future[None]":
        """Commit something. Raise StoreUnavailableError when the database can't."""

        def operation(connection: sqlite3.Connection) -> None:
            connection.execute(_BEAT, {"at_ms": now_ms})

        return self._writer.submit(operation)


def event_key(event: NewEvent, body_sha256: bytes) -> str:
    """Return what makes a duplicate: endpoint, token and body. Random where that can't be told,
    because thin bodies of different verifications may be the same bytes.

    The token alone does not tell: PENDING and the later VERIFIED of one verification share it.
    """
    if not event.token and not event.verdict.reference:
        return secrets.token_hex(16)
    digest = hashlib.sha256()
    for part in (event.endpoint.encode(), (event.token or "").encode("utf-8", "replace")):
        digest.update(len(part).to_bytes(4, "big") + part)
    digest.update(body_sha256)
    return digest.hexdigest()[:32]


def _event_row(event: NewEvent) -> tuple[str, dict[str, object]]:
    body_sha256 = hashlib.sha256(event.body)
    key = event_key(event, body_sha256.digest())
    row = {
        "key": key,
        "endpoint": event.endpoint,
        "received_at_ms": event.received_at_ms,
        "remote_ip": event.remote_ip,
        "token": event.token,
        "headers": event.headers,
        "body_bytes": len(event.body),
        "body_sha256": body_sha256.hexdigest(),
        "verified_by": event.verified_by,
        "body": event.body,
    }
    for name in VERDICT_COLUMNS:
        row[name] = getattr(event.verdict, name)
    return key, row


def _count_duplicate(connection: sqlite3.Connection, key: str, now_ms: int) -> Added:
    connection.execute(_COUNT_DUPLICATE, {"key": key, "last_duplicate_at_ms": now_ms})
    (event_id,) = connection.execute(_EVENT_BY_KEY, {"key": key}).fetchone()
    return Added(event_id, key, False)


VERDICT_COLUMNS = tuple(field.name for field in fields(Verdict))

# The UNIQUE key decides inside the transaction; a look before the insert would race.
_INSERT_EVENT = (
    insert(
        Event,
        *("key", "endpoint", "received_at_ms", "remote_ip", "token", "headers", "body_bytes"),
        *("body_sha256", "verified_by", *VERDICT_COLUMNS, "body"),
    )
    + ' ON CONFLICT ("key") DO NOTHING'
)
_EVENT_BY_KEY = statement(Event.select(Event.id).where(Event.key == param("key")))
_COUNT_DUPLICATE = statement(
    Event.update(
        duplicate_count=Event.duplicate_count + SQL("1"),
        last_duplicate_at_ms=param("last_duplicate_at_ms"),
    ).where(Event.key == param("key"))
)
_INSERT_DELIVERY = insert(
    Delivery, "event_id", "action", "state", "due_at_ms", "attempts_left", "created_at_ms"
)
_INSERT_REJECTION = insert(Rejection, *(field.name for field in fields(NewRejection)))
_TRIM_REJECTIONS = statement(Rejection.delete().where(Rejection.id <= param("id")))
_BEAT = statement(Heartbeat.update(at_ms=param("at_ms")))
