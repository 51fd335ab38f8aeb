"""Erasing: deletes every personal value of a person, at their request, and keeps it away. Decisions
and times stay, with who erased it.

A person of up to MOST_AT_ONCE events is erased in one transaction: completely or not at all. More
events are erased in portions. A first transaction for each portion cancels what waits, notes the
events that are left to empty, and the names under which arrivals are already erased from then on;
later transactions empty the events. An interrupted command continues when it is run again: an
erasure ends only when nothing is left.
"""

import functools
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from peewee import fn

from premblyd.features.keeping import erased, holds, personrows, persons, trusted
from premblyd.features.keeping.erased import NameDigests
from premblyd.features.keeping.personrows import ByTable, Names
from premblyd.features.keeping.persons import FoundBy, Named, Person
from premblyd.features.keeping.tables import ErasedEvent, ErasedName, Erasure, Hold, ToErase
from premblyd.ground.errors import NotFoundError, PremblydError, TryAgainError
from premblyd.prembly.payload import plain_id, session_reference
from premblyd.queue import register
from premblyd.queue.arrivals import of_size
from premblyd.record.operating import write_down
from premblyd.store.engine import (
    BulkInsert,
    Database,
    Lookup,
    Row,
    Statement,
    Transaction,
    insert,
    param,
)
from premblyd.store.states import RemovedParts, State
from premblyd.store.tables import Delivery, Event

MOST_AT_ONCE = 1000  # events: nobody else writes for as long as their transaction takes
MOST_BYTES_AT_ONCE = 64 << 20  # of their bodies, which are overwritten
GAP_S = 0.3  # between two portions: webhooks come first
NOTICED_S = (
    register.SURE_S
)  # after an erasure: then no hook begins any more that was claimed before
T = TypeVar("T")


class HeldError(PremblydError):
    """A hold is on the person: nothing is erased until it ends."""

    def __init__(self, numbers: Sequence[int]) -> None:
        which = ", ".join(f"hold {number}" for number in numbers)
        super().__init__(
            f"Nothing was erased: {which} forbids it. `premblyd person hold --list` shows who"
            f" placed it and why; `premblyd person release {numbers[0]}` ends it."
        )
        self.numbers = tuple(numbers)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A request to erase somebody: who asks, and why."""

    named: Named
    actor: str
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """Everything stored about a person now: what an erasure would change."""

    person: Person
    names: Names = field(repr=False)
    digests: frozenset[str]  # of the names under which nothing could be stored any more
    keys: dict[int, str]  # of the events that would be erased
    meant: Names = field(repr=False)  # by which rows about no event are found
    eventless: ByTable
    waiting: int  # deliveries that would be cancelled
    hold_ids: list[int]  # the holds in force
    newest_hold: Row | None  # of all
    earlier: int | None  # the newest erasure of the same
    is_unfinished: bool  # an earlier command was ended before it was done

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing that could be erased."""
        return not (self.is_unfinished or self.keys or any(self.eventless.values()))


@dataclass(slots=True, kw_only=True)
class Done:
    """What an erasure has changed."""

    id: int
    at_ms: int
    keys: dict[int, str]  # of the events
    cancelled: int  # deliveries that waited or were dead
    other_ids: tuple[int, ...]  # events under one of the names that are of somebody else
    left: int = 0  # events of these that later transactions erase


def look(transaction: Transaction, named: Named, now_ms: int) -> Findings:
    """Return what is stored under the given names. It only reads."""
    person = persons.find(transaction, named)
    digests = NameDigests.of(transaction)
    subject = person.named.digest(digests)
    rows = transaction.look_up(_NAMES_OF_EVENTS, person.event_ids)
    spelt = frozenset(reference for _, _, reference, _ in rows if isinstance(reference, str))
    names = Names(person.user_refs, person.references | spelt, person.sessions)
    # What is under a name that a stranger has too is left to them, as their events are.
    own = frozenset(each for each in names.references if plain_id(each) not in person.shared)
    meant = Names(names.user_refs, own, names.sessions - person.shared)
    if person.named.by is not FoundBy.USER_REF:  # of who has it there may be other events
        meant = meant._replace(user_refs=frozenset())
    if person.named.by is FoundBy.EVENT:  # and of its reference too
        meant = meant._replace(references=frozenset(), sessions=frozenset())
    return Findings(
        person=person,
        names=names,
        digests=_digests_of(person, digests),
        keys={number: key for number, key, *_ in rows},
        meant=meant,
        eventless=personrows.eventless(transaction, meant),
        waiting=len(personrows.waiting(transaction, person.event_ids)),
        hold_ids=_hold_ids(transaction, person, now_ms),
        earlier=transaction.number(_NEWEST_OF, subject=subject) or None,
        newest_hold=transaction.row(_NEWEST_HOLD),
        is_unfinished=transaction.row(_UNFINISHED, subject=subject) is not None,
    )


def _hold_ids(transaction: Transaction, person: Person, now_ms: int) -> list[int]:
    """Return the holds on the person, of whom there may be no event yet, and on each event: whose
    verification, or whose person, another one may say."""
    # A hold may be on the id of a session, as if that were a reference.
    sessions = set(map(plain_id, person.sessions))
    now_ms = trusted.counted_ms(transaction, now_ms)  # by no clock alone is a hold over
    found = holds.on(transaction, person.user_refs, person.references | sessions, now_ms)
    return sorted({*found, *holds.on_events(transaction, person.event_ids, now_ms)})


def _digests_of(person: Person, digests: NameDigests) -> frozenset[str]:
    """Return what stands for the names under which nothing may be stored any more: those that no
    stranger has too. Of one event, none: others of its reference may come."""
    if person.named.by is FoundBy.EVENT:
        return frozenset()
    sessions = person.sessions - person.shared
    references = (person.references - person.shared) | set(map(session_reference, sessions))
    of_references = map(digests.of_reference, references)
    return frozenset((*of_references, *map(digests.of_session, sessions)))


def erase(
    database: Database, request: Request, portion_done: Callable[[Done], None] = lambda _: None
) -> Done:
    """Erase a person beside running daemons, or continue an interrupted erasure. Raise HeldError
    while a hold is active, NotFoundError when nothing is stored about them, TryAgainError while the
    database is moved or somebody else erases."""
    now_ms = database.now_ms()
    findings = database.look(functools.partial(look, named=request.named, now_ms=now_ms))
    if findings.is_unfinished or len(findings.person.event_ids) > MOST_AT_ONCE:
        done = _begin_in_portions(database, request, findings, now_ms)
    else:
        done = database.transact(functools.partial(_erase_at_once, request, now_ms), alone=True)
        portion_done(done)
    while done.left:
        done.left = _next(database, functools.partial(go_on, done.id))
        portion_done(done)
    if database.look(functools.partial(_any_runs, done.keys)):
        time.sleep(NOTICED_S)  # or its hook may not have begun, and still would
    return done


def _any_runs(event_ids: Collection[int], transaction: Transaction) -> bool:
    return any(event_id in event_ids for (event_id,) in transaction.rows(_RUNNING))


def _next(database: Database, work: Callable[[Transaction], int]) -> int:
    """Do what is next, after a pause in which others write."""
    time.sleep(GAP_S)
    return database.transact(work, alone=True)


def _erase_at_once(request: Request, now_ms: int, transaction: Transaction) -> Done:
    """Erase all of it, if its bodies are not too large for one transaction."""
    findings = look(transaction, named=request.named, now_ms=now_ms)
    if findings.is_unfinished:
        raise TryAgainError("Nothing was erased: another erasure has just begun. Try again.")
    done = _open(transaction, request, findings, now_ms)
    done.cancelled += take(done.id, findings.person.event_ids, now_ms, transaction)
    remember(done.id, sorted(findings.digests), transaction)
    personrows.erase_eventless(transaction, findings.eventless)
    done.left = go_on(done.id, transaction)
    return done


def _begin_in_portions(
    database: Database, request: Request, findings: Findings, now_ms: int
) -> Done:
    """Cancel everything of a person that waits, and note which events are left to be emptied.
    Continuing an interrupted erasure does all of this again."""

    def begin(transaction: Transaction) -> Done:
        if transaction.row(_NEWEST_HOLD) != findings.newest_hold:
            raise TryAgainError("Nothing was erased: a hold was placed meanwhile. Try again.")
        done = _open(transaction, request, findings, now_ms)
        done.cancelled += take(done.id, first, now_ms, transaction)
        return done

    first, *portions = [*in_portions(findings.person.event_ids)] or [[]]
    done = database.transact(begin, alone=True)
    names, digests = findings.meant, frozenset[str]()
    done.keys |= database.look(functools.partial(_erased_before, done))
    while True:
        for portion in portions:
            done.cancelled += _next(database, functools.partial(take, done.id, portion, now_ms))
        for part in in_portions(sorted(findings.digests - digests)):
            _next(database, functools.partial(remember, done.id, part))
        names, digests = names.union(findings.meant), digests | findings.digests
        findings = database.look(functools.partial(look, named=request.named, now_ms=now_ms))
        new = sorted(findings.keys.keys() - done.keys.keys())
        # Others may always come. These came before their names were written down.
        if not database.look(functools.partial(_are_of_erased, new)):
            break
        done.keys |= findings.keys
        portions = [*in_portions(new)]
    done.other_ids = findings.person.other_ids
    eventless = database.look(lambda transaction: personrows.eventless(transaction, names))
    for table, ids in eventless.items():
        for rows in in_portions(ids):
            _next(database, functools.partial(_erase_eventless, {table: rows}))
    done.left = database.look(functools.partial(_count_left, done.id))
    return done


def _open(transaction: Transaction, request: Request, findings: Findings, now_ms: int) -> Done:
    """Begin an erasure, or continue an interrupted one."""
    if findings.hold_ids:
        raise HeldError(findings.hold_ids)
    subject = request.named.digest(NameDigests.of(transaction))
    number, at_ms, cancelled = transaction.row(_UNFINISHED, subject=subject) or (None, now_ms, 0)
    if number is None:
        if findings.is_empty:
            raise NotFoundError("Nothing is stored that could be erased.")
        number = transaction.insert(
            BEGIN,
            at_ms=now_ms,
            actor=request.actor,
            reason=request.reason,
            found_by=request.named.by,
            subject=subject,
            events=0,
            cancelled=0,
        )
        write_down(transaction, request.actor, "erase", now_ms, f"erasure {number}")
    return Done(
        id=number or 0,
        at_ms=at_ms,
        keys=dict(findings.keys),
        cancelled=cancelled,
        other_ids=findings.person.other_ids,
    )


def take(erasure_id: int, event_ids: Sequence[int], now_ms: int, transaction: Transaction) -> int:
    """Cancel everything of these events that waits, and note that they are left to this erasure,
    even if an interrupted one had them. Return how many deliveries that cancelled."""
    whole = [each for (each,) in transaction.look_up(_NOT_ERASED, event_ids)]
    cancelled = personrows.stop(transaction, whole, now_ms)
    left: dict[int, int] = dict(transaction.look_up(_LEFT_TO_ANY, whole))
    known = [each for each in whole if each in left]
    transaction.change_each(_TAKE_OVER, known, erasure_id=erasure_id)
    new = [each for each in whole if each not in left]
    transaction.insert_many(_ADD_LEFT, [(each, erasure_id) for each in new])
    count = sum(left.get(each) != erasure_id for each in whole)
    transaction.change(_COUNT_MORE, id=erasure_id, events=count, cancelled=cancelled)
    return cancelled


def remember(erasure_id: int, digests: Sequence[str], transaction: Transaction) -> int:
    """Write down names under which nothing may be stored any more; return how many are new."""
    known = {row[0] for row in transaction.look_up(_REMEMBERED, digests)}
    new = [(digest, erasure_id) for digest in digests if digest not in known]
    transaction.insert_many(_REMEMBER, new)
    return len(new)


def _erase_eventless(rows: ByTable, transaction: Transaction) -> int:
    personrows.erase_eventless(transaction, rows)
    return len(rows)


def _are_of_erased(event_ids: Sequence[int], transaction: Transaction) -> bool:
    """Return whether any of these events has a name under which nothing may be stored."""
    rows = transaction.look_up(_NAMES_OF_EVENTS, event_ids)
    names = [erased.Names(reference, session_id) for _, _, reference, session_id in rows]
    return any(erased.find_erased(transaction, names))


def _erased_before(done: Done, transaction: Transaction) -> dict[int, str]:
    """Return the keys of the events that earlier commands have emptied for this erasure."""
    return dict(transaction.rows(_ERASED_BY, erasure_id=done.id, at_ms=done.at_ms))


def in_portions(items: Sequence[T]) -> Iterator[list[T]]:
    for start in range(0, len(items), MOST_AT_ONCE):
        yield list(items[start : start + MOST_AT_ONCE])


def go_on(erasure_id: int, transaction: Transaction) -> int:
    """Erase a portion of what is written down; return how many events are left."""
    left = transaction.rows(_LEFT, erasure_id=erasure_id, limit=MOST_AT_ONCE)
    portion = _portion_of(transaction, [each for (each,) in left])
    whole = [each for (each,) in transaction.look_up(_NOT_ERASED, portion)]  # by another meanwhile
    personrows.erase_of_events(transaction, whole, erasure_id)
    transaction.change_each(_END_LEFT, portion)
    return _count_left(erasure_id, transaction)


def _count_left(erasure_id: int, transaction: Transaction) -> int:
    return transaction.number(_COUNT_LEFT, erasure_id=erasure_id)


def _portion_of(transaction: Transaction, event_ids: Sequence[int]) -> list[int]:
    """Return which of these events one transaction erases."""
    ids = event_ids[:MOST_AT_ONCE]
    sizes: dict[int, int] = dict(transaction.look_up(_SIZES, ids))
    return next(of_size([(each, sizes.get(each, 0)) for each in ids], MOST_BYTES_AT_ONCE))


_NAMES_OF_EVENTS = Lookup(
    Event.select(Event.id, Event.key, Event.reference, Event.session_id), Event.id
)
_NEWEST_HOLD = Statement(Hold.select(fn.MAX(Hold.id)))
_UNFINISHED = Statement(
    Erasure.select(Erasure.id, Erasure.at_ms, Erasure.cancelled)
    .where(
        Erasure.subject == param("subject"),
        fn.EXISTS(ToErase.select(ToErase.id).where(ToErase.erasure_id == Erasure.id)),
    )
    .order_by(Erasure.id)
    .limit(1)
)
_NEWEST_OF = Statement(
    Erasure.select(fn.COALESCE(fn.MAX(Erasure.id), 0)).where(Erasure.subject == param("subject"))
)
_SIZES = Lookup(Event.select(Event.id, Event.body_bytes), Event.id)
_RUNNING = Statement(Delivery.select(Delivery.event).where(Delivery.state == State.RUNNING))
BEGIN = insert(Erasure, "at_ms", "actor", "reason", "found_by", "subject", "events", "cancelled")
_COUNT_MORE = Statement(
    Erasure.update(
        events=Erasure.events + param("events"), cancelled=Erasure.cancelled + param("cancelled")
    ).where(Erasure.id == param("id"))
)
_REMEMBER = BulkInsert(ErasedName, "name", "erasure_id")
_REMEMBERED = Lookup(ErasedName.select(ErasedName.name), ErasedName.name)
_ADD_LEFT = BulkInsert(ToErase, "event_id", "erasure_id")
_LEFT_TO_ANY = Lookup(ToErase.select(ToErase.event_id, ToErase.erasure_id), ToErase.event_id)
_TAKE_OVER = Lookup(ToErase.update(erasure_id=param("erasure_id")), ToErase.event_id)
_LEFT = Statement(
    ToErase.select(ToErase.event_id)
    .where(ToErase.erasure_id == param("erasure_id"))
    .order_by(ToErase.id)
    .limit(param("limit"))
)
_COUNT_LEFT = Statement(
    ToErase.select(fn.COUNT(ToErase.id)).where(ToErase.erasure_id == param("erasure_id"))
)
_NOT_ERASED = Lookup(
    Event.select(Event.id).where(fn.COALESCE(Event.removed_parts, "") != RemovedParts.ERASED),
    Event.id,
)
_END_LEFT = Lookup(ToErase.delete(), ToErase.event_id)
# What came later has been stored erased.
_ERASED_BY = Statement(
    Event.select(Event.id, Event.key)
    .join(ErasedEvent, on=ErasedEvent.event_id == Event.id)
    .where(ErasedEvent.erasure_id == param("erasure_id"), Event.received_at_ms <= param("at_ms"))
)
