"""What no event leads to, and is private all the same: it goes by its own time. Links and sessions
of the console that are over, holds whose time is over, questions about what never came, what people
did that is about no event, and rows whose event or delivery somebody has deleted.
"""

import functools
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from peewee import JOIN, SQL, Query, fn

from premblyd.config.retention import Retention
from premblyd.engines.engine import Lookup, Statement, Transaction, param
from premblyd.keep import holds, removing
from premblyd.keep.holds import Subject
from premblyd.keep.periods import OF_PERSONS, periods
from premblyd.model.columns import Kept, columns, emptied
from premblyd.model.keeptables import Removed
from premblyd.model.states import FINISHED
from premblyd.model.table import Table
from premblyd.model.tables import (
    Attempt,
    Awaited,
    ConsoleLink,
    ConsoleSession,
    Delivery,
    Event,
    Inquiry,
    OperatorAction,
    VerificationName,
)

PORTION = 500  # rows that a transaction looks at


class Stray(NamedTuple):
    """A row that may be one. `about`: the row of another table that it belongs to, or NULL; found:
    that row's id, if it is there. `user_ref` and `reference`: whom or what it names itself."""

    id: int
    at_ms: int
    about: int | str | None
    found: int | None
    user_ref: str | None = None
    reference: str | None = None

    @property
    def subject(self) -> Subject:
        return Subject(user_ref=_text(self.user_ref), reference=_text(self.reference))


@dataclass(frozen=True, slots=True, kw_only=True)
class Ends:
    """Until when the time of what is removed now began. None: the class is kept for ever."""

    identity_ms: int | None
    record_ms: int | None


Remove = Callable[[Transaction, Sequence[Stray], Ends], None]


@dataclass(frozen=True, slots=True)
class Kind:
    """A table that may have strays, and what becomes of those that are old."""

    rows: Statement
    remove: Remove


def kinds(retention: Retention) -> range:
    """Return the numbers of the kinds to be looked for."""
    return range(len(_KINDS)) if periods(retention).keys() & set(OF_PERSONS) else range(0)


def end_what_is_over(transaction: Transaction, now_ms: int) -> None:
    """Take out what was private while it was in force, and is not any more."""
    holds.forget_ended(transaction, now_ms)
    for statement in _OVER:
        transaction.change(statement, now_ms=now_ms)


def look(
    transaction: Transaction, kind: int, after_id: int, retention: Retention, now_ms: int
) -> int | None:
    """Look at the next rows of a kind behind `after_id`, and remove what is old of them, and not
    held. Return the last one; None: there are no more."""
    transaction.lock([holds.LOCK])
    found = [Stray(*row) for row in transaction.rows(_KINDS[kind].rows, after_id=after_id)]
    over = periods(retention)
    until = {each: now_ms - over[each] for each in OF_PERSONS if each in over}
    ends = Ends(
        identity_ms=until.get(Removed.IDENTITY, until.get(Removed.RECORD)),
        record_ms=until.get(Removed.RECORD),
    )
    strays = [each for each in found if each.found is None and _is_before(each, ends.identity_ms)]
    held = holds.held_subjects(transaction, {each.id: each.subject for each in strays}, now_ms)
    if free := [each for each in strays if each.id not in held]:
        _KINDS[kind].remove(transaction, free, ends)
    return found[-1].id if len(found) == PORTION else None


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _is_before(stray: Stray, end_ms: int | None) -> bool:
    return end_ms is not None and isinstance(stray.at_ms, int) and stray.at_ms <= end_ms


def _of_events(table: type[Table]) -> Remove:
    """Return what removes rows of a table: all that is left of an event that somebody has deleted;
    and what is about none, as its own time says."""
    values = emptied(table, Kept.BODY, Kept.IDENTITY)
    says = [each.is_null(False) for each in columns(table) if each.name in values and each.null]
    empty = Lookup(table.update(values).where(functools.reduce(operator.or_, says)), table.id)
    delete = Lookup(table.delete(), table.id)

    def remove(transaction: Transaction, strays: Sequence[Stray], ends: Ends) -> None:
        lost = {each.about for each in strays if isinstance(each.about, int)}
        removing.remove(transaction, Removed.RECORD, sorted(lost))
        alone = [each for each in strays if each.about is None]
        old = [each.id for each in alone if _is_before(each, ends.record_ms)]
        transaction.change_each(delete, old)
        transaction.change_each(empty, sorted({each.id for each in alone}.difference(old)))

    return remove


def _deleting(table: type[Table]) -> Remove:
    delete = Lookup(table.delete(), table.id)

    def remove(transaction: Transaction, strays: Sequence[Stray], ends: Ends) -> None:
        del ends
        transaction.change_each(delete, [each.id for each in strays])

    return remove


def _forget_names(transaction: Transaction, strays: Sequence[Stray], ends: Ends) -> None:
    del ends
    names = {each.about for each in strays if isinstance(each.about, str)}
    removing.forget_verifications(transaction, names)


def _rows(query: Query, table: type[Table]) -> Statement:
    return Statement(query.where(table.id > param("after_id")).order_by(table.id).limit(PORTION))


_EVENT_OF = fn.COALESCE(Inquiry.event, Inquiry.stored_event)
_KINDS = (
    Kind(
        _rows(
            Inquiry.select(
                *(Inquiry.id, Inquiry.at_ms, _EVENT_OF, Event.id, SQL("NULL"), Inquiry.reference)
            ).join(Event, JOIN.LEFT_OUTER, on=Event.id == _EVENT_OF),
            Inquiry,
        ),
        _of_events(Inquiry),
    ),
    Kind(
        _rows(
            OperatorAction.select(
                OperatorAction.id,
                OperatorAction.at_ms,
                OperatorAction.event_id,
                fn.COALESCE(Event.id, Delivery.id),
            )
            .join(Event, JOIN.LEFT_OUTER, on=Event.id == OperatorAction.event_id)
            .join_from(
                OperatorAction,
                Delivery,
                JOIN.LEFT_OUTER,
                on=Delivery.id == OperatorAction.delivery_id,
            ),
            OperatorAction,
        ),
        _of_events(OperatorAction),
    ),
    Kind(
        _rows(
            Awaited.select(
                *(Awaited.id, Awaited.created_at_ms, Awaited.event, Event.id),
                *(SQL("NULL"), Awaited.reference),
            ).join(Event, JOIN.LEFT_OUTER),
            Awaited,
        ),
        _of_events(Awaited),
    ),
    Kind(
        _rows(
            Delivery.select(Delivery.id, Delivery.created_at_ms, Delivery.event, Event.id)
            .join(Event, JOIN.LEFT_OUTER)
            .where(fn.COALESCE(Delivery.state, "").in_(FINISHED)),
            Delivery,
        ),
        _of_events(Delivery),
    ),
    Kind(
        _rows(
            Attempt.select(Attempt.id, Attempt.started_at_ms, Attempt.delivery, Delivery.id).join(
                Delivery, JOIN.LEFT_OUTER
            ),
            Attempt,
        ),
        _deleting(Attempt),
    ),
    Kind(
        _rows(
            VerificationName.select(
                VerificationName.id,
                VerificationName.at_ms,
                VerificationName.verification,
                *(SQL("NULL"), SQL("NULL")),
                VerificationName.verification,
            ),
            VerificationName,
        ),
        _forget_names,
    ),
)
_OVER = [
    Statement(table.delete().where(table.expires_at_ms <= param("now_ms")))
    for table in (ConsoleLink, ConsoleSession)
]
