"""Erasing again, in a database that was put back, who was erased after it was copied."""

import functools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from peewee import Field, Query, fn

from premblyd.engines.engine import Database, Lookup, Row, Statement, Transaction, param
from premblyd.keep import erasing, personrows
from premblyd.keep.erasing import in_portions
from premblyd.keep.erasurelines import Line, union
from premblyd.keep.personrows import Names
from premblyd.keep.persons import FoundBy
from premblyd.model.keeptables import ErasedName, Erasure, ErasureFile, Hold, RemovedParts
from premblyd.model.table import Table
from premblyd.model.tables import Event, Inquiry, VerificationName
from premblyd.prembly.payload import session_reference
from premblyd.verifications.digests import Digests

ROWS = 5000  # that are read at once


@dataclass(frozen=True, slots=True, kw_only=True)
class AppliedAgain:
    """What was erased again: of how many erasures, how many events, and names under which nothing
    is stored any more. All are 0 where the database had it all."""

    erasures: int = 0
    events: int = 0
    names: int = 0


def erase_again(database: Database, lines: Iterable[Line], now_ms: int) -> AppliedAgain:
    """Erase what these lines of its own record say, beside no daemon. No hold forbids it. Run again
    where it was interrupted. Raise TryAgainError while the database is moved."""
    merged = union(lines)
    names = _names(database, merged)  # before the events lose them
    opened: list[int] = []
    events = new_names = 0
    for line in merged:
        whole = [
            event_id
            for portion in in_portions(line.events)
            for event_id in database.look(functools.partial(_find_whole, portion))
        ]
        new = database.look(functools.partial(_find_new, line.names))
        number = database.look(functools.partial(_known, line))
        if number is not None and not whole and not new:
            continue
        number = number or database.transact(functools.partial(_begin, line), alone=True)
        for names_part in in_portions(new):
            work = functools.partial(erasing.remember, number, names_part)
            new_names += database.transact(work, alone=True)
        for events_part in in_portions(whole):
            take = functools.partial(erasing.take, number, events_part, now_ms)
            database.transact(take, alone=True)
        opened.append(number)
        events += len(whole)
    database.transact(functools.partial(_erase_eventless, names, now_ms), alone=True)
    for number in opened:
        while database.transact(functools.partial(erasing.go_on, number), alone=True):
            pass
    return AppliedAgain(erasures=len(opened), events=events, names=new_names)


def count_unknown(database: Database, lines: Sequence[Line]) -> int:
    """Return how many erasures of these lines are not in the database: somebody put in a copy, and
    who was erased since is in it."""
    events = sorted({event for line in lines for event in line.events})
    names = sorted({name for line in lines for name in line.names})
    whole, new = set[int](), set[str]()
    for some_events in in_portions(events):
        whole.update(database.look(functools.partial(_find_whole, some_events)))
    for some_names in in_portions(names):
        new.update(database.look(functools.partial(_find_new, some_names)))
    unknown = {
        line.erasure
        for line in lines
        if not new.isdisjoint(line.names) or not whole.isdisjoint(dict(line.events))
    }
    return len(unknown)


def _find_whole(events: Sequence[tuple[int, str]], transaction: Transaction) -> list[int]:
    """Return which of these events are there and not erased. Both must be the same: numbers come
    again."""
    found = transaction.look_up(_WHOLE, [number for number, _ in events])
    return sorted(dict(set(found) & set(events)))


def _find_new(names: Sequence[str], transaction: Transaction) -> list[str]:
    known = {name for (name,) in transaction.look_up(_REMEMBERED, names)}
    return [name for name in names if name not in known]


def _known(line: Line, transaction: Transaction) -> int | None:
    """Return the number that an erasure has here."""
    at_ms, found_by, actor = line.erasure
    return transaction.number(_KNOWN, at_ms=at_ms, found_by=found_by, actor=actor) or None


def _begin(line: Line, transaction: Transaction) -> int:
    erasing.require_no_move(transaction)
    number = transaction.insert(
        erasing.BEGIN,
        at_ms=line.at_ms,
        actor=line.actor,
        reason=None,
        found_by=line.found_by,
        subject=None,
        events=0,
        cancelled=0,
    )
    return number or 0


def _names(database: Database, lines: Sequence[Line]) -> Names:
    """Return by which names these people stand in rows about no event: of all that are in such rows
    and in the events, digests tell which."""
    digests = Digests(database.digest_key)
    erased = {name for line in lines for name in line.names}
    user_refs: set[str] = set()
    found: set[str] = set()
    for line in lines:
        for portion in in_portions(line.events):
            for user_ref, *names in database.look(functools.partial(_says, portion)):
                if user_ref and line.found_by == FoundBy.USER_REF:
                    user_refs.add(user_ref)
                found.update(name for name in names if name)
    for statement in _EVENTLESS if erased else ():
        for _, *names in _paged(database, statement):
            found.update(name for name in names if name)
    sessions = {each for each in found if digests.of_session(each) in erased}
    found |= set(map(session_reference, sessions))
    references = {each for each in found if digests.of_reference(each) in erased}
    return Names(frozenset(user_refs), frozenset(references), frozenset(sessions))


def _says(events: Sequence[tuple[int, str]], transaction: Transaction) -> list[Row]:
    return transaction.look_up(_SAYS, _find_whole(events, transaction))


def _paged(database: Database, statement: Statement) -> Iterator[Row]:
    after_id = 0
    while rows := database.look(functools.partial(_page, statement, after_id)):
        yield from rows
        after_id = rows[-1][0]


def _page(statement: Statement, after_id: int, transaction: Transaction) -> list[Row]:
    return transaction.rows(statement, after_id=after_id)


def _erase_eventless(names: Names, now_ms: int, transaction: Transaction) -> None:
    """Empty the rows about no event. A hold was ended before its person was erased."""
    rows = personrows.eventless(transaction, names)
    transaction.change_each(_END_HOLDS, rows["hold"], ended_at_ms=now_ms)
    personrows.erase_eventless(transaction, rows)
    transaction.change(_ALL_KNOWN)


def _rows(table: type[Table], *columns: Field) -> Statement:
    query: Query = table.select(table.id, *columns).where(table.id > param("after_id"))
    return Statement(query.order_by(table.id).limit(ROWS))


_WHOLE = Lookup(
    Event.select(Event.id, Event.key).where(
        fn.COALESCE(Event.removed_parts, "") != RemovedParts.ERASED
    ),
    Event.id,
)
_SAYS = Lookup(Event.select(Event.user_ref, Event.reference, Event.session_id), Event.id)
_EVENTLESS = (
    _rows(VerificationName, VerificationName.name, VerificationName.verification),
    _rows(Inquiry, Inquiry.reference),
    _rows(Hold, Hold.reference),
)
_REMEMBERED = Lookup(ErasedName.select(ErasedName.name), ErasedName.name)
_KNOWN = Statement(
    Erasure.select(Erasure.id).where(
        Erasure.at_ms == param("at_ms"),
        Erasure.found_by == param("found_by"),
        Erasure.actor == param("actor"),
    )
)
_END_HOLDS = Lookup(Hold.update(ended_at_ms=param("ended_at_ms")), Hold.id)
_ALL_KNOWN = Statement(ErasureFile.update(unknown=0))
