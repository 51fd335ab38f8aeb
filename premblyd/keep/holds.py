"""Holds: of whom nothing is removed or erased, whatever time is over and whoever asks for it.

A hold names a person (`user_ref`) or a verification (`reference`, in its one spelling). Several may
be on the same, and each ends on its own: an event is held as long as one of them is in force. What
a hold says of a person goes when it ends.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from peewee import JOIN, SQL, Case, Expression, fn

from premblyd.engines.engine import Lookup, Row, Statement, Transaction, insert, param
from premblyd.keep.operators import Change, write_down
from premblyd.model.columns import Kept, emptied
from premblyd.model.keeping import Hold
from premblyd.model.tables import Event, VerificationName
from premblyd.prembly.payload import plain_id, session_reference
from premblyd.verifications import spellings
from premblyd.verifications.digests import Digests
from premblyd.verifications.names import known_as
from premblyd.verifications.spellings import Spelt

# Who removes or erases locks this first of all, as who holds or closes does: else, on PostgreSQL,
# it could end after a hold that it did not see.
LOCK = "holds"


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """Of whom or of what a hold is: a person by `user_ref`, or a verification by `reference`."""

    user_ref: str | None = None
    reference: str | None = None


def place(
    subject: Subject,
    *,
    actor: str,
    now_ms: int,
    until_ms: int | None = None,
    reason: str | None = None,
) -> Change[int]:
    """Hold a person or a verification, of which nothing need be stored yet. The change returns the
    hold's id."""

    def place(transaction: Transaction) -> int:
        reference = subject.reference and plain_id(subject.reference)
        about = {"user_ref": subject.user_ref, "reference": reference, "reason": reason}
        of_session = Digests.of(transaction).of_session(reference) if reference else None
        own = {"at_ms": now_ms, "until_ms": until_ms, "actor": actor}
        transaction.lock([LOCK])
        number = int(transaction.insert(_PLACE, **own, **about, session_digest=of_session) or 0)
        write_down(transaction, actor, "hold", now_ms, f"hold {number}")
        return number

    return place


def end(which: int | Subject, *, actor: str, now_ms: int) -> Change[list[int]]:
    """End a hold, or all that are on a person or a verification. The change returns those that
    were in force and are not any more."""

    def end(transaction: Transaction) -> list[int]:
        transaction.lock([LOCK])
        ended = []
        for number in _in_force(transaction, which, now_ms):
            transaction.change(_END, id=number, ended_at_ms=now_ms, ended_by=actor)
            write_down(transaction, actor, "end-hold", now_ms, f"hold {number}")
            ended.append(number)
        return ended

    return end


def forget_ended(transaction: Transaction, now_ms: int) -> int:
    """Empty what holds say of people whose time is over; return how many holds these are."""
    return transaction.change(_FORGET, now_ms=now_ms)


def held(transaction: Transaction, event_ids: Collection[int], now_ms: int) -> set[int]:
    """Return which of these events are held: by their `user_ref`, by a name of their verification
    in any spelling, or, where they have no `user_ref`, by that of its other events."""
    return {number for number, _ in _held_by(transaction, event_ids, now_ms)}


def on_events(transaction: Transaction, event_ids: Collection[int], now_ms: int) -> list[int]:
    """Return which holds in force hold any of these events."""
    return sorted({each for _, ids in _held_by(transaction, event_ids, now_ms) for each in ids})


def _held_by(
    transaction: Transaction, event_ids: Collection[int], now_ms: int
) -> Iterator[tuple[int, list[int]]]:
    """Yield those of these events that are held, each with its holds."""
    if event_ids and transaction.row(_ANY, now_ms=now_ms) is not None:
        events = transaction.look_up(_EVENTS, sorted(event_ids))
        yield from _held_among(transaction, events, now_ms)


def _held_among(
    transaction: Transaction, events: Sequence[Row], now_ms: int
) -> Iterator[tuple[int, list[int]]]:
    """Look at all of these events at once, as mostly none is held, and then at each half."""
    related = _related(transaction, events)
    found = on(transaction, related.users, related.names, now_ms)
    if found and len(events) == 1:
        yield events[0][0], found
    elif found:
        half = len(events) // 2
        yield from _held_among(transaction, events[:half], now_ms)
        yield from _held_among(transaction, events[half:], now_ms)


def on(
    transaction: Transaction, user_refs: Collection[str], names: Collection[str], now_ms: int
) -> list[int]:
    """Return which holds are in force on these persons, or on verifications of these names."""
    plain = sorted(set(map(plain_id, names)))
    found = transaction.look_up(_IDS_OF_USERS, sorted(user_refs))
    found += transaction.look_up(_IDS_OF_REFERENCES, plain)
    return sorted({number for number, until_ms in found if until_ms is None or until_ms > now_ms})


def is_held(now_ms: Any) -> Expression:
    """Return the condition on Event that it is held, as `held` says, save that a session leads it
    to no other event: for counts."""
    plain = fn.COALESCE(Event.reference_key, Event.reference)
    other, own, also = Event.alias(), VerificationName.alias(), VerificationName.alias()
    in_force = is_in_force(now_ms)
    of_event = Hold.select(SQL("1")).where(in_force)
    # By CROSS, SQLite begins with the few rows of the event's names, and not with all holds.
    one = SQL("1")
    of_names = own.select(one).join(also, JOIN.CROSS).switch(own).join(Hold, JOIN.CROSS)
    of_names = of_names.where(
        own.name == plain, also.verification == own.verification, Hold.reference == also.name
    )
    of_others = other.select(one).join(Hold, JOIN.CROSS).where(Hold.user_ref == other.user_ref)
    is_of_others = (
        (other.reference == Event.reference)
        | (other.reference == plain)
        | (other.reference_key == plain)
    )
    return (
        fn.EXISTS(of_event.where(Hold.user_ref == Event.user_ref))
        | fn.EXISTS(of_event.where(Hold.reference == plain))
        | fn.EXISTS(of_event.where(Hold.reference == Event.session_id))
        | fn.EXISTS(of_event.where(Hold.session_digest == Event.session_digest))
        | fn.EXISTS(of_names.where(in_force))
        # By CASE, nobody looks through the others of a reference where a user_ref says enough.
        | Case(
            None,
            [(Event.user_ref.is_null(), fn.EXISTS(of_others.where(in_force, is_of_others)))],
            SQL("FALSE"),
        )
    )


def _in_force(transaction: Transaction, which: int | Subject, now_ms: int) -> list[int]:
    if isinstance(which, int):
        found = transaction.rows(_BY_ID, id=which, now_ms=now_ms)
    elif which.user_ref is not None:
        found = transaction.rows(_BY_USER, user_ref=which.user_ref, now_ms=now_ms)
    else:
        reference = plain_id(which.reference or "")
        found = transaction.rows(_BY_REFERENCE, reference=reference, now_ms=now_ms)
    return [number for (number,) in found]


class _Related(NamedTuple):
    users: set[str]  # of whom they are
    names: set[str]  # of their verifications


def _related(transaction: Transaction, events: Sequence[Row]) -> _Related:
    """Return by whom and under which names any of these events is held. One that names nobody is of
    whom the other events of its names are."""
    users = {user_ref for _, user_ref, *_ in events if user_ref}
    named = _names(transaction, [event for event in events if event[1]])
    nameless = _names(transaction, [event for event in events if not event[1]])
    users.update(of for (of,) in spellings.look_up(transaction, _OF_NAMES, nameless) if of)
    sessions = {session for _, user_ref, _, session in events if session and not user_ref}
    users.update(of for _, of in _of_sessions(transaction, sessions) if of)
    return _Related(users, named | nameless)


def _names(transaction: Transaction, events: Sequence[Row]) -> set[str]:
    """Return all names under which the verifications of these events are known."""
    if not events:
        return set()
    names = {plain_id(reference) for _, _, reference, _ in events if reference}
    sessions = {session for *_, session in events if session}
    names.update(map(session_reference, sessions))
    names.update(map(plain_id, sessions))  # somebody may have nothing else to hold it by
    of_sessions = _of_sessions(transaction, sessions)
    names.update(plain_id(reference) for reference, _ in of_sessions if reference)
    return known_as(transaction, names)


def _of_sessions(transaction: Transaction, sessions: Collection[str]) -> list[Row]:
    """Return reference and `user_ref` of the events of these sessions, sealed or not."""
    if not sessions:
        return []
    of_sealed = sorted(set(map(Digests.of(transaction).of_session, sessions)))
    found = transaction.look_up(_OF_SESSION, sorted(sessions))
    return found + transaction.look_up(_OF_SESSION_DIGEST, of_sealed)


def is_in_force(now_ms: Any) -> Any:
    """Return the condition on Hold that it is in force."""
    # What the partial indexes of the holds have comes first.
    return Hold.ended_at_ms.is_null() & (Hold.until_ms.is_null() | (Hold.until_ms > now_ms))


_NOW = param("now_ms")
_IN_FORCE = is_in_force(_NOW)
_OF_PERSON = emptied(Hold, Kept.IN_FORCE)
_SAYS_SOMETHING = Hold.user_ref.is_null(False) | Hold.reference.is_null(False)
_PLACE = insert(
    Hold, "user_ref", "reference", "session_digest", "at_ms", "until_ms", "actor", "reason"
)
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
_ANY = Statement(Hold.select(Hold.id).where(_IN_FORCE).limit(1))
_BY_ID = Statement(Hold.select(Hold.id).where(_IN_FORCE, Hold.id == param("id")))
_BY_USER = Statement(
    Hold.select(Hold.id).where(_IN_FORCE, Hold.user_ref == param("user_ref")).order_by(Hold.id)
)
_BY_REFERENCE = Statement(
    Hold.select(Hold.id).where(_IN_FORCE, Hold.reference == param("reference")).order_by(Hold.id)
)
_IDS = Hold.select(Hold.id, Hold.until_ms).where(Hold.ended_at_ms.is_null())
_IDS_OF_USERS = Lookup(_IDS, Hold.user_ref)
_IDS_OF_REFERENCES = Lookup(_IDS.clone(), Hold.reference)
_EVENTS = Lookup(
    Event.select(Event.id, Event.user_ref, Event.reference, Event.session_id), Event.id
)
_OF_SESSION = Lookup(Event.select(Event.reference, Event.user_ref), Event.session_id)
_OF_SESSION_DIGEST = Lookup(_OF_SESSION.query.clone(), Event.session_digest)
_OF_NAMES = Spelt.of(Event.select(Event.user_ref), Event)
