"""Sealing the names that a database has in clear: for `premblyd rekey --names`, while no daemon
works. Begin with `seal_names`.

From the first transaction to the last the database says that some names are in clear yet, and no
daemon starts. What is to be done is seen from the rows themselves: so whoever was ended goes on
when run again.

What hooks run once for, and stand in line for, is known by digests of names that anybody could
make. Where the name is known these are made anew, of its pseudonym; else a keyed digest stands in
the place of such a digest, by which it is found still: see `Names.were_clear`.
"""

import functools
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from peewee import fn

from premblyd.engines.engine import Database, Lookup, Statement, Transaction, param, update
from premblyd.engines.portions import by_number, portions
from premblyd.errors import CannotStartError, PremblydError, TryAgainError
from premblyd.hosts import naming
from premblyd.hosts.register import RAISE_FLOOR, may_work
from premblyd.keep import holds
from premblyd.keep.holds import Subject
from premblyd.keep.operators import write_down
from premblyd.keep.rekeying import Found, transact, unopened
from premblyd.model.columns import Column
from premblyd.model.keeptables import Closing, GoneOnce, Hold, Naming, ToErase
from premblyd.model.table import Table
from premblyd.model.tables import Awaited, Delivery, Event, Inquiry, VerificationName
from premblyd.prembly import events
from premblyd.prembly.payload import Outcome, plain_id
from premblyd.queue.oncekeys import once_key
from premblyd.queue.order import order_key
from premblyd.seal import eventkeys
from premblyd.vault import Cipher, DamagedError, Vault
from premblyd.verifications import pseudonyms
from premblyd.verifications.digests import KEYED_DIGITS, Digests, seal_key
from premblyd.verifications.pseudonyms import Pseudonyms

PORTION = 200  # rows that one transaction changes: nobody waits for it
SEALED_REFERENCE, SEALED_USER_REF = Event.sealed_reference.place, Event.sealed_user_ref.place


class WorkingError(TryAgainError):
    """A daemon works on the database, which would store names in clear beneath. Stop it first."""

    def __init__(self, names: Collection[str]) -> None:
        super().__init__(
            f"A daemon works on the database, on {', '.join(sorted(names))}: names are sealed while"
            " none does. Stop it, then again. Nothing was changed."
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class InClear:
    """How names are kept, and how many events have theirs in clear."""

    naming: Naming | None
    events: int

    @property
    def is_over(self) -> bool:
        """Whether all names are sealed."""
        return self.naming in (Naming.SEALED, Naming.CONVERTED)


def in_clear(database: Database) -> InClear:
    """Return what `seal_names` would do."""

    def look(transaction: Transaction) -> InClear:
        return InClear(naming=pseudonyms.naming(transaction), events=transaction.number(_COUNT))

    return database.look(look)


def seal_names(
    database: Database, actor: str, advanced: Callable[[int], None], *, is_alone: bool = False
) -> int:
    """Have pseudonyms stand for all names; return of how many events. `advanced` is told these, as
    they grow. `is_alone`: a lock keeps daemons out. All events must be sealed. Raise WorkingError
    while a daemon works, MoveAtWorkError, PremblydError for an event whose key can't be opened:
    then nothing of it was changed."""
    now_ms = None if is_alone else database.now_ms()
    require_sealing(database.vault)
    if database.look(pseudonyms.naming) is None:
        _require_keys(database)
    begin = functools.partial(_begin, actor=actor, now_ms=database.now_ms())
    naming_ = transact(database, functools.partial(_guarded, begin, now_ms))
    if naming_ is not Naming.CONVERTING:
        return 0
    done = 0
    for work in _works(database):
        portion = functools.partial(_guarded, functools.partial(_sealing, work), now_ms)
        done += transact(database, portion)
        advanced(done)
    transact(database, functools.partial(_guarded, _end, now_ms))
    return done


def require_sealing(vault: Vault | None) -> None:
    """Raise CannotStartError when names are not to be sealed."""
    if vault is None or not vault.seals_names:
        raise CannotStartError(
            "Names are to stay in clear: the configuration does not say `encryption: {identity:"
            " sealed}`, or this user may not read its key. Nothing was changed."
        )


def _require_keys(database: Database) -> None:
    """Raise PremblydError for an event whose key can't be opened. Once some names are sealed,
    nobody could put it right, nor erase it, until all are."""
    for ids in _portions(database, _EVENTS_IN_CLEAR):
        number = database.look(functools.partial(unopened, ids))
        if number is not None:
            raise PremblydError(
                f"The key of event {number} can't be opened, so its names can't be sealed: take"
                " `identity` out of the configuration, put the event right or erase it (`premblyd"
                f" erase --event {number}`), then again. No name was changed."
            )


def _begin(transaction: Transaction, actor: str, now_ms: int) -> Naming | None:
    """Have no daemon start until all is done. Return how names are kept now."""
    found = pseudonyms.naming(transaction)
    if found is None:
        found = Naming.CONVERTING
        naming.put_down(transaction, found)
        transaction.change(RAISE_FLOOR, migration=pseudonyms.FLOOR)
        seal_key(transaction)
        write_down(transaction, actor, "rekey", now_ms, "names")
    return found


def _end(transaction: Transaction) -> None:
    naming.put_down(transaction, Naming.CONVERTED)


def _sealing(work: "Work", transaction: Transaction) -> int:
    return work(transaction, Pseudonyms(Digests.of(transaction)))


def _guarded(
    work: Callable[[Transaction], Found], now_ms: int | None, transaction: Transaction
) -> Found:
    """Do a work while no daemon works. `now_ms` None: a lock keeps them out."""
    working = may_work(transaction, now_ms or 0)
    if working and now_ms is not None:
        raise WorkingError({name for name, _ in working})
    return work(transaction)


Work = Callable[[Transaction, Pseudonyms], int]


def _works(database: Database) -> Iterator[Work]:
    """Yield what each transaction is to do. Names of verifications come behind the events, whose
    keys are made of them."""
    for ids in _portions(database, _EVENTS_IN_CLEAR):
        yield functools.partial(_seal_events, ids)
    for of_table in (*_OF_DIGESTS, *OF_TABLES):
        for ids in _portions(database, of_table.walk):
            yield functools.partial(of_table.convert, ids)


def _portions(database: Database, statement: Statement) -> Iterator[list[int]]:
    for rows in portions(database, statement, PORTION):
        yield [row[0] for row in rows]


class _Named(NamedTuple):
    """An event, as its row has it."""

    id: int
    reference: Any
    user_ref: Any
    outcome: Any
    type: Any


def _seal_events(ids: Sequence[int], transaction: Transaction, names: Pseudonyms) -> int:
    """Seal the names of events, and make anew what their deliveries run once for."""
    try:
        ciphers = eventkeys.ciphers(transaction, ids)
    except DamagedError as error:
        raise PremblydError(f"{error} `premblyd rekey` says of which event. Then again.") from None
    found = [_Named(*row) for row in transaction.look_up(_EVENTS, ids)]
    going = {row[0] for row in transaction.look_up(_GOING, ids)}
    if lacking := [each.id for each in found if each.id not in {*ciphers, *going}]:
        raise PremblydError(
            f"Event {lacking[0]} is not sealed, so its names can't be: `premblyd rekey` seals it,"
            " or says why not. Then again."
        )
    _remake_keys(transaction, found, names)
    for each in found:
        transaction.change(_SEAL, id=each.id, **_sealed(each, ciphers.get(each.id), names))
    return len(found)


def _sealed(event: _Named, cipher: Cipher | None, names: Pseudonyms) -> dict[str, str | None]:
    """`cipher` None: of an event to which an erasure has not come yet that has taken all keys. That
    goes on when it is run again, which it can't be before all is done here."""
    reference, user_ref = _text(event.reference), _text(event.user_ref)
    if cipher is None:
        return {
            "reference": reference and names.named_reference(reference),
            "user_ref": user_ref and names.named_user(user_ref),
            **dict.fromkeys(("sealed_reference", "sealed_user_ref", "reference_key")),
        }
    return {
        "reference": reference and names.reference(reference),
        "user_ref": user_ref and names.user(user_ref),
        "sealed_reference": cipher.seal(SEALED_REFERENCE, reference or None),
        "sealed_user_ref": cipher.seal(SEALED_USER_REF, user_ref or None),
        "reference_key": None,
    }


def _text(value: Any) -> str | None:
    """Return a name as text: somebody may have put anything there by hand."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return None if value is None else str(value)


def _remake_keys(transaction: Transaction, found: Sequence[_Named], names: Pseudonyms) -> None:
    """Make anew what the deliveries of these events run once for, and their lines."""
    events_ = {each.id: each for each in found}
    rows = transaction.look_up(_KEYS, sorted(events_))
    if not rows:
        return
    of_names = _other_names(transaction, found)
    for delivery_id, event_id, once, confirmed, order in rows:
        event = events_[event_id]
        reference = _text(event.reference)
        remade = _once_keys(event, of_names, names) if once or confirmed else {}
        transaction.change(
            _SET_KEYS,
            id=delivery_id,
            once_key=_remade(once, remade, names),
            confirmed_key=_remade(confirmed, remade, names),
            order_key=order_key(names.reference(reference)) if order and reference else order,
        )


def _remade(key: Any, remade: dict[str, str], names: Pseudonyms) -> Any:
    if not isinstance(key, str) or not key or len(key) == KEYED_DIGITS:
        return key
    return remade.get(key) or names.of_earlier_key(key)


def _once_keys(event: _Named, of_names: dict[str, set[str]], names: Pseudonyms) -> dict[str, str]:
    """Return what a delivery of an event may run once for, and what stands in place of each."""
    reference = _text(event.reference)
    if not reference:
        return {}
    types = {event.type if isinstance(event.type, str) else events.UNKNOWN, events.UNKNOWN}
    known = {reference} | of_names.get(plain_id(reference), set())
    return {
        once_key(name, outcome, type_): once_key(names.reference(name), outcome, type_)
        for name in known
        for outcome in Outcome
        for type_ in types
    }


def _other_names(transaction: Transaction, found: Iterable[_Named]) -> dict[str, set[str]]:
    """Return all names of the verifications of these events, by each reference."""
    plain = {plain_id(text) for each in found if (text := _text(each.reference))}
    own: dict[str, str] = dict(transaction.look_up(_VERIFICATIONS, sorted(plain)))
    group = defaultdict[str, set[str]](set)
    for name, verification in transaction.look_up(_NAMES, sorted(set(own.values()))):
        group[verification].add(name)
    return {name: group[verification] for name, verification in own.items()}


class _OfTable:
    """Has pseudonyms stand in the columns of a table of which the events say what they are; and in
    the place of what hooks ran once for, where no event has the name any more, keyed digests."""

    def __init__(self, *columns: Column, where: Any = None) -> None:
        table: type[Table] = columns[0].model
        self._columns = columns
        self.places = frozenset(column.place for column in columns)
        self._rows = Lookup(table.select(table.id, *columns), table.id)
        names = [column.column_name for column in columns]
        self._set = update(table, *names, where=table.id == param("id"))
        # Which have a name in clear is looked at in Python: there may be anything.
        ids = table.select(table.id)
        self.walk = by_number(ids if where is None else ids.where(where), table.id)

    def convert(self, ids: Sequence[int], transaction: Transaction, names: Pseudonyms) -> int:
        for number, *values in transaction.look_up(self._rows, ids):
            found = zip(self._columns, values, strict=True)
            stored = {each.column_name: _stored(each, value, names) for each, value in found}
            if [*stored.values()] != values:
                transaction.change(self._set, id=number, **stored)
        return 0


def _stored(column: Column, value: Any, names: Pseudonyms) -> Any:
    if column.name in ("once_key", "confirmed_key"):
        return _remade(value, {}, names)
    if not (name := _text(value)):
        return name
    return names.named_user(name) if column.name == "user_ref" else names.named_reference(name)


class _OfAwaited(_OfTable):
    """The same, with the plain spelling beside, which a pseudonym has itself."""

    def convert(self, ids: Sequence[int], transaction: Transaction, names: Pseudonyms) -> int:
        transaction.change_each(_FORGET_SPELLING, ids)
        return super().convert(ids, transaction, names)


class _OfHolds(_OfTable):
    """The same, and in the reasons."""

    def convert(self, ids: Sequence[int], transaction: Transaction, names: Pseudonyms) -> int:
        for number, reference, user_ref, reason in transaction.look_up(_REASONS, ids):
            if isinstance(reason, str) and (reference or user_ref):
                subject = Subject(user_ref=_text(user_ref), reference=_text(reference))
                text = holds.nameless(transaction, reason, subject, names)
                transaction.change(_SET_REASON, id=number, reason=text)
        return super().convert(ids, transaction, names)


_HAS_CLEAR = ((Event.reference != "") & Event.sealed_reference.is_null()) | (
    (Event.user_ref != "") & Event.sealed_user_ref.is_null()
)
_GOES = fn.EXISTS(ToErase.select(ToErase.id).where(ToErase.event_id == Event.id))
_COUNT = Statement(Event.select(fn.COUNT(Event.id)).where(_HAS_CLEAR, ~_GOES))
_GOING = Lookup(ToErase.select(ToErase.event_id), ToErase.event_id)
_EVENTS_IN_CLEAR = by_number(Event.select(Event.id).where(_HAS_CLEAR), Event.id)
_EVENTS = Lookup(
    Event.select(Event.id, Event.reference, Event.user_ref, Event.outcome, Event.type).where(
        _HAS_CLEAR
    ),
    Event.id,
)
_SEAL = update(
    Event,
    *("reference", "user_ref", "sealed_reference", "sealed_user_ref", "reference_key"),
    where=Event.id == param("id"),
)
_KEYS = Lookup(
    Delivery.select(
        Delivery.id,
        Delivery.event,
        Delivery.once_key,
        Delivery.confirmed_key,
        Delivery.order_key,
    ).where(
        Delivery.once_key.is_null(False)
        | Delivery.confirmed_key.is_null(False)
        | Delivery.order_key.is_null(False)
    ),
    Delivery.event,
)
_HAS_ID = Delivery.id == param("id")
_SET_KEYS = update(Delivery, "once_key", "confirmed_key", "order_key", where=_HAS_ID)
_IS_NAMELESS = fn.EXISTS(
    Event.select(Event.id).where(Event.id == Delivery.event, Event.reference.is_null())
)
_OF_DIGESTS = (
    _OfTable(
        *(Delivery.once_key, Delivery.confirmed_key),
        where=(Delivery.once_key.is_null(False) | Delivery.confirmed_key.is_null(False))
        & _IS_NAMELESS,
    ),
    _OfTable(GoneOnce.once_key),
)
_VERIFICATIONS = Lookup(
    VerificationName.select(VerificationName.name, VerificationName.verification),
    VerificationName.name,
)
_NAMES = Lookup(_VERIFICATIONS.query.clone(), VerificationName.verification)
_FORGET_SPELLING = Lookup(Awaited.update(reference_key=None), Awaited.id)
_REASONS = Lookup(Hold.select(Hold.id, Hold.reference, Hold.user_ref, Hold.reason), Hold.id)
_SET_REASON = update(Hold, "reason", where=Hold.id == param("id"))
OF_TABLES = (
    _OfAwaited(Awaited.reference),
    _OfTable(Inquiry.reference),
    _OfTable(VerificationName.name, VerificationName.verification),
    _OfHolds(Hold.reference, Hold.user_ref),
    _OfTable(Closing.user_ref),
)
