"""A person's dossier: all that is held of whom somebody has named, as rows and in one timeline.
Begin with `of`, then read `chapters`: an event each, with all that became of it.

It is read in portions, so that no snapshot of the database is kept for long, and what was meant at
the beginning is what is in it: `require_unchanged` says at the end whether something of it was
erased or removed meanwhile. Bodies are read one by one.
"""

import dataclasses
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from peewee import Field

from premblyd.engines.engine import Database, Lookup, Statement, Transaction, param
from premblyd.errors import NotFoundError, PremblydError, TryAgainError
from premblyd.keep import persons
from premblyd.keep.persons import FoundBy, Named, Person
from premblyd.model.columns import Seen
from premblyd.model.keeptables import Closing, ErasedName, Erasure, Hold, Lacks
from premblyd.model.table import Table
from premblyd.model.tables import (
    Attempt,
    Awaited,
    Delivery,
    Event,
    Inquiry,
    OperatorAction,
    VerificationName,
)
from premblyd.prembly.payload import Kind, plain_id
from premblyd.record import queries
from premblyd.record.operating import EXPORT, RecordedExport
from premblyd.record.queries import AttemptRow, AwaitedRow, ClosingRow, InquiryRow, Row, row_of
from premblyd.verifications.digests import Digests

PORTION = 20  # events: each may have had many attempts, of which each may have printed 64 KiB
LOOKED_UP = 500  # of one statement
WITHOUT_BODY = frozenset({Lacks.BODY, Lacks.IDENTITY, Lacks.ERASED})
WITHHELD = ("token",)  # opens something at who runs premblyd, and says nothing of the person


class SeveralPeopleError(PremblydError):
    """What was named is of several people: none of them may be handed what is held of another."""


class ChangedMeanwhileError(TryAgainError):
    """Something of it was erased or removed while it was read. Nothing was written: try again."""


@row_of(Event, Seen.LISTS, (Event.headers, Event.session_id, Event.erasure_id))
class _Event(Row):
    """An event without its body, which is read by itself."""


@row_of(Delivery, Seen.LISTS, (Delivery.confirmed_facts,))
class _Delivery(Row):
    """A delivery, and what Prembly's answer states."""


@row_of(OperatorAction, Seen.LISTS)
class _Operator(Row):
    """What somebody did with an event, or with a delivery of it."""


@row_of(Hold, Seen.LISTS)
class _Hold(Row):
    """A hold that is on the person, or on one of the verifications."""


@row_of(VerificationName, Seen.NOWHERE)
class _Name(Row):
    """A name of a verification of which Prembly's answers gave more than one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chapter:
    """An event, and all that became of it, the oldest first."""

    event: Row
    deliveries: list[Row]
    attempts: Mapping[int, list[AttemptRow]]  # by their delivery
    inquiries: list[InquiryRow]
    awaited: list[AwaitedRow]
    operators: list[Row]

    @property
    def has_body(self) -> bool:
        return self.event.lacks not in WITHOUT_BODY

    @property
    def body_file(self) -> str | None:
        """Where its body is, beside the page. None: it was removed."""
        if not self.has_body:
            return None
        return f"bodies/{self.event.id}.{'bin' if self.event.kind == Kind.RAW else 'json'}"

    def photo_file(self, number: int, kind: str) -> str:
        """Where a photo in its body is: which value that is, and the kind of the file."""
        return f"photos/{self.event.id}-{number}.{kind}"

    def as_json(self) -> dict[str, Any]:
        """Return the event as `record.json` has it."""
        deliveries = [
            {
                **dataclasses.asdict(delivery),
                "attempts": [dataclasses.asdict(row) for row in self.attempts[delivery.id]],
            }
            for delivery in self.deliveries
        ]
        return {
            **dataclasses.asdict(self.event),
            "body_file": self.body_file,
            "deliveries": deliveries,
            "inquiries": [dataclasses.asdict(row) for row in self.inquiries],
            "awaited": [dataclasses.asdict(row) for row in self.awaited],
            "operator_actions": [dataclasses.asdict(row) for row in self.operators],
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Dossier:
    """What is held of a person, but for the chapters of the events."""

    by: FoundBy
    name: str = field(repr=False)  # as it was named
    made_at_ms: int
    lacks: Mapping[int, str | None]  # of each of its events, when it was begun
    # Not in it: events under one of the names too that name somebody else, and those that name
    # nobody, under a name that somebody else has too.
    others: int
    doubtful_ids: tuple[int, ...]
    nameless_ids: tuple[int, ...]  # in it: found by a reference or session of the person alone
    holds: list[Row]
    closings: list[ClosingRow]
    erasures: list[Row]
    names: list[Row]
    inquiries: list[InquiryRow]  # about one of the references, of which no event came
    exports: list[Row]  # of many people's data, in which the person's may have been

    @property
    def event_ids(self) -> list[int]:
        return sorted(self.lacks)


def of(database: Database, named: Named, name: str, now_ms: int) -> Dossier:
    """Find what is held of who is `named`. Raise NotFoundError when that is nothing,
    SeveralPeopleError when a reference is that of several people."""
    person = database.look(lambda transaction: persons.find(transaction, named))
    if len(person.user_refs) > 1:
        raise SeveralPeopleError(
            f"Its events name {len(person.user_refs)} people (user_ref). Nothing was written, as"
            " nobody may be handed what is held of another: export each by --user-ref."
        )
    erasures = database.look(lambda transaction: _erasures(transaction, named))
    erased = database.look(lambda transaction: _erased(transaction, erasures))
    rows = database.look(lambda transaction: transaction.look_up(_NAMES, person.event_ids))
    doubtful = _doubtful(person, rows)
    spelt = {reference for _, _, reference, _ in rows if isinstance(reference, str)}
    ids = {*person.event_ids, *person.erased_ids, *erased} - doubtful
    users, references = _users(person), person.references
    found = Dossier(
        by=named.by,
        name=name,
        made_at_ms=now_ms,
        lacks=database.look(lambda transaction: _lacks(transaction, ids)),
        others=len(person.other_ids),
        doubtful_ids=tuple(sorted(doubtful)),
        nameless_ids=tuple(id_ for id_ in person.nameless_ids if id_ not in doubtful),
        holds=_any(database, Hold, _Hold, (Hold.user_ref, users), (Hold.reference, references)),
        closings=_any(database, Closing, ClosingRow, (Closing.user_ref, users)),
        erasures=_any(database, Erasure, queries.ErasureRow, (Erasure.id, erasures)),
        names=_any(database, VerificationName, _Name, (VerificationName.name, references)),
        inquiries=_about_nothing(database, references | spelt),
        exports=_of_many(database, ids),
    )
    if not (found.lacks or found.holds or found.closings or found.erasures):
        raise NotFoundError("Nothing is held of that, under this name.")
    return found


def chapters(database: Database, dossier: Dossier, recorded: RecordedExport) -> Iterator[Chapter]:
    """Yield the events, in the order in which they came, with all that became of them; which is on
    record."""
    ids = [number for number in dossier.event_ids if number in recorded.event_ids]
    for start in range(0, len(ids), PORTION):
        yield from _chapters(database, ids[start : start + PORTION])


def body_of(database: Database, event_id: int) -> bytes:
    """Return the exact bytes of an event's body."""
    found = queries.raw_tuples(database, Event.select(Event.body).where(Event.id == event_id))
    body = found[0][0] if found else b""
    return bytes(body) if isinstance(body, bytes | memoryview) else str(body or "").encode()


def require_unchanged(database: Database, dossier: Dossier) -> None:
    """Raise ChangedMeanwhileError when something of it was erased or removed since it was begun."""
    if database.look(lambda one: _lacks(one, dossier.event_ids)) != dossier.lacks:
        raise ChangedMeanwhileError(
            "Something of it was erased or removed while it was read, so nothing was written. Run"
            " the same again."
        )


def _chapters(database: Database, ids: list[int]) -> Iterator[Chapter]:
    events = _rows(database, Event, _Event, Event.id, ids)
    deliveries = _rows(database, Delivery, _Delivery, Delivery.event, ids)
    event_of = {row.id: row.event_id for row in deliveries}
    attempts = _rows(database, Attempt, AttemptRow, Attempt.delivery, event_of)
    questions = _any(
        database,
        Inquiry,
        InquiryRow,
        (Inquiry.event, ids),
        (Inquiry.delivery, event_of),
        (Inquiry.stored_event, ids),
    )
    awaited = _any(database, Awaited, AwaitedRow, (Awaited.event, ids), (Awaited.settled_by, ids))
    operators = _any(
        database,
        OperatorAction,
        _Operator,
        (OperatorAction.event_id, ids),
        (OperatorAction.delivery_id, event_of),
    )
    for event in events:
        own = [row for row in deliveries if row.event_id == event.id]
        numbers = {row.id for row in own}
        yield Chapter(
            event=event,
            deliveries=own,
            attempts={
                number: [row for row in attempts if row.delivery_id == number] for number in numbers
            },
            inquiries=[
                row
                for row in questions
                if event.id in (row.event_id, row.stored_event_id) or row.delivery_id in numbers
            ],
            awaited=[row for row in awaited if event.id in (row.event_id, row.settled_by_id)],
            operators=[
                row for row in operators if row.event_id == event.id or row.delivery_id in numbers
            ],
        )


def _any(
    database: Database, table: type[Table], row: type[Any], *places: tuple[Field, Collection[Any]]
) -> list[Any]:
    """Return the rows that have one of these numbers in one of these columns, each once. (By one
    condition for all, an engine would read the whole table.)"""
    found = {
        each.id: each
        for column, numbers in places
        for each in _rows(database, table, row, column, numbers)
    }
    return [found[number] for number in sorted(found)]


def _rows(
    database: Database,
    table: type[Table],
    row: type[Any],
    column: Field,
    values: Collection[Any],
    condition: Any = None,
) -> list[Any]:
    """Return the rows that have one of these values in a column. (In no order: to have one, an
    engine may read the whole table.)"""
    listed = sorted(values)
    query = table.select(*queries.columns(table, row))
    found: list[Any] = []
    for start in range(0, len(listed), LOOKED_UP):
        part = column.in_(listed[start : start + LOOKED_UP])
        chosen = query.where(part) if condition is None else query.where(part, condition)
        found += queries.rows(database, chosen, row)
    return sorted(found, key=lambda each: each.id)


def _about_nothing(database: Database, references: Collection[str]) -> list[InquiryRow]:
    is_alone = Inquiry.event.is_null()
    found = _rows(database, Inquiry, InquiryRow, Inquiry.reference, references, is_alone)
    return [row for row in found if row.stored_event_id is None]


def _of_many(database: Database, ids: Collection[int]) -> list[Row]:
    """Return who has taken out the personal data of many at once, since the first event came."""
    first = Event.select(Event.received_at_ms).where(Event.id == min(ids, default=0))
    since_ms = queries.time(queries.value(database, first)) or 0
    query = OperatorAction.select(*queries.columns(OperatorAction, _Operator)).where(_IS_OF_MANY)
    found = queries.whole(database, query, OperatorAction.id, _Operator)
    return [row for row in found if queries.time(row.at_ms) is None or row.at_ms >= since_ms]


def _users(person: Person) -> set[str]:
    own = {person.named.name} if person.named.by is FoundBy.USER_REF else set()
    return own | person.user_refs


def _doubtful(person: Person, rows: Iterable[Any]) -> set[int]:
    """Return the events that name nobody, under a name that somebody else has too."""
    return {
        number
        for number, user_ref, reference, session_id in rows
        if not user_ref and {plain_id(reference or ""), session_id or ""} & person.shared
    }


def _erasures(transaction: Transaction, named: Named) -> list[int]:
    """Return what was erased under this name before."""
    subject = named.digest(Digests.of(transaction))
    return [number for (number,) in transaction.rows(_ERASURES, subject=subject)]


def _erased(transaction: Transaction, erasures: Collection[int]) -> list[int]:
    """Return the events that these erasures emptied, as far as a digest of a reference tells."""
    names = [name for (name,) in transaction.look_up(_ERASED_NAMES, sorted(erasures))]
    found = transaction.look_up(_ERASED_EVENTS, sorted(names))
    return [number for number, erasure_id in found if erasure_id in erasures]


def _lacks(transaction: Transaction, ids: Collection[int]) -> dict[int, str | None]:
    return dict(transaction.look_up(_LACKS, sorted(ids)))


_ERASURES = Statement(
    Erasure.select(Erasure.id).where(Erasure.subject == param("subject")).order_by(Erasure.id)
)
_ERASED_NAMES = Lookup(ErasedName.select(ErasedName.name), ErasedName.erasure_id)
_ERASED_EVENTS = Lookup(Event.select(Event.id, Event.erasure_id), Event.erased_name)
_NAMES = Lookup(Event.select(Event.id, Event.user_ref, Event.reference, Event.session_id), Event.id)
_LACKS = Lookup(Event.select(Event.id, Event.lacks), Event.id)
_IS_OF_MANY = (
    OperatorAction.part_of_id.is_null()
    & (OperatorAction.action == EXPORT)
    & OperatorAction.note.endswith("revealed")
)
