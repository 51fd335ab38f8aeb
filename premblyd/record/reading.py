"""Reading the record: events, deliveries and attempts, as plain rows."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from peewee import JOIN, Expression, Field, ModelSelect, SqliteDatabase

from premblyd.store.models import Attempt, Delivery, Event, Rejection
from premblyd.store.sqlite.opening import translated

Row = dict[str, Any]
_LISTED_EVENT = [
    field
    for field in Event._meta.sorted_fields
    if field.name not in {"body", "headers", "token", "session_id"}
]


@dataclass(frozen=True, slots=True, kw_only=True)
class EventFilter:
    """Which events to list; None does not filter. Times in Unix milliseconds."""

    code: str | None = None
    outcome: str | None = None
    reference: str | None = None
    user_ref: str | None = None
    key: str | None = None  # or its beginning, in hex
    since_ms: int | None = None
    until_ms: int | None = None


def events(database: SqliteDatabase, wanted: EventFilter, limit: int) -> list[Row]:
    """Return the newest events first, without payload and secrets."""
    query = Event.select(*_LISTED_EVENT).order_by(Event.id.desc()).limit(limit)
    for field, value in (
        (Event.outcome, wanted.outcome),
        (Event.reference, wanted.reference),
        (Event.user_ref, wanted.user_ref),
    ):
        if value is not None:
            query = query.where(field == value)
    if wanted.key is not None:  # a range, which the key's index serves
        query = query.where(Event.key.between(wanted.key, f"{wanted.key}g"))
    if wanted.code == "missing":
        query = query.where(Event.response_code.is_null())
    elif wanted.code is not None:
        query = query.where(Event.response_code == wanted.code)
    return _rows(database, _between(query, Event.received_at_ms, wanted))


def find_event(database: SqliteDatabase, number_or_key: str) -> Row | None:
    """Return one whole event by its number or its key; None if there is none."""
    rows = _rows(database, Event.select().where(_names(number_or_key)))
    if rows:
        rows[0]["body"] = bytes(rows[0]["body"])
    return rows[0] if rows else None


def find_event_id(database: SqliteDatabase, number_or_key: str) -> int | None:
    """Return the number of the event with this number or key; None if there is none."""
    rows = _rows(database, Event.select(Event.id).where(_names(number_or_key)))
    return rows[0]["id"] if rows else None


def _names(number_or_key: str) -> Expression:
    if number_or_key.isdecimal() and len(number_or_key) < 19:
        return Event.id == int(number_or_key)
    return Event.key == number_or_key


def deliveries(
    database: SqliteDatabase,
    *,
    state: str | None = None,
    action: str | None = None,
    event_id: int | None = None,
    since_ms: int | None = None,
    limit: int | None = None,
) -> list[Row]:
    """Return the newest deliveries first. `since_ms`: of events received at or after."""
    query = (
        Delivery.select(
            *Delivery._meta.sorted_fields, Event.response_code, Event.outcome, Event.reference
        )
        .join(Event, JOIN.LEFT_OUTER)  # somebody may have deleted it
        .order_by(Delivery.id.desc())
        .limit(limit)
    )
    for field, value in (
        (Delivery.state, state),
        (Delivery.action, action),
        (Delivery.event, event_id),
    ):
        if value is not None:
            query = query.where(field == value)
    if since_ms is not None:
        query = query.where(Event.received_at_ms >= since_ms)
    rows = _rows(database, query)
    for row in rows:
        row["event_id"] = row.pop("event")
    return rows


def attempts(database: SqliteDatabase, delivery_ids: Iterable[int]) -> list[Row]:
    """Return the attempts of these deliveries, in order."""
    query = (
        Attempt.select()
        .where(Attempt.delivery.in_(list(delivery_ids)))
        .order_by(Attempt.delivery, Attempt.number)
    )
    rows = _rows(database, query)
    for row in rows:
        row["delivery_id"] = row.pop("delivery")
    return rows


def rejections(
    database: SqliteDatabase,
    limit: int,
    *,
    reason: str | None = None,
    remote_ip: str | None = None,
    since_ms: int | None = None,
) -> list[Row]:
    """Return the newest rejections first."""
    query = Rejection.select().order_by(Rejection.at_ms.desc(), Rejection.id.desc()).limit(limit)
    for field, value in ((Rejection.reason, reason), (Rejection.remote_ip, remote_ip)):
        if value is not None:
            query = query.where(field == value)
    if since_ms is not None:
        query = query.where(Rejection.at_ms >= since_ms)
    return _rows(database, query)


def _between(query: "ModelSelect[Any]", field: Field, wanted: EventFilter) -> "ModelSelect[Any]":
    if wanted.since_ms is not None:
        query = query.where(field >= wanted.since_ms)
    if wanted.until_ms is not None:
        query = query.where(field < wanted.until_ms)
    return query


def _rows(database: SqliteDatabase, query: "ModelSelect[Any]") -> list[Row]:
    with translated():
        rows: Iterable[Row] = query.bind(database).dicts()
        return list(rows)
