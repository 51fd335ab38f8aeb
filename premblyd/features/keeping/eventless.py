"""Personal data that belongs to no event is deleted by its own age: ended links and sessions of the
console, ended holds, questions to Prembly and operators' actions about no event, and names of
verifications without events."""

import functools
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from peewee import SQL, Node, Query

from premblyd.feature import added
from premblyd.features.keeping import holds, removing
from premblyd.features.keeping.holds import Subject
from premblyd.features.keeping.settings import Retention
from premblyd.record.operating import EVENTS
from premblyd.store.columns import Kept, columns, emptied
from premblyd.store.engine import Lookup, Statement, Transaction, param
from premblyd.store.schema import TABLES
from premblyd.store.table import Table
from premblyd.store.tables import OperatorAction, VerificationName

PORTION = 500  # rows that a transaction looks at


class _Row(NamedTuple):
    id: int
    at_ms: int
    is_about_event: bool
    name: str | None  # of the verification that it is about


@dataclass(frozen=True, slots=True)
class _Kind:
    """A table that has such rows. `empty`: what of a row goes before all of it does."""

    rows: Statement
    delete: Callable[[Transaction, Sequence[_Row]], object]
    empty: Lookup | None = None


def end_what_expired(transaction: Transaction, now_ms: int) -> None:
    """Delete what was private until it ended, and has ended."""
    holds.forget_ended(transaction, now_ms)
    for statement in _EXPIRED:
        transaction.change(statement, now_ms=now_ms)


def kinds(retention: Retention) -> range:
    """Return the numbers of the kinds of rows that expire by these periods."""
    return range(0 if retention.names_ms is None else len(_KINDS))


def remove(
    transaction: Transaction, kind: int, after_id: int, retention: Retention, now_ms: int
) -> int | None:
    """Look at the next rows of a kind behind `after_id`, and delete what has expired of those about
    no event that is not on hold. Return the last one; None: there are no more."""
    transaction.lock([EVENTS])
    found = [_Row(*row) for row in transaction.rows(_KINDS[kind].rows, after_id=after_id)]
    loose = {row.id: row for row in found if not row.is_about_event}
    subjects = {row.id: Subject(reference=row.name) for row in loose.values() if row.name}
    held = holds.held_subjects(transaction, subjects, now_ms)
    free = [row for row in loose.values() if row.id not in held]

    def expired(period_ms: int | None) -> list[_Row]:
        return [row for row in free if period_ms is not None and row.at_ms <= now_ms - period_ms]

    empty = _KINDS[kind].empty
    if empty is not None:
        transaction.change_each(empty, [row.id for row in expired(retention.names_ms)])
    gone = expired(retention.names_ms if empty is None else retention.record_ms)
    _KINDS[kind].delete(transaction, gone)
    return found[-1].id if len(found) == PORTION else None


def _kind_of(table: Any, name: Node) -> _Kind:
    """Return the kind of rows that say something of people, and more for longer."""
    about = (*removing.BY_EVENT, *removing.BY_DELIVERY)
    of_event = [each.is_null(False) for each in about if each.model is table]
    query = table.select(table.id, table.at_ms, functools.reduce(operator.or_, of_event), name)
    values = emptied(table, Kept.BODY, Kept.IDENTITY)
    says = [each.is_null(False) for each in columns(table) if each.name in values and each.null]
    delete = Lookup(table.delete(), table.id)
    return _Kind(
        _rows(query, table),
        lambda transaction, rows: transaction.change_each(delete, [row.id for row in rows]),
        Lookup(table.update(values).where(functools.reduce(operator.or_, says)), table.id),
    )


def _rows(query: Query, table: type[Table]) -> Statement:
    return Statement(query.where(table.id > param("after_id")).order_by(table.id).limit(PORTION))


_KINDS = (
    *(_kind_of(each, getattr(each, each.named_by)) for each in TABLES if each.named_by),
    _kind_of(OperatorAction, SQL("NULL")),
    _Kind(
        _rows(
            VerificationName.select(
                VerificationName.id,
                VerificationName.at_ms,
                SQL("FALSE"),
                VerificationName.verification,
            ),
            VerificationName,
        ),
        lambda transaction, rows: removing.forget_verifications(
            transaction, {row.name for row in rows if row.name}
        ),
    ),
)
_EXPIRED = tuple(map(Statement, added("tables", "EXPIRED")))
