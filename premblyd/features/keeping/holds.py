"""Legal holds: they exempt a person from deletion, by `retention` and by `erase`.

A hold names a person (`user_ref`) or a verification (`reference`, in its one spelling). Several may
be on the same, and each ends on its own: an event is held as long as one of them is in force. What
a hold says of a person goes when it ends.
"""

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any, NamedTuple

from peewee import JOIN, SQL, Case, Expression, Query, fn

from premblyd.features.keeping import persons
from premblyd.features.keeping.persons import Named
from premblyd.features.keeping.tables import ErasedName, Erasure, Hold, ToErase
from premblyd.ground.errors import PremblydError
from premblyd.prembly.payload import plain_id, session_reference
from premblyd.queue.digests import Digests
from premblyd.queue.names import Spelt, groups, look_up
from premblyd.record.operating import EVENTS, Change, write_down
from premblyd.store.columns import Kept, emptied
from premblyd.store.engine import Lookup, Row, Statement, Transaction, insert, param
from premblyd.store.tables import Event, VerificationName


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """Of whom or of what a hold is: a person by `user_ref`, or a verification by `reference`."""

    user_ref: str | None = None
    reference: str | None = None


class BeingErasedError(PremblydError):
    """Whom a hold would be on is being erased."""

    def __init__(self, numbers: Sequence[int]) -> None:
        which = ", ".join(f"erasure {number}" for number in numbers)
        super().__init__(
            f"No hold was placed: {which} has begun, and has deleted a part. If it was"
            " interrupted, run the same `premblyd person erase` again; `premblyd person erase"
            " --list` lists it."
        )


class _Event(NamedTuple):
    id: int
    user_ref: str | None
    reference: str | None
    session_id: str | None


def place(
    subject: Subject,
    *,
    actor: str,
    now_ms: int,
    until_ms: int | None = None,
    reason: str | None = None,
) -> Change[int]:
    """Hold a person or a verification, even if nothing is stored about it yet. The change returns
    the hold's id, or raises BeingErasedError."""

    def place(transaction: Transaction) -> int:
        stored = as_stored(subject)
        about = {"user_ref": stored.user_ref, "reference": stored.reference, "reason": reason}
        own = {"since_ms": now_ms, "until_ms": until_ms, "actor": actor}
        transaction.lock([EVENTS])
        if erasures := _erasures_of(transaction, subject):
            raise BeingErasedError(erasures)
        number = int(transaction.insert(_PLACE, **own, **about) or 0)
        write_down(transaction, actor, "hold", now_ms, f"hold {number}")
        return number

    return place


def _erasures_of(transaction: Transaction, subject: Subject) -> list[int]:
    """Return the erasures that are not done and take what a hold would be on. Some of it has no
    names any more: it is known by digests."""
    if transaction.row(_ANY_LEFT) is None:
        return []
    if subject.user_ref is not None:
        named = Named.user(subject.user_ref)
    else:
        named = Named.reference(subject.reference or "")
    person, digests = persons.find(transaction, named), Digests.of(transaction)
    of_names = {named.digest(digests), *map(digests.of_user, person.user_refs)}
    of_names |= set(map(digests.of_reference, person.references))
    found = [
        *transaction.look_up(_LEFT_OF_EVENTS, sorted(person.event_ids)),
        *transaction.look_up(_LEFT_OF_SUBJECTS, sorted(of_names)),
        *transaction.look_up(_LEFT_OF_NAMES, sorted(of_names)),
    ]
    return sorted({number for (number,) in found})


def end(which: int | Subject, *, actor: str, now_ms: int) -> Change[list[int]]:
    """End a hold, or all that are on a person or a verification. The change returns those that
    were in force and are not any more."""

    def end(transaction: Transaction) -> list[int]:
        transaction.lock([EVENTS])
        ended = []
        for number in _in_force(transaction, which, now_ms):
            transaction.change(_END, id=number, ended_at_ms=now_ms, ended_by=actor)
            write_down(transaction, actor, "end-hold", now_ms, f"hold {number}")
            ended.append(number)
        return ended

    return end


def forget_ended(transaction: Transaction, now_ms: int) -> int:
    """Empty what holds say of people once these have ended by themselves; return how many did."""
    return transaction.change(_FORGET, now_ms=now_ms)


def held(transaction: Transaction, event_ids: Collection[int], now_ms: int) -> set[int]:
    """Return which of these events are held: by their `user_ref`, by a name of their verification
    in any spelling, or, where they have no `user_ref`, by that of its other events."""
    return {number for number, _ in _hold_ids(transaction, event_ids, now_ms)}


def on_events(transaction: Transaction, event_ids: Collection[int], now_ms: int) -> list[int]:
    """Return which holds in force hold any of these events."""
    return sorted({each for _, ids in _hold_ids(transaction, event_ids, now_ms) for each in ids})


def _hold_ids(
    transaction: Transaction, event_ids: Collection[int], now_ms: int
) -> Iterator[tuple[int, list[int]]]:
    """Yield those of these events that are held, each with its holds."""
    if event_ids and transaction.row(_ANY, now_ms=now_ms) is not None:
        events = [_Event(*row) for row in transaction.look_up(_EVENTS, sorted(event_ids))]
        yield from _held_among(transaction, events, now_ms)


def _held_among(
    transaction: Transaction, events: Sequence[_Event], now_ms: int
) -> Iterator[tuple[int, list[int]]]:
    """Do so among events that were read. What they lead to is looked up once for all of them:
    thousands may have the same reference."""
    relations = _Relations(transaction, events)
    related = {event.id: relations.of(event) for event in events}
    users = _in_force_on(transaction, _IDS_OF_USERS, now_ms, *(of.users for of in related.values()))
    names = _in_force_on(
        transaction, _IDS_OF_REFERENCES, now_ms, *(of.names for of in related.values())
    )
    for event_id, of in related.items():
        found = {number for each in of.users for number in users.get(each, ())}
        found |= {number for each in of.names for number in names.get(each, ())}
        if found:
            yield event_id, sorted(found)


def _in_force_on(
    transaction: Transaction, lookup: Lookup, now_ms: int, *subjects: Collection[str]
) -> dict[str, list[int]]:
    """Return which holds are in force on each of these persons, or verifications, of which there
    are any."""
    wanted = set().union(*subjects)
    if lookup is _IDS_OF_REFERENCES:
        wanted = set(map(plain_id, wanted))
    found: dict[str, list[int]] = defaultdict(list)
    for number, until_ms, subject in transaction.look_up(lookup, sorted(wanted)):
        if until_ms is None or until_ms > now_ms:
            found[subject].append(number)
    return found


def held_subjects(
    transaction: Transaction, subjects: Mapping[int, Subject], now_ms: int
) -> set[int]:
    """Return the numbers of those of these persons and verifications that are held, as an event of
    theirs would be."""
    if not subjects or transaction.row(_ANY, now_ms=now_ms) is None:
        return set()
    events = [_Event(each, of.user_ref, of.reference, None) for each, of in subjects.items()]
    return {number for number, _ in _held_among(transaction, events, now_ms)}


def on(
    transaction: Transaction, user_refs: Collection[str], names: Collection[str], now_ms: int
) -> list[int]:
    """Return which holds are in force on these persons, or on verifications of these names."""
    users = _in_force_on(transaction, _IDS_OF_USERS, now_ms, user_refs)
    verifications = _in_force_on(transaction, _IDS_OF_REFERENCES, now_ms, names)
    return sorted(set(chain(*users.values(), *verifications.values())))


def is_on_hold(now_ms: Any) -> Expression:
    """Return the condition on Event that it is held, as `held` says, save that a session leads it
    to no other event: for counts."""
    plain = fn.COALESCE(Event.reference_key, Event.reference)
    own, also = VerificationName.alias(), VerificationName.alias()
    in_force = is_in_force(now_ms)
    of_event = Hold.select(SQL("1")).where(in_force)
    # By CROSS, SQLite begins with the few rows of the event's names, and not with all holds.
    of_names = own.select(SQL("1")).join(also, JOIN.CROSS).switch(own).join(Hold, JOIN.CROSS)
    of_names = of_names.where(
        own.name == plain, also.verification == own.verification, Hold.reference == also.name
    )
    references, keys = _references_of_held(now_ms)
    is_of_others = Event.reference.in_(references) | plain.in_(references) | plain.in_(keys)
    return (
        fn.EXISTS(of_event.where(Hold.user_ref == Event.user_ref))
        | fn.EXISTS(of_event.where(Hold.reference == plain))
        | fn.EXISTS(of_event.where(Hold.reference == Event.session_id))
        | fn.EXISTS(of_names.where(in_force))
        | Case(None, [(Event.user_ref.is_null(), is_of_others)], SQL("FALSE"))
    )


def _references_of_held(now_ms: Any) -> Sequence[Query]:
    """Return the queries of the references, as they are spelt and in their one spelling, of events
    whose persons are held. They are found once for all events that a statement looks at: thousands
    may have the same reference."""
    found: list[Query] = []
    for name in ("reference", "reference_key"):
        other = Event.alias()
        column = getattr(other, name)
        # By CROSS, SQLite begins with the holds; by COALESCE, it takes the events of each person.
        query = Hold.select(column).join(other, JOIN.CROSS).where(Hold.user_ref == other.user_ref)
        found.append(query.where(is_in_force(now_ms), fn.COALESCE(column, "") != ""))
    return found


def _in_force(transaction: Transaction, which: int | Subject, now_ms: int) -> list[int]:
    if isinstance(which, int):
        return [number for (number,) in transaction.rows(_BY_ID, id=which, now_ms=now_ms)]
    if which.user_ref is not None:
        return on(transaction, [which.user_ref], [], now_ms)
    return on(transaction, [], [which.reference or ""], now_ms)


def as_stored(subject: Subject) -> Subject:
    """Return whom or what somebody has named, a reference in its one spelling."""
    return replace(subject, reference=subject.reference and plain_id(subject.reference))


class _Related(NamedTuple):
    users: set[str]  # of whom they are
    names: set[str]  # of their verifications


class _Relations:
    """By whom and under which names some events are held. One that names nobody is of whom the
    other events of its names are."""

    def __init__(self, transaction: Transaction, events: Sequence[_Event]) -> None:
        sessions = {event.session_id for event in events if event.session_id}
        self._of_session = _of_sessions(transaction, sessions)
        self._names_of_session = {each: self._session_names(each) for each in sessions}
        own = {event.id: self._own_names(event) for event in events}
        self._known_as = groups(transaction, set().union(*own.values()))
        nameless = set().union(*(self._names(own[each.id]) for each in events if not each.user_ref))
        self._users: dict[str, set[str]] = defaultdict(set)
        for reference, user_ref in look_up(transaction, _OF_NAMES, nameless):
            self._users[plain_id(reference)].add(user_ref)

    def of(self, event: _Event) -> _Related:
        names = self._names(self._own_names(event))
        if event.user_ref:
            return _Related({event.user_ref}, names)
        users = set().union(*(self._users.get(name, ()) for name in names))
        others = self._of_session.get(event.session_id or "", ())
        return _Related(users.union(user_ref for _, user_ref in others if user_ref), names)

    def _own_names(self, event: _Event) -> set[str]:
        names = self._names_of_session.get(event.session_id or "", set())
        return names | {plain_id(event.reference)} if event.reference else names

    def _session_names(self, session_id: str) -> set[str]:
        # The session itself too: somebody may have nothing else to hold it by.
        names = {session_reference(session_id), plain_id(session_id)}
        others = self._of_session.get(session_id, ())
        return names.union(plain_id(reference) for reference, _ in others if reference)

    def _names(self, own: Collection[str]) -> set[str]:
        """Return all names under which the verification of these is known."""
        return set(own).union(*(self._known_as.get(name, ()) for name in own))


def _of_sessions(transaction: Transaction, sessions: Collection[str]) -> dict[str, list[Row]]:
    """Return reference and `user_ref` of the events of each of these sessions."""
    found: dict[str, list[Row]] = defaultdict(list)
    if not sessions:
        return found
    for session_id, *of_event in transaction.look_up(_OF_SESSION, sorted(sessions)):
        found[session_id].append(tuple(of_event))
    return found


def is_in_force(now_ms: Any) -> Any:
    """Return the condition on Hold that it is in force."""
    # What the partial indexes of the holds have comes first.
    return Hold.ended_at_ms.is_null() & (Hold.until_ms.is_null() | (Hold.until_ms > now_ms))


_NOW = param("now_ms")
_IN_FORCE = is_in_force(_NOW)
_OF_PERSON = emptied(Hold, Kept.UNTIL_ENDED)
_SAYS_SOMETHING = Hold.user_ref.is_null(False) | Hold.reference.is_null(False)
_PLACE = insert(Hold, "user_ref", "reference", "since_ms", "until_ms", "actor", "reason")
_END = Statement(
    Hold.update(ended_at_ms=param("ended_at_ms"), ended_by=param("ended_by"), **_OF_PERSON).where(
        Hold.id == param("id")
    )
)
_FORGET = Statement(
    Hold.update(**_OF_PERSON).where(
        Hold.ended_at_ms.is_null(), Hold.until_ms <= _NOW, _SAYS_SOMETHING
    )
)
_LEFT = ToErase.select(ToErase.erasure_id).distinct()
_ANY_LEFT = Statement(ToErase.select(ToErase.id).limit(1))
_LEFT_OF_EVENTS = Lookup(ToErase.select(ToErase.erasure_id), ToErase.event_id)
_LEFT_OF_SUBJECTS = Lookup(Erasure.select(Erasure.id).where(Erasure.id.in_(_LEFT)), Erasure.subject)
_LEFT_OF_NAMES = Lookup(
    ErasedName.select(ErasedName.erasure_id).where(ErasedName.erasure_id.in_(_LEFT)),
    ErasedName.name,
)
_ANY = Statement(Hold.select(Hold.id).where(_IN_FORCE).limit(1))
_BY_ID = Statement(Hold.select(Hold.id).where(_IN_FORCE, Hold.id == param("id")))
_HAS_NOT_ENDED = Hold.ended_at_ms.is_null()
_IDS_OF_USERS = Lookup(
    Hold.select(Hold.id, Hold.until_ms, Hold.user_ref).where(_HAS_NOT_ENDED), Hold.user_ref
)
_IDS_OF_REFERENCES = Lookup(
    Hold.select(Hold.id, Hold.until_ms, Hold.reference).where(_HAS_NOT_ENDED), Hold.reference
)
_EVENTS = Lookup(
    Event.select(Event.id, Event.user_ref, Event.reference, Event.session_id), Event.id
)
# Of many that are alike one is enough.
_OF_SESSION = Lookup(
    Event.select(Event.session_id, Event.reference, Event.user_ref).distinct(), Event.session_id
)
_OF_NAMES = Spelt.of(
    Event.select(Event.reference, Event.user_ref).where(Event.user_ref.is_null(False)).distinct(),
    Event,
)
