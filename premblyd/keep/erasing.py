"""Erasing: what names a person goes from all that is stored of them, at their request, and stays
away. What was decided, and when, stays, and who erased it.

A person of up to MOST_AT_ONCE events is erased in one transaction, so wholly or not at all. Of more
the first transaction writes down which are left, and these go in portions: a command that was ended
meanwhile goes on when it is run again. In the first one, too, it is written down under which names
nothing may be stored any more: what arrives is stored already erased from then on.
"""

import functools
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from peewee import fn

from premblyd.engines.engine import (
    BulkInsert,
    Database,
    Lookup,
    Statement,
    Transaction,
    insert,
    param,
)
from premblyd.errors import NotFoundError, PremblydError, TryAgainError
from premblyd.hosts.register import RAISE_FLOOR, is_working
from premblyd.keep import blanking, holds, persons, retention
from premblyd.keep.blanking import ByTable, Names
from premblyd.keep.operators import write_down
from premblyd.keep.persons import FoundBy, Named, Person
from premblyd.keep.searching import of_size
from premblyd.model.history import MOVE
from premblyd.model.keeping import ErasedName, Erasure, Lacks, ToErase
from premblyd.model.tables import Event, Host
from premblyd.prembly.payload import plain_id, session_reference
from premblyd.seal import eventkeys
from premblyd.verifications import pseudonyms
from premblyd.verifications.digests import Digests

MOST_AT_ONCE = 1000  # events: nobody else writes for as long as their transaction takes
MOST_BYTES_AT_ONCE = 64 << 20  # of their bodies, which are overwritten
ALL = 1 << 62
GAP_S = 0.3  # between two portions: webhooks come first
FLOOR = "0008_keeping"  # what a program must know that stores nothing of who was erased


class HeldError(PremblydError):
    """A hold is on the person: nothing is erased until it ends."""

    def __init__(self, numbers: Sequence[int]) -> None:
        which = ", ".join(f"hold {number}" for number in numbers)
        super().__init__(
            f"Nothing was erased: {which} is in force. `premblyd hold --list` tells who placed it"
            f" and why; `premblyd hold --end {numbers[0]}` ends it."
        )
        self.numbers = tuple(numbers)


class OlderHostsError(TryAgainError):
    """A daemon works on the database that would store anew what is erased. Upgrade it first."""

    def __init__(self, names: Collection[str]) -> None:
        super().__init__(
            f"Nothing was erased: an older premblyd works on {', '.join(sorted(names))}, which"
            " would store a later webhook of the person whole. Upgrade it, or stop it, then again."
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Earlier:
    """An erasure of the same that was done before."""

    id: int
    at_ms: int
    actor: str
    gone_at_ms: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """What is stored of a person now: what an erasure would change."""

    person: Person
    names: Names = field(repr=False)
    keys: dict[int, str]  # of the events that would be erased
    about: ByTable
    unbound: ByTable
    waiting: int  # deliveries that would be cancelled
    held_by: list[int]  # the holds in force
    earlier: list[Earlier]
    is_unfinished: bool  # an earlier command was ended before it was done

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing that could be erased."""
        return not self.is_unfinished and not any(self.rows.values())

    @property
    def rows(self) -> dict[str, int]:
        """How many rows of each table say something of the person."""
        found = {"event": list(self.person.event_ids)}
        for table, ids in (*self.about.items(), *self.unbound.items()):
            found[table] = found.get(table, []) + ids
        return {table: len(ids) for table, ids in found.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """That somebody is to be erased: whose request it is, and why."""

    named: Named
    also: tuple[int, ...] = ()  # events whose texts name the person
    actor: str
    reason: str | None = None


@dataclass(slots=True, kw_only=True)
class Done:
    """What an erasure has changed."""

    id: int
    at_ms: int
    subject: str  # a keyed digest
    keys: dict[int, str]  # of the events
    rows: dict[str, int]  # by table
    cancelled: int  # deliveries that waited
    other_ids: tuple[int, ...]  # events under one of the names that are of somebody else
    left: int = 0  # events of these that later transactions erase


def look(transaction: Transaction, named: Named, also: Collection[int], now_ms: int) -> Findings:
    """Return what is stored of whom somebody names. It only reads."""
    person = persons.find(transaction, named, also)
    return _findings(transaction, person, now_ms)


def erase(
    database: Database, request: Request, portion_done: Callable[[Done], None] = lambda _: None
) -> Done:
    """Erase a person beside daemons, or go on with it where an earlier command was ended. Raise
    HeldError while a hold is in force, OlderHostsError while an older daemon works, NotFoundError
    when nothing is stored of them."""
    now_ms = database.now_ms()
    done = database.transact(functools.partial(_begin, request, now_ms), alone=True)
    portion_done(done)
    while done.left:
        time.sleep(GAP_S)
        done.left = database.transact(functools.partial(_go_on, done.id), alone=True)
        portion_done(done)
    return done


def _begin(request: Request, now_ms: int, transaction: Transaction) -> Done:
    """Erase all that is about no event, have nothing wait any more, and erase the events if they
    are not too many for one transaction. What else is to be erased is written down."""
    _require_may_erase(transaction, now_ms)
    digests = Digests.of(transaction)
    subject = request.named.digest(digests)
    row = transaction.row(_UNFINISHED, subject=subject)
    findings = look(transaction, request.named, request.also, now_ms)
    if findings.held_by:
        raise HeldError(findings.held_by)
    if row is not None:
        return _begun_before(transaction, findings, now_ms, digests, *row)
    if findings.is_empty:
        raise NotFoundError("Nothing is stored of it that could be erased.")
    ids = findings.person.event_ids
    eventkeys.destroy(transaction, ids)  # of all: also those whose turn comes later
    cancelled = blanking.stop(transaction, ids, now_ms)
    number = transaction.insert(
        _BEGIN,
        at_ms=now_ms,
        actor=request.actor,
        reason=request.reason,
        found_by=request.named.by,
        subject=subject,
        events=len(ids),
        cancelled=cancelled,
    )
    done = Done(
        id=number or 0,
        at_ms=now_ms,
        subject=subject,
        keys=findings.keys,
        rows=findings.rows,
        cancelled=cancelled,
        other_ids=findings.person.other_ids,
    )
    ends = _forget(transaction, findings, done.id, now_ms, digests)
    transaction.change(RAISE_FLOOR, migration=FLOOR)
    write_down(transaction, request.actor, "erase", now_ms, f"erasure {done.id}")
    portion = _portion_of(transaction, ids)
    blanking.blank(transaction, portion, done.id, digests)
    retention.note_ends(transaction, {each: ends[each] for each in portion if each in ends})
    transaction.change_each(_END_LEFT, portion)  # of another erasure
    left = sorted(set(ids).difference(portion))
    _leave(transaction, left, done.id, ends)
    done.left = len(left)
    return done


def _forget(
    transaction: Transaction, findings: Findings, erasure_id: int, now_ms: int, digests: Digests
) -> dict[int, int]:
    """Write down the names under which nothing may be stored any more, and empty what is about no
    event. Return from when the records of the events count."""
    _remember(transaction, findings.person, erasure_id, digests)
    ids = findings.person.event_ids
    ends = retention.ends_of_persons(transaction, ids, now_ms)
    others = transaction.look_up(_LEFT_TO_ANY, ids)  # whose closings that erasure has taken out
    ends |= {event_id: at_ms for event_id, at_ms in others if at_ms is not None}
    blanking.blank_unbound(transaction, findings.unbound, digests)
    return ends


def _leave(
    transaction: Transaction, event_ids: Sequence[int], erasure_id: int, ends: Mapping[int, int]
) -> None:
    """Write down that these events are left to this erasure, also if another that was ended has
    left them."""
    known = {event_id for event_id, _ in transaction.look_up(_LEFT_TO_ANY, event_ids)}
    transaction.change_each(_TAKE_OVER, sorted(known), erasure_id=erasure_id)
    rows = [(each, erasure_id, ends.get(each)) for each in event_ids if each not in known]
    transaction.insert_many(_ADD_LEFT, rows)


def _begun_before(
    transaction: Transaction,
    findings: Findings,
    now_ms: int,
    digests: Digests,
    number: int,
    at_ms: int,
    cancelled: int,
) -> Done:
    """Return what a command has begun that was ended before it was done, with what has come since
    under other names of the person."""
    left = [row[0] for row in transaction.rows(_LEFT, erasure_id=number, limit=ALL)]
    if new := sorted(set(findings.person.event_ids).difference(left)):
        eventkeys.destroy(transaction, new)
        waited = blanking.stop(transaction, new, now_ms)
        ends = _forget(transaction, findings, number, now_ms, digests)
        _leave(transaction, new, number, ends)
        transaction.change(_COUNT_MORE, id=number, events=len(new), cancelled=waited)
        cancelled += waited
        left += new
    keys: dict[int, str] = dict(transaction.rows(_ERASED_BY, erasure_id=number, at_ms=at_ms))
    keys |= {event_id: key for event_id, key, _ in transaction.look_up(_NAMES_OF_EVENTS, left)}
    about = blanking.about(transaction, keys)
    rows = {"event": len(keys), **{table: len(ids) for table, ids in about.items()}}
    return Done(
        id=number,
        at_ms=at_ms,
        subject=findings.person.named.digest(digests),
        keys=keys,
        rows=rows,
        cancelled=cancelled,
        other_ids=findings.person.other_ids,
        left=len(left),
    )


def _go_on(erasure_id: int, transaction: Transaction) -> int:
    """Erase a portion of what is written down; return how many events are left."""
    rows = transaction.rows(_LEFT, erasure_id=erasure_id, limit=MOST_AT_ONCE)
    portion = _portion_of(transaction, [row[0] for row in rows])
    whole = [each for (each,) in transaction.look_up(_NOT_ERASED, portion)]  # by another meanwhile
    blanking.blank(transaction, whole, erasure_id, Digests.of(transaction))
    ends = {event_id: at_ms for event_id, at_ms in rows if at_ms is not None}
    retention.note_ends(transaction, {each: ends[each] for each in portion if each in ends})
    transaction.change_each(_END_LEFT, portion)
    row = transaction.row(_COUNT_LEFT, erasure_id=erasure_id)
    return int(row[0]) if row else 0


def _require_may_erase(transaction: Transaction, now_ms: int) -> None:
    if not transaction.try_lock(MOVE):
        raise TryAgainError(
            "Nothing was erased: `premblyd move` is at work. Erase on the new database."
        )
    older = {name for name, known in transaction.rows(_WORKING, now_ms=now_ms) if known < FLOOR}
    if older:
        raise OlderHostsError(older)


def earlier(transaction: Transaction, named: Named) -> list[Earlier]:
    """Return the erasures of what is named, the newest first."""
    subject = named.digest(Digests.of(transaction))
    rows = transaction.rows(_EARLIER, subject=subject)
    return [
        Earlier(id=number, at_ms=at_ms, actor=actor, gone_at_ms=gone_at_ms)
        for number, at_ms, actor, gone_at_ms in rows
    ]


def _findings(transaction: Transaction, person: Person, now_ms: int) -> Findings:
    subject = person.named.digest(Digests.of(transaction))
    rows = transaction.look_up(_NAMES_OF_EVENTS, person.event_ids)
    spelt = frozenset(reference for _, _, reference in rows if isinstance(reference, str))
    names = Names(person.user_refs, person.references | spelt, person.sessions)
    # What is under a name that a stranger has too is left to them, as their events are.
    own = frozenset(each for each in names.references if plain_id(each) not in person.shared)
    meant = Names(names.user_refs, own, names.sessions - person.shared)
    names, meant = (blanking.with_originals(transaction, each) for each in (names, meant))
    if person.named.by is not FoundBy.USER_REF:  # of who has it there may be other events
        meant = meant._replace(user_refs=frozenset())
    if person.named.by is FoundBy.EVENT:  # and of its reference too
        meant = meant._replace(references=frozenset(), sessions=frozenset())
    return Findings(
        person=person,
        names=names,
        keys={number: key for number, key, _ in rows},
        about=blanking.about(transaction, person.event_ids),
        unbound=blanking.unbound(transaction, meant),
        waiting=len(blanking.waiting(transaction, person.event_ids)),
        held_by=_held_by(transaction, person, now_ms),
        earlier=earlier(transaction, person.named),
        is_unfinished=transaction.row(_UNFINISHED, subject=subject) is not None,
    )


def _held_by(transaction: Transaction, person: Person, now_ms: int) -> list[int]:
    """Return the holds on the person, of whom there may be no event yet, and on each event: whose
    verification, or whose person, another one may say."""
    # A hold may be on the id of a session, as if that were a reference.
    sessions = pseudonyms.of(transaction).references(map(plain_id, person.sessions))
    found = holds.on(transaction, person.user_refs, person.references | sessions, now_ms)
    return sorted({*found, *holds.on_events(transaction, person.event_ids, now_ms)})


def _portion_of(transaction: Transaction, event_ids: Sequence[int]) -> list[int]:
    """Return which of these events one transaction erases."""
    ids = event_ids[:MOST_AT_ONCE]
    sizes: dict[int, Any] = dict(transaction.look_up(_SIZES, ids))
    return next(of_size([(each, sizes.get(each)) for each in ids], MOST_BYTES_AT_ONCE))


def _remember(transaction: Transaction, person: Person, erasure_id: int, digests: Digests) -> None:
    """Write down the names under which nothing may be stored any more: those that no stranger has
    too. Of one event, none: others of its reference may come."""
    if person.named.by is FoundBy.EVENT:
        return
    references = person.references - person.shared
    sessions = person.sessions - person.shared
    by_session = set(map(session_reference, sessions))
    names = {
        *map(digests.of_reference, references | by_session),
        *map(digests.of_session, sessions),
    }
    known = {row[0] for row in transaction.look_up(_REMEMBERED, sorted(names))}
    transaction.insert_many(_REMEMBER, [(name, erasure_id) for name in sorted(names - known)])


_NAMES_OF_EVENTS = Lookup(Event.select(Event.id, Event.key, Event.reference), Event.id)
_SIZES = Lookup(Event.select(Event.id, Event.body_bytes), Event.id)
_BEGIN = insert(
    Erasure,
    *("at_ms", "actor", "reason", "found_by", "subject", "events", "cancelled"),
)
_COUNT_MORE = Statement(
    Erasure.update(
        events=Erasure.events + param("events"), cancelled=Erasure.cancelled + param("cancelled")
    ).where(Erasure.id == param("id"))
)
_REMEMBER = BulkInsert(ErasedName, "name", "erasure_id")
_REMEMBERED = Lookup(ErasedName.select(ErasedName.name), ErasedName.name)
_ADD_LEFT = BulkInsert(ToErase, "event_id", "erasure_id", "closed_at_ms")
_LEFT_TO_ANY = Lookup(ToErase.select(ToErase.event_id, ToErase.closed_at_ms), ToErase.event_id)
_TAKE_OVER = Lookup(ToErase.update(erasure_id=param("erasure_id")), ToErase.event_id)
_LEFT = Statement(
    ToErase.select(ToErase.event_id, ToErase.closed_at_ms)
    .where(ToErase.erasure_id == param("erasure_id"))
    .order_by(ToErase.id)
    .limit(param("limit"))
)
_COUNT_LEFT = Statement(
    ToErase.select(fn.COUNT(ToErase.id)).where(ToErase.erasure_id == param("erasure_id"))
)
_NOT_ERASED = Lookup(
    Event.select(Event.id).where(fn.COALESCE(Event.lacks, "") != Lacks.ERASED), Event.id
)
_END_LEFT = Lookup(ToErase.delete(), ToErase.event_id)
_UNFINISHED = Statement(
    Erasure.select(Erasure.id, Erasure.at_ms, Erasure.cancelled)
    .where(
        Erasure.subject == param("subject"),
        fn.EXISTS(ToErase.select(ToErase.id).where(ToErase.erasure_id == Erasure.id)),
    )
    .order_by(Erasure.id)
    .limit(1)
)
# What came later has been stored erased.
_ERASED_BY = Statement(
    Event.select(Event.id, Event.key).where(
        Event.erasure_id == param("erasure_id"), Event.received_at_ms <= param("at_ms")
    )
)
_EARLIER = Statement(
    Erasure.select(Erasure.id, Erasure.at_ms, Erasure.actor, Erasure.gone_at_ms)
    .where(Erasure.subject == param("subject"))
    .order_by(Erasure.id.desc())
)
_WORKING = Statement(
    Host.select(Host.name, fn.COALESCE(Host.migration, "")).where(is_working(Host, param("now_ms")))
)
