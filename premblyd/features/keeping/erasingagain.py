"""Erasing again, in a database that was put back, who was erased after it was copied."""

import functools
import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from peewee import fn

from premblyd.features.keeping import erasing, personrows
from premblyd.features.keeping.erased import which_erased
from premblyd.features.keeping.erasurelines import Line, union
from premblyd.features.keeping.personrows import Names
from premblyd.features.keeping.persons import FoundBy
from premblyd.features.keeping.tables import ErasedName, Erasure, ErasureFile, Hold
from premblyd.store.engine import Database, Lookup, Statement, Transaction, param
from premblyd.store.states import RemovedParts
from premblyd.store.tables import Event, VerificationName


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
    new = database.look(functools.partial(unknown, union(lines)))
    erasures = set[int]()
    for _, group in itertools.groupby(new, key=lambda line: (line.at_ms, line.number)):
        for portion in erasing.in_portions(list(group)):
            begin = functools.partial(_begin, portion, now_ms)
            erasures.add(number := database.transact(begin, alone=True))
            while database.transact(functools.partial(erasing.go_on, number), alone=True):
                pass
    database.transact(lambda transaction: transaction.change(_ALL_KNOWN))
    events = sum(line.event_id > 0 for line in new)
    return AppliedAgain(erasures=len(erasures), events=events, names=len(new) - events)


def unknown(lines: Sequence[Line], transaction: Transaction) -> list[Line]:
    """Return the lines of which this database knows nothing: it is a copy from before. An event has
    both the number and the key: numbers come again."""
    whole = set(transaction.look_up(_WHOLE, [line.event_id for line in lines if line.event_id]))
    names = [line.key for line in lines if not line.event_id]
    known = {name for (name,) in transaction.look_up(_KNOWN_NAMES, names)}
    return [
        line
        for line in lines
        if ((line.event_id, line.key) in whole if line.event_id else line.key not in known)
    ]


def _begin(lines: Sequence[Line], now_ms: int, transaction: Transaction) -> int:
    """Do for some lines of an erasure all but to empty their events, which are left to it; return
    its number here."""
    first = lines[0]
    about = {"at_ms": first.at_ms, "found_by": first.found_by, "actor": first.actor}
    number = transaction.number(_KNOWN, **about) or transaction.insert(
        erasing.BEGIN, **about, reason=None, subject=None, events=0, cancelled=0
    )
    event_ids = [line.event_id for line in lines if line.event_id]
    erasing.remember(number or 0, [each.key for each in lines if not each.event_id], transaction)
    erasing.take(number or 0, event_ids, now_ms, transaction)
    rows = personrows.eventless(transaction, _names(first.found_by, event_ids, transaction))
    # It had ended before its person was erased.
    transaction.change_each(_END_HOLDS, rows["hold"], ended_at_ms=now_ms)
    personrows.erase_eventless(transaction, rows)
    return number or 0


def _names(found_by: str, event_ids: Sequence[int], transaction: Transaction) -> Names:
    """Return by which names a person stands in rows about no event: of all that are in such rows,
    and in the person's events, their digests tell which."""
    says = transaction.look_up(_SAYS, event_ids)
    users = {user for user, *_ in says if user and found_by == FoundBy.USER_REF}
    found = {name for _, *names in says for name in names}
    for statement in _EVENTLESS:
        found.update(*transaction.rows(statement))
    erased = frozenset(which_erased(transaction, {name for name in found if name}))
    return Names(frozenset(users), erased, erased)


_WHOLE = Lookup(
    Event.select(Event.id, Event.key).where(
        fn.COALESCE(Event.removed_parts, "") != RemovedParts.ERASED
    ),
    Event.id,
)
_KNOWN_NAMES = Lookup(ErasedName.select(ErasedName.name), ErasedName.name)
_KNOWN = Statement(
    Erasure.select(Erasure.id).where(
        Erasure.at_ms == param("at_ms"),
        Erasure.found_by == param("found_by"),
        Erasure.actor == param("actor"),
    )
)
_SAYS = Lookup(Event.select(Event.user_ref, Event.reference, Event.session_id), Event.id)
_EVENTLESS = (
    Statement(VerificationName.select(VerificationName.name, VerificationName.verification)),
    *personrows.NAMES_OF_NOTHING,
    Statement(Hold.select(Hold.reference)),
)
_END_HOLDS = Lookup(Hold.update(ended_at_ms=param("ended_at_ms")), Hold.id)
_ALL_KNOWN = Statement(ErasureFile.update(unknown=0))
