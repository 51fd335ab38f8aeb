"""Deliveries that can't run because somebody changed their row or their event by hand: how they
are found out, and how they end.

The database is open to other programs, whose foreign keys and CHECKs may be off. SQLite itself
takes a text for a number.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

from premblyd.engines.engine import Row, Transaction
from premblyd.errors import PremblydError
from premblyd.model.columns import ColumnType
from premblyd.model.states import AttemptOutcome
from premblyd.model.tables import Event
from premblyd.prembly import payload
from premblyd.prembly.payload import Kind, Outcome, StoredEvent, Verdict
from premblyd.queue import queue_statements

CRASHED = "the daemon stopped while the hook ran"
UNSTARTED = "the database failed as the hook was to start; it did not run"
EVENT_GONE = "its event is no longer in the database"
EVENT_CHANGED = "its event was changed and can't be read: "  # and the column's name
COUNTS_CHANGED = "its attempt_count was changed: it has a run of this number already"
ROW_CHANGED = "its row was changed and can't be true: "  # and why, see model/states.py
CONFIRMED_CHANGED = "its confirmed_facts was changed and can't be read"
ACTION_CHANGED = "its action was changed and is no name"
_NEW_IN_0_2 = ("type", "risk_level", "risk_score")


class Due(NamedTuple):
    """A due delivery, as its row has it."""

    due_at_ms: int
    id: int
    action: str
    state: str
    attempt_count: int
    attempts_left: int
    confirmed_at_ms: Any
    order_key: str | None
    body_bytes: int
    broken: str | None  # what contradicts its state


class UnusableError(PremblydError):
    """The hook of a delivery can't run, because somebody changed its row or its event."""


def end_broken(transaction: Transaction, broken: Iterable[tuple[int, str]], now_ms: int) -> None:
    """End deliveries whose columns contradict their state, which are told why with their ids."""
    for delivery_id, words in broken:
        close_open_attempt(transaction, delivery_id, now_ms)
        transaction.change(
            queue_statements.END_BROKEN,
            id=delivery_id,
            finished_at_ms=now_ms,
            last_error=ROW_CHANGED + words,
        )


def end_unusable(
    transaction: Transaction, delivery_ids: Iterable[int], reason: str, now_ms: int
) -> None:
    """End deliveries whose hook can't run: dead, with the reason for people to see."""
    for delivery_id in delivery_ids:
        close_open_attempt(transaction, delivery_id, now_ms)
        transaction.change(
            queue_statements.END_UNUSABLE, id=delivery_id, finished_at_ms=now_ms, last_error=reason
        )


def close_open_attempt(
    transaction: Transaction, delivery_id: int, now_ms: int, error: str = CRASHED
) -> None:
    """Close the delivery's attempt that has no outcome yet, if there is one, as interrupted."""
    transaction.change(
        queue_statements.CLOSE_OPEN_ATTEMPT,
        delivery_id=delivery_id,
        finished_at_ms=now_ms,
        outcome=AttemptOutcome.INTERRUPTED,
        error=error,
    )


def stored_event(transaction: Transaction, delivery_id: int) -> StoredEvent:
    """Return the delivery's event. Raise UnusableError when there is none, or it can't be used."""
    row = transaction.row(queue_statements.EVENT, id=delivery_id)
    if row is None:
        raise UnusableError(EVENT_GONE)
    return usable_event(row)


def usable_event(row: Row) -> StoredEvent:
    """Return the event of a row of `EVENT_COLUMNS`. Raise UnusableError when it can't be used."""
    values = dict(zip(queue_statements.EVENT_COLUMNS, row, strict=True))
    for name, types in _EVENT_TYPES.items():
        if not isinstance(values[name], types):
            raise UnusableError(EVENT_CHANGED + name)
    verdict = {name: values.pop(name) for name in queue_statements.VERDICT_COLUMNS}
    for name, words in (("kind", Kind), ("outcome", Outcome)):
        try:
            verdict[name] = words(verdict[name])
        except ValueError:
            raise UnusableError(EVENT_CHANGED + name) from None
    if verdict["face_match"] is not None:
        verdict["face_match"] = bool(verdict["face_match"])
    if verdict["type"] is None:  # stored by a premblyd that did not read these fields
        now = payload.read(values["body"])
        verdict.update({name: getattr(now, name) for name in _NEW_IN_0_2})
    return StoredEvent(verdict=Verdict(**verdict), **values)


def _python_types(name: str) -> tuple[type, ...]:
    """Return the types that a column of an event may have: SQLite itself takes anything."""
    field = Event._meta.fields[name]
    types = _PYTHON_TYPES.get(field.kind, (int,))
    return (*types, type(None)) if field.null else types


_PYTHON_TYPES: dict[ColumnType, tuple[type, ...]] = {
    ColumnType.TEXT: (str,),
    ColumnType.JSON: (str,),
    ColumnType.BYTES: (bytes,),
    ColumnType.REAL: (float, int),
}
_EVENT_TYPES = {name: _python_types(name) for name in queue_statements.EVENT_COLUMNS}
