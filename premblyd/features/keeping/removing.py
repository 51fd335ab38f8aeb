"""Deletes a class of data of events, with their rows in other tables, when its period has expired
or the person is erased. The caller's transaction has made sure that the events don't wait, run or
are on hold. The tables say which columns a class has.
What belongs to no event goes by its own age.

A few statements for all of them, whatever their number: webhooks wait meanwhile.
"""

import functools
import itertools
import operator
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from peewee import SQL, Field, Node, Query, fn

from premblyd.feature import added
from premblyd.features.keeping import holds
from premblyd.features.keeping.erased import SENDERS, harmless
from premblyd.features.keeping.settings import Retention
from premblyd.features.keeping.tables import ErasedEvent, GoneEvent, KeptFrom, Removed
from premblyd.features.names.names import GROUPS, Spelt, look_up
from premblyd.features.names.tables import VerificationName
from premblyd.prembly.payload import plain_id
from premblyd.queue import hooks
from premblyd.record.operating import EVENTS
from premblyd.store.columns import Kept, Reference, Table, columns, emptied
from premblyd.store.engine import BulkInsert, Lookup, Row, Statement, Transaction, param, params
from premblyd.store.schema import TABLES
from premblyd.store.states import RemovedParts
from premblyd.store.tables import Attempt, Delivery, Event, OperatorAction

BODY = (Kept.BODY,)
IDENTITY = (Kept.BODY, Kept.IDENTITY)
# Where rows of other tables say which event, or which delivery of one, they are about.
LINKS: Sequence[tuple[Any, type[Table]]] = [
    *(
        (each, each.rel_model)
        for table in TABLES
        for each in columns(table)
        if isinstance(each, Reference)
    ),
    (OperatorAction.event_id, Event),
    (OperatorAction.delivery_id, Delivery),
]


def _to(table: type[Table], *, is_about: bool = True) -> list[Field]:
    return [
        each for each, to in LINKS if to is table and getattr(each, "is_about", True) is is_about
    ]


BY_DELIVERY, BY_EVENT = _to(Delivery), _to(Event)
# Of features: an event that has such a row must stay whole as long as that waits.
WAITING = [
    (table, fn.COALESCE(getattr(table, name), "") == value)
    for table in TABLES
    for name, value in table.waiting.items()
]
# And of a delivery that has ended, but is needed still.
IS_NEEDED = functools.reduce(operator.or_, added("tables", "NEEDED"), SQL("FALSE"))


def deliveries_of(transaction: Transaction, event_ids: Collection[int]) -> list[int]:
    """Return the deliveries of these events."""
    return [row[0] for row in transaction.look_up(_DELIVERIES, sorted(event_ids))]


def empty_bodies(transaction: Transaction, event_ids: Collection[int]) -> None:
    """Empty the bodies and headers of these events, and what their hooks printed."""
    ids = sorted(event_ids)
    transaction.change_each(_BODIES, ids, removed_parts=RemovedParts.BODY)
    transaction.change_each(_OUTPUTS, deliveries_of(transaction, ids))


def empty_identities(
    transaction: Transaction,
    event_ids: Collection[int],
    removed_parts: RemovedParts = RemovedParts.IDENTITY,
) -> None:
    """Empty all personal values in these events and in their rows in other tables. The names of
    their verifications stay, as other events have them too."""
    ids = sorted(event_ids)
    deliveries = deliveries_of(transaction, ids)
    written = transaction.look_up(_WRITTEN_BY_SENDER, ids)
    # First, as it takes the body out: else a photo's megabytes would be written anew twice.
    transaction.change_each(_IDENTITIES, ids, removed_parts=removed_parts)
    _hide_words(transaction, written)
    for lookup in _EMPTY_BY_EVENT:
        transaction.change_each(lookup, ids)
    for lookup in _EMPTY_BY_DELIVERY:
        transaction.change_each(lookup, deliveries)


def remove(transaction: Transaction, removed: Removed, event_ids: Sequence[int]) -> None:
    """Remove the class `removed` of these events: body, identity or record."""
    if removed is Removed.BODY:
        empty_bodies(transaction, event_ids)
    elif removed is Removed.IDENTITY:
        _remove_identities(transaction, event_ids)
    elif removed is Removed.RECORD:
        _remove_records(transaction, event_ids)
    else:
        raise ValueError(f"{removed} is not of whole events")


def forget_verifications(transaction: Transaction, verifications: Collection[str]) -> None:
    """Delete all names of those of these verifications that no event names any more."""
    names: dict[str, set[str]] = {each: {each} for each in verifications}
    for verification, name in transaction.look_up(GROUPS, sorted(names)):
        names[verification].add(name)
    living = _living(transaction, set().union(*names.values()))
    transaction.change_each(
        _FORGET, sorted(each for each, own in names.items() if not own & living)
    )


def _remove_identities(transaction: Transaction, event_ids: Sequence[int]) -> None:
    names = _names_of(transaction, event_ids)
    verifications = _verifications_of(transaction, names)
    empty_identities(transaction, event_ids)
    # A name that a younger event has too leads to others by which that is held, or has run once.
    transaction.change_each(_FORGET_NAME, sorted(names - _living(transaction, names)))
    forget_verifications(transaction, verifications)


def _hide_words(transaction: Transaction, written: Sequence[Row]) -> None:
    """Take out what a sender has put where a code or a state is expected, and has not its shape:
    it may be anything."""
    for event_id, *values in written:
        found = dict(zip(SENDERS, values, strict=True))
        if (left := harmless(found)) != found:
            transaction.change(_HIDE, id=event_id, **left)


def _remove_records(transaction: Transaction, event_ids: Sequence[int]) -> None:
    verifications = _verifications_of(transaction, _names_of(transaction, event_ids))
    deliveries = deliveries_of(transaction, event_ids)
    _keep_keys(transaction, event_ids)
    for lookup in _OF_DELIVERIES:
        transaction.change_each(lookup, deliveries)
    for lookup in _OF_EVENTS:
        transaction.change_each(lookup, event_ids)
    forget_verifications(transaction, verifications)


def _keep_keys(transaction: Transaction, event_ids: Sequence[int]) -> None:
    """Keep by what the same webhook is known, and have features keep what they need."""
    events = transaction.look_up(_KEYS, event_ids)
    transaction.change_each(_NOT_TWICE, [key for key, _ in events])
    transaction.insert_many(_KEEP_EVENTS, events)
    for keep in hooks.of_features("REMOVING"):
        keep(transaction, event_ids)


def _living(transaction: Transaction, names: Collection[str]) -> set[str]:
    """Return which of these names any event has."""
    found = look_up(transaction, _EVENTS_OF, names) if names else []
    return {plain_id(reference) for (reference,) in found}


def _names_of(transaction: Transaction, event_ids: Sequence[int]) -> set[str]:
    found = transaction.look_up(_REFERENCES, event_ids)
    return {plain_id(each) for (each,) in found if isinstance(each, str) and each}


def _verifications_of(transaction: Transaction, names: Collection[str]) -> set[str]:
    """Return the verifications of these names that have several."""
    return {each for (each,) in transaction.look_up(_VERIFICATIONS, sorted(names))}


def _deleting(column: Field) -> Lookup:
    return Lookup(column.model.delete(), column)


def _letting_go(column: Field) -> Lookup:
    return Lookup(column.model.update({column: None}), column)


def _ending(column: Field) -> Iterator[Lookup]:
    """Yield what deletes the rows that are about an event by this column. Those that are about
    another one by a column before it refer to this one no more."""
    own = (each for each in BY_EVENT if each.model is column.model)
    before = [each.is_null() for each in itertools.takewhile(lambda each: each is not column, own)]
    if before:
        yield Lookup(column.model.delete().where(*before), column)
        yield _letting_go(column)
    else:
        yield _deleting(column)


def _emptying(column: Field, *kept: Kept, **more: Any) -> Lookup:
    table: type[Table] = column.model
    return Lookup(table.update({**emptied(table, *kept), **more}), column)


_REMOVED_PARTS = {"removed_parts": param("removed_parts")}
_DELIVERIES = Lookup(Delivery.select(Delivery.id), Delivery.event)
_BODIES = _emptying(Event.id, *BODY, **_REMOVED_PARTS)
_OUTPUTS = _emptying(Attempt.delivery, *BODY)
_IDENTITIES = _emptying(Event.id, *IDENTITY, **_REMOVED_PARTS)
_EMPTY_BY_DELIVERY = [
    _emptying(each, *IDENTITY) for each in BY_DELIVERY if emptied(each.model, *IDENTITY)
]
_EMPTY_BY_EVENT = [_emptying(each, *IDENTITY) for each in BY_EVENT]
_HAS_ID = Event.id == param("id")
_WRITTEN_BY_SENDER = Lookup(Event.select(Event.id, *SENDERS.values()), Event.id)
_HIDE = Statement(Event.update(params(*SENDERS)).where(_HAS_ID))
_REFERENCES = Lookup(Event.select(Event.reference), Event.id)
_VERIFICATIONS = Lookup(
    VerificationName.select(VerificationName.verification), VerificationName.name
)
_EVENTS_OF = Spelt.of(Event.select(Event.reference).distinct(), Event)
_FORGET_NAME = _deleting(VerificationName.name)
_FORGET = _deleting(VerificationName.verification)
_KEYS = Lookup(Event.select(Event.key, Event.id), Event.id)
_NOT_TWICE = _deleting(GoneEvent.key)
_KEEP_EVENTS = BulkInsert(GoneEvent, "key", "event_id")
# Whoever refers to a row goes before it, or refers to it no more.
_OF_DELIVERIES = (
    *map(_deleting, BY_DELIVERY),
    *map(_letting_go, _to(Delivery, is_about=False)),
)
_OF_EVENTS = (
    *itertools.chain.from_iterable(map(_ending, BY_EVENT)),
    *map(_letting_go, _to(Event, is_about=False)),
    *map(_deleting, (ErasedEvent.event_id, KeptFrom.event_id)),
    _deleting(Event.id),
)


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


def eventless_kinds(retention: Retention) -> range:
    """Return the numbers of the kinds of rows that expire by these periods."""
    return range(0 if retention.names_ms is None else len(_KINDS))


def remove_eventless(
    transaction: Transaction, kind: int, after_id: int, retention: Retention, now_ms: int
) -> int | None:
    """Look at the next rows of a kind behind `after_id`, and delete what has expired of those about
    no event that is not on hold. Return the last one; None: there are no more."""
    transaction.lock([EVENTS])
    found = [_Row(*row) for row in transaction.rows(_KINDS[kind].rows, after_id=after_id)]
    loose = {row.id: row for row in found if not row.is_about_event}
    references = {row.id: row.name for row in loose.values() if row.name}
    held = holds.held_references(transaction, references, now_ms)
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
    about = (*BY_EVENT, *BY_DELIVERY)
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
        lambda transaction, rows: forget_verifications(
            transaction, {row.name for row in rows if row.name}
        ),
    ),
)
_EXPIRED = tuple(map(Statement, added("tables", "EXPIRED")))
