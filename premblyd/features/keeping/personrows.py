"""The rows about a person, and what an erasure changes in them: it empties personal values,
including those that a sender wrote into plain columns, and cancels what waits. State, code,
outcome, times and counts stay."""

import itertools
import re
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

from peewee import Field, Query, fn

from premblyd.features.keeping import removing
from premblyd.features.keeping.erased import MARK_ERASED
from premblyd.features.keeping.tables import Hold
from premblyd.features.names.tables import VerificationName
from premblyd.prembly.payload import is_uuid, plain_id, same_id
from premblyd.queue.end import end
from premblyd.queue.hooks import End
from premblyd.store.columns import Kept, Table, emptied
from premblyd.store.engine import Lookup, Statement, Transaction, param
from premblyd.store.schema import TABLES
from premblyd.store.states import RemovedParts, State
from premblyd.store.tables import Delivery, OperatorAction

SHORTEST_NAME = 4  # characters


ByTable = dict[str, list[int]]  # rows, by their numbers


def waiting(transaction: Transaction, event_ids: Collection[int]) -> list[int]:
    """Return which deliveries of these events wait, or could be replayed."""
    return [row[0] for row in transaction.look_up(_WAITING, sorted(event_ids))]


def stop(transaction: Transaction, event_ids: Collection[int], now_ms: int) -> int:
    """Cancel everything of these events that waits; return how many deliveries that were."""
    ids = sorted(event_ids)
    to_end = waiting(transaction, ids)
    cancelled = end(
        transaction,
        [End(each, State.CANCELLED) for each in to_end],
        lambda: transaction.change_each(_CANCEL, to_end, finished_at_ms=now_ms),
    )
    for lookup in _STOP:
        transaction.change_each(lookup, ids, finished_at_ms=now_ms)
    return cancelled


def erase_of_events(transaction: Transaction, event_ids: Collection[int], erasure_id: int) -> None:
    """Empty these events, which don't wait for anything, and all their rows in other tables."""
    ids = sorted(event_ids)
    removing.empty_identities(transaction, ids, RemovedParts.ERASED)
    transaction.write_many(MARK_ERASED, [(number, erasure_id) for number in ids])


class Names(NamedTuple):
    """By which a person is named in rows about no event."""

    user_refs: frozenset[str]
    references: frozenset[str]  # as they are spelt
    sessions: frozenset[str]

    @property
    def all(self) -> set[str]:
        return {*self.user_refs, *self.references, *self.sessions}

    def union(self, others: "Names") -> "Names":
        return Names(*(own | other for own, other in zip(self, others, strict=True)))


def eventless(transaction: Transaction, names: Names) -> ByTable:
    """Return the rows about no event that name a person: by indexes, and of operators' notes those
    that are about no delivery either."""
    spelt = sorted(set(itertools.chain.from_iterable(map(_spellings, names.references))))
    plain = sorted(set(map(plain_id, names.references)))
    users = sorted(names.user_refs)

    def found(*lookups: tuple[Lookup, Sequence[str]]) -> list[int]:
        rows = itertools.chain.from_iterable(transaction.look_up(*each) for each in lookups)
        return sorted({row[0] for row in rows})

    return {
        **{table: found((lookup, spelt)) for table, lookup in _OF_NOTHING.items()},
        **{table: _noted(transaction, notes, names.all) for table, notes in _NOTES.items()},
        "verification_name": found((_NAMES, plain), (_NAMES_OF, plain)),
        "hold": found((_HOLDS_OF_USER, users), (_HOLDS_OF_REFERENCE, plain)),
    }


def erase_eventless(transaction: Transaction, rows: ByTable) -> None:
    """Empty what these rows say of a person, and take those away that say nothing else."""
    for table, change in _ERASED.items():
        transaction.change_each(change, rows.get(table, ()))


def _spellings(reference: str) -> set[str]:
    """Return how a reference may be spelt where no column has the one spelling beside it."""
    if not is_uuid(reference):
        return {reference}
    plain = plain_id(reference)
    spelt = {plain, plain.replace("-", "_"), same_id(plain)}
    return {reference, *spelt, *map(str.upper, spelt)}


def _noted(transaction: Transaction, notes: Statement, names: Collection[str]) -> list[int]:
    """Return which rows have one of these names as a word in what an operator wrote there."""
    return [
        number
        for number, text in transaction.rows(notes)
        if isinstance(text, str) and any(names_in(name, text) for name in names)
    ]


def names_in(name: str, text: str) -> bool:
    """Return whether a name stands in a text by itself, and not as a part of a longer word. One of
    a few characters names nobody there: it may be a number of anything."""
    if len(name) < SHORTEST_NAME or name not in text:
        return False
    return re.search(rf"(?<!\w){re.escape(name)}(?!\w)", text) is not None


def _ids(table: type[Table], column: Field, *conditions: Any) -> Lookup:
    query: Query = table.select(table.id)
    return Lookup(query.where(*conditions) if conditions else query, column)


def _rows_emptied(table: type[Table], *kept: Kept) -> Lookup:
    return Lookup(table.update(emptied(table, *kept)), table.id)


_IDENTITY = (Kept.BODY, Kept.IDENTITY)
# By COALESCE, SQLite finds them by their events, and does not read all that wait.
_STATE = fn.COALESCE(Delivery.state, "")
_IS_WAITING = _STATE.in_([State.PENDING, State.DEAD])  # a dead one waits for who mends it
_WAITING = _ids(Delivery, Delivery.event, _IS_WAITING)
_OVER = {
    "state": State.CANCELLED,
    "due_at_ms": None,
    "held_by": None,
    "finished_at_ms": param("finished_at_ms"),
}
_CANCEL = Lookup(Delivery.update(_OVER).where(_IS_WAITING), Delivery.id)
_STOP = [
    Lookup(
        table.update(
            **table.stopped,
            finished_at_ms=fn.COALESCE(table.finished_at_ms, param("finished_at_ms")),
        ),
        table.event,
    )
    for table in TABLES
    if table.stopped
]
# Of features, by the names of their tables: by what rows about no event are found.
_NAMING = {each._meta.table_name: getattr(each, each.named_by) for each in TABLES if each.named_by}
_NOTED = {each._meta.table_name: getattr(each, each.noted_in) for each in TABLES if each.noted_in}
_OF_NOTHING = {
    table: _ids(each.model, each, each.model.event.is_null(), each.model.delivery.is_null())
    for table, each in _NAMING.items()
}
NAMES_OF_NOTHING = [
    Statement(each.model.select(each).where(each.model.event.is_null()))
    for each in _NAMING.values()
]
_NOTES = {
    "operator_action": Statement(
        OperatorAction.select(OperatorAction.id, OperatorAction.note).where(
            OperatorAction.note.is_null(False),
            OperatorAction.event_id.is_null(),
            OperatorAction.delivery_id.is_null(),
        )
    ),
    **{table: Statement(each.model.select(each.model.id, each)) for table, each in _NOTED.items()},
}
_NAMES = _ids(VerificationName, VerificationName.name)
_NAMES_OF = _ids(VerificationName, VerificationName.verification)
_HOLDS_OF_USER = _ids(Hold, Hold.user_ref, Hold.ended_at_ms.is_null())
_HOLDS_OF_REFERENCE = _ids(Hold, Hold.reference, Hold.ended_at_ms.is_null())
_ERASED = {
    **{name: _rows_emptied(each.model, *_IDENTITY) for name, each in _NAMING.items()},
    "operator_action": _rows_emptied(OperatorAction, *_IDENTITY),
    "hold": _rows_emptied(Hold, Kept.UNTIL_ENDED),
    **{name: _rows_emptied(each.model, Kept.UNTIL_ENDED) for name, each in _NOTED.items()},
    "verification_name": Lookup(VerificationName.delete(), VerificationName.id),
}
