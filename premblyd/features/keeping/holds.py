"""Legal holds: they exempt a person from deletion, by `retention` and by `erase`.

A hold names a person (`user_ref`) or a verification (`reference`, in its one spelling). Several may
be on the same, and each ends on its own: an event is held as long as one of them is in force. What
a hold says of a person goes when it ends.
"""

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, NamedTuple

from premblyd.features.keeping import persons
from premblyd.features.keeping.erased import NameDigests
from premblyd.features.keeping.persons import Named
from premblyd.features.keeping.tables import ErasedName, Erasure, Hold, ToErase
from premblyd.features.names.names import Spelt, groups, look_up
from premblyd.ground.errors import PremblydError
from premblyd.prembly.payload import plain_id, session_reference
from premblyd.record.operating import EVENTS, Change, write_down
from premblyd.store.columns import Kept, emptied
from premblyd.store.engine import Lookup, Row, Statement, Transaction, insert, param
from premblyd.store.tables import Event


class BeingErasedError(PremblydError):
    """Whom a hold would be on is being erased."""

    def __init__(self, numbers: Sequence[int]) -> None:
        which = ", ".join(f"erasure {number}" for number in numbers)
        super().__init__(
            f"No hold was placed: {which} has begun, and has deleted a part. If it was"
            " interrupted, run the same `premblyd person erase` again."
        )


class _Event(NamedTuple):
    id: int
    user_ref: str | None
    reference: str | None
    session_id: str | None


def place(
    named: Named,
    *,
    actor: str,
    now_ms: int,
    until_ms: int | None = None,
    reason: str | None = None,
) -> Change[int]:
    """Hold a person or a verification, even if nothing is stored about it yet. The change returns
    the hold's id, or raises BeingErasedError."""

    def place(transaction: Transaction) -> int:
        about = {"user_ref": None, "reference": None, "reason": reason, named.by: named.name}
        own = {"since_ms": now_ms, "until_ms": until_ms, "actor": actor}
        transaction.lock([EVENTS])
        if erasures := _erasures_of(transaction, named):
            raise BeingErasedError(erasures)
        number = int(transaction.insert(_PLACE, **own, **about) or 0)
        write_down(transaction, actor, "hold", now_ms, f"hold {number}")
        return number

    return place


def _erasures_of(transaction: Transaction, named: Named) -> list[int]:
    """Return the erasures that are not done and take what a hold would be on. Some of it has no
    names any more: it is known by digests."""
    if transaction.row(_ANY_LEFT) is None:
        return []
    person, digests = persons.find(transaction, named), NameDigests.of(transaction)
    of_names = {named.digest(digests), *map(digests.of_user, person.user_refs)}
    of_names |= set(map(digests.of_reference, person.references))
    found = [
        *transaction.look_up(_LEFT_OF_EVENTS, sorted(person.event_ids)),
        *transaction.look_up(_LEFT_OF_SUBJECTS, sorted(of_names)),
        *transaction.look_up(_LEFT_OF_NAMES, sorted(of_names)),
    ]
    return sorted({number for (number,) in found})


def end(number: int, *, actor: str, now_ms: int) -> Change[bool]:
    """End a hold. The change returns whether it was in force."""

    def end(transaction: Transaction) -> bool:
        transaction.lock([EVENTS])
        if transaction.row(_BY_ID, id=number, now_ms=now_ms) is None:
            return False
        transaction.change(_END, id=number, ended_at_ms=now_ms, ended_by=actor)
        write_down(transaction, actor, "end-hold", now_ms, f"hold {number}")
        return True

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


def held_references(
    transaction: Transaction, references: Mapping[int, str], now_ms: int
) -> set[int]:
    """Return the numbers of those of these references that are held, as an event of theirs would
    be."""
    if not references or transaction.row(_ANY, now_ms=now_ms) is None:
        return set()
    events = [_Event(number, None, each, None) for number, each in references.items()]
    return {number for number, _ in _held_among(transaction, events, now_ms)}


def on(
    transaction: Transaction, user_refs: Collection[str], names: Collection[str], now_ms: int
) -> list[int]:
    """Return which holds are in force on these persons, or on verifications of these names."""
    users = _in_force_on(transaction, _IDS_OF_USERS, now_ms, user_refs)
    verifications = _in_force_on(transaction, _IDS_OF_REFERENCES, now_ms, names)
    return sorted(set(chain(*users.values(), *verifications.values())))


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
