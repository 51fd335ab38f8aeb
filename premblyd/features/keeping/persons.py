"""Finding a person: the events of a `user_ref`, of a reference, or one event, using only indexes.

A `user_ref` has references, a verification has several names, and an event may have no more than a
session: all of these are followed, in all spellings. An event that names another `user_ref` is
listed and not erased: a forged webhook that puts two people together must not erase a stranger.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple, Self

from premblyd.features.keeping.erased import NameDigests
from premblyd.features.names.names import Spelt, known_as, look_up
from premblyd.prembly.payload import plain_id, same_id, session_reference
from premblyd.store.engine import Lookup, Transaction
from premblyd.store.states import RemovedParts
from premblyd.store.tables import Event


class FoundBy(StrEnum):
    """By what somebody names a person."""

    USER_REF = "user_ref"
    REFERENCE = "reference"
    EVENT = "event"


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """What somebody has named."""

    by: FoundBy
    name: str = field(repr=False)  # of an event, its number

    @classmethod
    def user(cls, user_ref: str) -> Self:
        return cls(by=FoundBy.USER_REF, name=user_ref)

    @classmethod
    def reference(cls, reference: str) -> Self:
        return cls(by=FoundBy.REFERENCE, name=plain_id(reference))

    @classmethod
    def event(cls, event_id: int) -> Self:
        return cls(by=FoundBy.EVENT, name=str(event_id))

    def digest(self, digests: NameDigests) -> str:
        """Return the digest that replaces it when it is erased itself."""
        match self.by:
            case FoundBy.USER_REF:
                return digests.of_user(self.name)
            case FoundBy.REFERENCE:
                return digests.of_reference(self.name)
            case FoundBy.EVENT:
                return digests.of_event(int(self.name))


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """What the record has about a person, a verification or one event."""

    named: Named
    event_ids: tuple[int, ...]  # with something of the person
    other_ids: tuple[int, ...]  # under one of the names too, and of another `user_ref`
    # Of `event_ids`, where a `user_ref` was named: what names nobody. One forged webhook that has
    # this `user_ref` beside a stranger's reference makes the stranger's events such.
    nameless_ids: tuple[int, ...]
    user_refs: frozenset[str] = field(repr=False)
    references: frozenset[str] = field(repr=False)  # in their one spelling; all names
    sessions: frozenset[str] = field(repr=False)
    # References and sessions of `other_ids` too, and all other names of their verifications.
    shared: frozenset[str] = field(repr=False)


def find(transaction: Transaction, named: Named) -> Person:
    """Return who is named. It only reads, and does so by indexes."""
    if named.by is FoundBy.EVENT:
        return _single(transaction, named)
    return _Walk(transaction, named).person()


class _Row(NamedTuple):
    """What an event says of whose it is. Somebody may have put anything there by hand."""

    id: int
    user_ref: str | None
    reference: str | None
    session_id: str | None
    removed_parts: str | None

    @classmethod
    def of(cls, row: Sequence[Any]) -> "_Row":
        number, *texts = row
        return cls(number, *(each if isinstance(each, str) and each else None for each in texts))

    @property
    def names(self) -> set[str]:
        """Under which it is found, sessions among them."""
        names = {plain_id(self.reference)} if self.reference else set()
        return names | ({self.session_id} if self.session_id else set())


class _Walk:
    """Goes from names to events, and from these to further names, until there are no new ones."""

    def __init__(self, transaction: Transaction, named: Named) -> None:
        self._transaction = transaction
        self._named = named
        self._own: dict[int, _Row] = {}
        self._others: dict[int, _Row] = {}
        self._references: set[str] = set()
        self._sessions: set[str] = set()

    def person(self) -> Person:
        name = self._named.name
        if self._named.by is FoundBy.USER_REF:
            first = self._rows(self._transaction.look_up(_BY_USER, [name]))
            self._user_refs = {name}
        else:
            names = known_as(self._transaction, [name, session_reference(name)])
            self._references |= set(map(plain_id, names))
            first = self._of_names(self._references, [name])  # it may be the id of a session
            self._user_refs = {row.user_ref for row in first if row.user_ref}
        self._own = {row.id: row for row in first}
        self._follow(first)
        return self._found()

    def _follow(self, rows: Iterable[_Row]) -> None:
        """Take what these rows lead to. A name that a stranger has too leads from the person's own
        events to those that name nobody, and from these no further."""
        are_first = True
        while rows := self._further(rows, are_first=are_first):
            are_first = False

    def _further(self, rows: Iterable[_Row], *, are_first: bool) -> list[_Row]:
        sessions = {row.session_id for row in rows if row.session_id} - self._sessions
        names = {plain_id(row.reference) for row in rows if row.reference}
        names |= set(map(session_reference, sessions))
        known = set(map(plain_id, known_as(self._transaction, names))) - self._references
        if are_first:
            known |= names
        self._references |= known
        self._sessions |= sessions
        found = [row for row in self._of_names(known, sessions) if row.id not in self._own]
        strange = {name for row in found if self._is_strange(row) for name in row.names}
        return self._take(found, lambda row: are_first or not row.names & strange)

    def _take(self, rows: Iterable[_Row], is_meant: Callable[[_Row], bool]) -> list[_Row]:
        """Return those that are the person's, and have them be so."""
        taken = []
        for row in rows:
            if row.id in self._own:
                continue
            if self._is_strange(row) or not is_meant(row):
                self._others[row.id] = row
            else:
                self._own[row.id] = row
                taken.append(row)
        return taken

    def _is_strange(self, row: _Row) -> bool:
        return row.user_ref is not None and row.user_ref not in self._user_refs

    def _of_names(self, references: Collection[str], sessions: Collection[str]) -> list[_Row]:
        spelt = {
            spelling for each in sessions for spelling in (each, plain_id(each), same_id(each))
        }
        rows = look_up(self._transaction, _BY_REFERENCE, references) if references else []
        rows += self._transaction.look_up(_BY_SESSION, sorted(spelt))
        return self._rows(rows)

    def _rows(self, rows: Iterable[Sequence[Any]]) -> list[_Row]:
        return list({row[0]: _Row.of(row) for row in rows}.values())

    def _found(self) -> Person:
        others = {id_: row for id_, row in self._others.items() if id_ not in self._own}
        strange = self._known_as(name for row in others.values() for name in row.names)
        own, by_user = self._own.values(), self._named.by is FoundBy.USER_REF
        gone = {row.id for row in own if row.removed_parts == RemovedParts.ERASED}
        nameless = {row.id for row in own if by_user and row.user_ref is None}
        return Person(
            named=self._named,
            event_ids=tuple(sorted(self._own.keys() - gone)),
            other_ids=tuple(sorted(others)),
            nameless_ids=tuple(sorted(nameless - gone)),
            user_refs=frozenset(self._user_refs),
            references=frozenset(self._references),
            sessions=frozenset(self._sessions),
            shared=frozenset((self._references & strange) | self._sessions_among(strange)),
        )

    def _sessions_among(self, names: set[str]) -> set[str]:
        return {
            each for each in self._sessions if each in names or session_reference(each) in names
        }

    def _known_as(self, names: Iterable[str]) -> set[str]:
        """Return these names, each of which may be the id of a session, and all others of their
        verifications."""
        own = set(names)
        as_sessions = set(map(session_reference, own))
        return known_as(self._transaction, own | as_sessions) if own else own


def _single(transaction: Transaction, named: Named) -> Person:
    """Return the one event: others of its reference are other things, whatever they say."""
    rows = [_Row.of(row) for row in transaction.look_up(_BY_ID, [int(named.name)])]
    live = [row for row in rows if row.removed_parts != RemovedParts.ERASED]
    names = {plain_id(row.reference) for row in live if row.reference}
    sessions = {row.session_id for row in live if row.session_id}
    return Person(
        named=named,
        event_ids=tuple(row.id for row in live),
        other_ids=(),
        nameless_ids=(),
        user_refs=frozenset(row.user_ref for row in live if row.user_ref),
        references=frozenset(names),
        sessions=frozenset(sessions),
        shared=frozenset(names | sessions),
    )


_ROWS = Event.select(
    Event.id, Event.user_ref, Event.reference, Event.session_id, Event.removed_parts
)
_BY_ID = Lookup(_ROWS, Event.id)
_BY_USER = Lookup(_ROWS.clone(), Event.user_ref)
_BY_SESSION = Lookup(_ROWS.clone(), Event.session_id)
_BY_REFERENCE = Spelt.of(_ROWS.clone(), Event)
