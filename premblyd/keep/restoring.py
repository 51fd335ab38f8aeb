"""A copy that is put back brings back who was erased since it was made. The database that it
replaces knows who that was: so they are erased from the copy again, before anybody works on it, and
holds and closings that came since are taken over."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from premblyd.engines.engine import (
    BulkInsert,
    Database,
    Lookup,
    Row,
    Statement,
    Transaction,
    param,
    update,
)
from premblyd.engines.portions import by_number, portions
from premblyd.errors import PremblydError
from premblyd.hosts.register import RAISE_FLOOR
from premblyd.keep import blanking, retention
from premblyd.keep.blanking import Names
from premblyd.keep.erasing import FLOOR
from premblyd.keep.holds import Subject, as_stored, nameless
from premblyd.model.columns import Kept, columns, emptied
from premblyd.model.keeptables import (
    Closing,
    ErasedName,
    Erasure,
    GoneEvent,
    Hold,
    Lacks,
    ToErase,
)
from premblyd.model.table import Table
from premblyd.model.tables import Event
from premblyd.verifications import erased, pseudonyms
from premblyd.verifications.digests import KEY, SET_KEY, Digests, opened_key, sealed_key
from premblyd.verifications.pseudonyms import Pseudonyms

PORTION = 500  # events that are erased in a transaction
LOOKED_AT = 5000  # whose names are looked up at once
_Values = dict[str, Any]  # of a row, by its columns


class OtherRecordError(PremblydError):
    """The copy is of another record than the one that it replaces."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Remembered:
    """What a database knows of who was erased, and of whom nothing may be."""

    key: bytes = field(repr=False)  # of its digests
    rows: dict[str, list[Row]] = field(repr=False)  # by table
    events: dict[str, int] = field(repr=False)  # by their keys: the erasures

    @property
    def is_worth_it(self) -> bool:
        """Whether there is anything to take over."""
        return any(self.rows.values())


@dataclass(slots=True, kw_only=True)
class TakenOver:
    """What a copy has got of that."""

    events: int = 0  # erased again
    erasures: int = 0  # that the copy did not know
    holds: int = 0
    closings: int = 0


def remember(transaction: Transaction) -> Remembered:
    """Return what is known of who was erased, and of holds and closings."""
    rows = {name: transaction.rows(statement) for name, statement in _ALL.items()}
    events = [*transaction.rows(_ERASED_EVENTS), *transaction.rows(_EVENTS_TO_ERASE)]
    return Remembered(key=_digest_key(transaction), rows=rows, events=dict(events))


def take_over(copy: Database, remembered: Remembered) -> TakenOver:
    """Erase from a copy, on which nobody works, whom another database remembers as erased, and
    give it the holds and closings of that. Raise OtherRecordError when the copy has digests by
    another key."""
    taken, erasures = copy.transact(lambda transaction: _take_rows(transaction, remembered))
    by_erasure: dict[int, set[int]] = defaultdict(set)
    keys = sorted(remembered.events)
    for number, key in copy.look(lambda transaction: transaction.look_up(_BY_KEY, keys)):
        by_erasure[erasures[remembered.events[key]]].add(number)
    if remembered.rows[ErasedName._meta.table_name]:
        for erasure_id, number in _named(copy):
            by_erasure[erasure_id].add(number)
    for erasure_id, numbers in sorted(by_erasure.items()):
        ids = sorted(numbers)
        for start in range(0, len(ids), PORTION):
            portion = ids[start : start + PORTION]
            copy.transact(partial(erase_events, erasure_id, portion))
        taken.events += len(ids)
    return taken


def _digest_key(transaction: Transaction) -> bytes:
    row = transaction.row(KEY)
    return opened_key(bytes(row[0]), transaction.vault) if row else b""


def _take_rows(
    transaction: Transaction, remembered: Remembered
) -> tuple[TakenOver, dict[int, int]]:
    """Return also which erasure of the copy is which of the database's."""
    if _digest_key(transaction) != remembered.key:
        made = any(transaction.row(statement) for statement in _MADE_BY_KEY)
        if made or pseudonyms.naming(transaction) is not None:
            raise OtherRecordError("The copy is of another record.")
        key = sealed_key(remembered.key, transaction.vault)
        transaction.change(SET_KEY, key=key)
    known = {each: _by_name(each, remembered.rows[each._meta.table_name]) for each in _KNOWN_BY}
    erasures = _take(transaction, Erasure, known[Erasure])
    names = [each | {"erasure_id": erasures.ids[each["erasure_id"]]} for each in known[ErasedName]]
    _take(transaction, ErasedName, names)
    own_holds, own_closings = _as_named_here(transaction, known[Hold], known[Closing])
    holds = _take(transaction, Hold, own_holds)
    closings = _take(transaction, Closing, own_closings)
    for hold in own_holds:
        if hold["ended_at_ms"] is not None:
            transaction.change(_END_HOLD, **hold | {"id": holds.ids[hold["id"]]})
    for closing in own_closings:  # noted again since, another time counts
        transaction.change(_CLOSE_AGAIN, **closing | {"id": closings.ids[closing["id"]]})
    if remembered.rows["erasure"]:
        transaction.change(RAISE_FLOOR, migration=FLOOR)
    taken = TakenOver(erasures=erasures.count, holds=holds.count, closings=closings.count)
    return taken, erasures.ids


def _by_name(table: type[Table], rows: Iterable[Row]) -> list[_Values]:
    return [dict(zip(_NAMES_OF_COLUMNS[table], row, strict=True)) for row in rows]


def _as_named_here(
    transaction: Transaction, held: list[_Values], closed: list[_Values]
) -> tuple[list[_Values], list[_Values]]:
    """Return holds and closings as they name people in a copy: by pseudonyms where names are sealed
    there, and they were not in the database. The other way round, what the copy does not know stays
    a pseudonym: `rekey --names` gives all others theirs before any daemon starts."""
    names = Pseudonyms(Digests.of(transaction))
    if pseudonyms.naming(transaction) is None:
        rows = _by_name(Closing, transaction.rows(_ALL["closing"]))
        own = (each["user_ref"] for each in rows)
        clear = {names.user(each): each for each in own if isinstance(each, str)}
        return held, [
            each | {"user_ref": clear.get(each["user_ref"], each["user_ref"])} for each in closed
        ]
    return [_sealed_hold(transaction, each, names) for each in held], [
        each | {"user_ref": names.named_user(each["user_ref"])} for each in closed
    ]


def _sealed_hold(transaction: Transaction, hold: _Values, names: Pseudonyms) -> _Values:
    subject = Subject(user_ref=hold["user_ref"], reference=hold["reference"])
    if not (subject.user_ref or subject.reference):  # it has ended
        return hold
    stored = as_stored(subject, names)
    reason = nameless(transaction, hold["reason"], subject, names)
    return hold | {"user_ref": stored.user_ref, "reference": stored.reference, "reason": reason}


@dataclass(frozen=True, slots=True)
class _Taken:
    count: int  # that the copy did not have
    ids: dict[int, int]  # those of the database, and which they are in the copy


def _take(transaction: Transaction, table: type[Table], rows: Sequence[_Values]) -> _Taken:
    """Give a copy the rows that it has not. Those of one id may be two things, where copy and
    database went different ways since an earlier restore."""
    name = table._meta.table_name
    there = _by_name(table, transaction.rows(_ALL[name]))
    own = {content: row["id"] for content, row in _contents(table, there)}
    wanted = list(_contents(table, rows))
    new = {content: row for content, row in wanted if content not in own}
    # Under numbers that the engine gives: a server would give those of others again.
    numbers = transaction.insert_many(_INSERT[name], [(*row.values(),)[1:] for row in new.values()])
    own |= zip(new, numbers, strict=True)
    ids = {row["id"]: own[content] for content, row in wanted}
    return _Taken(len(new), ids)


def _contents(table: type[Table], rows: Sequence[_Values]) -> Iterator[tuple[Row, _Values]]:
    """Yield rows, each behind that by which it is known in any database: it never changes. Of those
    that are alike (a script may place two holds at once), it has also which of them it is."""
    seen: Counter[Row] = Counter()
    for row in rows:
        content = tuple(row[column] for column in _KNOWN_BY[table])
        yield (*content, seen[content]), row
        seen[content] += 1


def _named(copy: Database) -> Iterator[tuple[int, int]]:
    """Yield the events under a name that was erased, each behind its erasure."""
    digests = copy.look(Digests.of)
    for rows in portions(copy, _NAMES, LOOKED_AT):
        names = [erased.Names(_text(reference), _text(session)) for _, reference, session in rows]
        found = copy.look(partial(erased.find_erased, names=names, digests=digests))
        for (number, *_), its_erasure in zip(rows, found, strict=True):
            if its_erasure is not None:
                yield its_erasure.erasure_id, number


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def erase_events(erasure_id: int, event_ids: Sequence[int], transaction: Transaction) -> None:
    """Erase these events of a copy, as this erasure would have done it."""
    digests = Digests.of(transaction)
    row = transaction.row(_ERASURE, id=erasure_id)
    at_ms, subject = row or (0, None)
    rows = transaction.look_up(_NAMES_OF, event_ids)
    users, references, sessions = (
        frozenset(filter(None, map(_text, column))) for column in zip(*rows, strict=True)
    )
    own = frozenset(user for user in users if digests.of_user(user) == subject)
    named = blanking.with_originals(transaction, Names(own, references, sessions))
    about = blanking.unbound(transaction, named)
    ends = retention.ends_of_persons(transaction, event_ids, at_ms)
    blanking.stop(transaction, event_ids, at_ms)
    blanking.blank_unbound(transaction, about, digests)
    blanking.blank(transaction, event_ids, erasure_id, digests)
    retention.note_ends(transaction, ends)
    transaction.change(_NOT_GONE, id=erasure_id)  # until a daemon finds it gone from this file too


_KNOWN_BY: dict[type[Table], tuple[str, ...]] = {
    Erasure: ("at_ms", "actor", "found_by", "subject"),
    ErasedName: ("name",),
    Hold: ("at_ms", "actor"),  # whom it is about goes when it ends
    Closing: ("user_ref",),
}
_NAMES_OF_COLUMNS = {table: [each.column_name for each in columns(table)] for table in _KNOWN_BY}
_ALL = {table._meta.table_name: Statement(table.select().order_by(table.id)) for table in _KNOWN_BY}
_INSERT = {  # without their numbers
    table._meta.table_name: BulkInsert(table, *names[1:])
    for table, names in _NAMES_OF_COLUMNS.items()
}
_MADE_BY_KEY = [
    Statement(table.select(table.id).limit(1)) for table in (Erasure, ErasedName, GoneEvent)
]
_END_HOLD = Statement(
    Hold.update(
        ended_at_ms=param("ended_at_ms"), ended_by=param("ended_by"), **emptied(Hold, Kept.IN_FORCE)
    ).where(Hold.id == param("id"), Hold.ended_at_ms.is_null())
)
_CLOSE_AGAIN = update(
    Closing,
    *("at_ms", "noted_at_ms", "actor"),
    where=(Closing.id == param("id")) & (Closing.noted_at_ms < param("noted_at_ms")),
)
_ERASED_EVENTS = Statement(
    Event.select(Event.key, Event.erasure_id).where(
        Event.lacks == Lacks.ERASED, Event.erasure_id.is_null(False)
    )
)
_EVENTS_TO_ERASE = Statement(
    Event.select(Event.key, ToErase.erasure_id).join(ToErase, on=ToErase.event_id == Event.id)
)
_IS_WHOLE = Event.lacks.is_null() | (Event.lacks != Lacks.ERASED)
_BY_KEY = Lookup(Event.select(Event.id, Event.key).where(_IS_WHOLE), Event.key)
_NAMES = by_number(
    Event.select(Event.id, Event.reference, Event.session_id).where(_IS_WHOLE), Event.id
)
_NAMES_OF = Lookup(Event.select(Event.user_ref, Event.reference, Event.session_id), Event.id)
_IS_ERASURE = Erasure.id == param("id")
_ERASURE = Statement(Erasure.select(Erasure.at_ms, Erasure.subject).where(_IS_ERASURE))
_NOT_GONE = Statement(Erasure.update(gone_at_ms=None).where(_IS_ERASURE))
