"""What a crash has left of a delivery, and whether it runs again or ends; and its event, as stored.
If somebody made a row unreadable, its delivery ends dead, with the reason."""

from collections.abc import Iterable, Sequence
from dataclasses import fields
from typing import Any

from peewee import Query, fn

from premblyd.ground.errors import PremblydError
from premblyd.prembly.payload import Kind, Outcome, StoredEvent, Verdict, Webhook
from premblyd.queue.arrivals import VERDICT_COLUMNS
from premblyd.queue.end import end
from premblyd.queue.hooks import End
from premblyd.queue.jobs import SMALL_BYTES, Due
from premblyd.store.engine import Lookup, Row, Statement, Transaction, param, update
from premblyd.store.states import AttemptOutcome, RemovedParts, State
from premblyd.store.tables import IS_LAST_ATTEMPT, Attempt, Delivery, Event

CRASHED = "the daemon stopped while the hook ran"
UNSTARTED = "the database failed as the hook was to start; it did not run"
EVENT_GONE = "its event is no longer in the database"
EVENT_CHANGED = "its event was changed and can't be read: "  # and the column's name
ERASED = "its person was erased"
BODY_GONE = "the body of its event was deleted when its retention period expired"
EVENT_COLUMNS = (
    *(field.name for field in fields(Webhook) if field.name != "verdict"),
    *("id", "key", "removed_parts"),
    *VERDICT_COLUMNS,
)
BODILESS = (RemovedParts.BODY, RemovedParts.IDENTITY, RemovedParts.ERASED)


class UnusableError(PremblydError):
    """The hook of a delivery can't run, because somebody changed its row or its event."""


class ErasedError(PremblydError):
    """The hook of a delivery does not run, because its event's person was erased."""


def close_open_attempt(
    transaction: Transaction, delivery_id: int, now_ms: int, error: str = CRASHED
) -> None:
    """Close the delivery's attempt that has no outcome yet, if there is one, as interrupted."""
    transaction.write(
        _CLOSE_OPEN_ATTEMPT,
        delivery_id=delivery_id,
        finished_at_ms=now_ms,
        outcome=AttemptOutcome.INTERRUPTED,
        error=error,
    )


def release(
    transaction: Transaction,
    delivery_id: int,
    state: State,
    now_ms: int,
    error: str | None,
    due: Due | None = None,
) -> None:
    """Let a delivery go that runs: it is due now, or has ended. `due`: see End."""
    row = {"id": delivery_id, "state": state, "last_error": error}
    if state is State.PENDING:
        transaction.write(_RELEASE, **row, due_at_ms=now_ms, finished_at_ms=None)
        return
    over = row | {"due_at_ms": None, "finished_at_ms": now_ms}
    end(
        transaction, [End(delivery_id, state, due=due)], lambda: transaction.write(_RELEASE, **over)
    )


def interrupt(
    transaction: Transaction,
    delivery_id: int,
    attempts_left: int,
    now_ms: int,
    due: Due | None = None,
) -> bool:
    """Close the attempt that a process left open when it died. Return whether the delivery has
    another: without one it is dead."""
    has_attempts = attempts_left > 0
    close_open_attempt(transaction, delivery_id, now_ms)
    state = State.PENDING if has_attempts else State.DEAD
    release(transaction, delivery_id, state, now_ms, CRASHED, due)
    return has_attempts


def event_rows(transaction: Transaction, delivery_ids: Sequence[int]) -> dict[int, Row]:
    """Return the events of these deliveries, by the deliveries' ids: the number of the newest
    attempt, and EVENT_COLUMNS; those that are there still."""
    return by_delivery(transaction.look_up(_EVENTS, delivery_ids)) if delivery_ids else {}


def small_events_of(ids: Query) -> Statement:
    """Return the statement that finds the events of deliveries that a query finds, but large
    ones: `by_delivery` reads its rows."""
    is_small = fn.COALESCE(fn.LENGTH(Event.body), 0) <= SMALL_BYTES
    return Statement(_EVENTS.query.where(Delivery.id.in_(ids), is_small))


def by_delivery(found: Iterable[Row]) -> dict[int, Row]:
    """Return events that were found, by the ids of their deliveries."""
    return {row[0]: row[1:] for row in found}


def usable_event(row: Sequence[Any] | None) -> StoredEvent:
    """Return the event of a row of `EVENT_COLUMNS`. Raise UnusableError when there is none, or it
    can't be used."""
    if row is None:
        raise UnusableError(EVENT_GONE)
    values = dict(zip(EVENT_COLUMNS[:_VERDICT_AT], row[:_VERDICT_AT], strict=True))
    verdict = dict(zip(VERDICT_COLUMNS, row[_VERDICT_AT:], strict=True))
    try:
        verdict["kind"], verdict["outcome"] = Kind(verdict["kind"]), Outcome(verdict["outcome"])
    except ValueError:
        raise UnusableError(f"{EVENT_CHANGED}kind or outcome") from None
    if verdict["face_match"] is not None:
        verdict["face_match"] = bool(verdict["face_match"])
    body = values.pop("body")
    return StoredEvent(
        verdict=Verdict(**verdict),
        body=body or b"",
        has_body=body is not None,
        is_erased=values.pop("removed_parts") == RemovedParts.ERASED,
        **values,
    )


_VERDICT_AT = len(EVENT_COLUMNS) - len(VERDICT_COLUMNS)
# Of a worker, by the attempts that it has open.
_RUNNING_OF = (
    Delivery.select(Delivery.id, Delivery.attempts_left, Attempt.claim_token)
    .join(Attempt, on=IS_LAST_ATTEMPT)
    .where(Delivery.state == State.RUNNING, Attempt.worker == param("worker"))
)
RUNNING_OF = Statement(_RUNNING_OF)  # all, also those that another transaction has locked
FREE_RUNNING_OF = Statement(_RUNNING_OF, locks=True)  # without them
_NEWEST_NUMBER = Attempt.select(fn.MAX(Attempt.number)).where(Attempt.delivery == Delivery.id)
_EVENTS = Lookup(
    Delivery.select(
        Delivery.id,
        fn.COALESCE(_NEWEST_NUMBER, 0),
        *(getattr(Event, name) for name in EVENT_COLUMNS),
    ).join(Event),
    Delivery.id,
)
_CLOSE_OPEN_ATTEMPT = update(
    Attempt,
    "finished_at_ms",
    "outcome",
    "error",
    where=(Attempt.delivery == param("delivery_id")) & Attempt.outcome.is_null(),
)
_RELEASE = update(
    Delivery, "state", "due_at_ms", "finished_at_ms", "last_error", where=Delivery.id == param("id")
)
