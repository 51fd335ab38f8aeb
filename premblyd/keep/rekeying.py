"""Sealing what was stored in clear, and giving events' keys to another data key: for `premblyd
rekey`, in small transactions beside daemons. Begin with `rekey`.

What is to be done is seen from the rows themselves: an event without a key, a key of another data
key. So whoever was ended goes on when run again, and what is done is left alone. Each transaction
is alone: what a hook prints at that moment is stored before it, in clear, and sealed by it; or
after it, and then by the event's key.
"""

import contextlib
import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from peewee import JOIN, fn

from premblyd.engines.engine import (
    Database,
    Lookup,
    Row,
    Statement,
    Transaction,
    param,
    params,
    update,
)
from premblyd.engines.opened import AsStored
from premblyd.engines.portions import by_number, portions
from premblyd.errors import CannotStartError, StoreUnavailableError
from premblyd.hosts.register import RAISE_FLOOR, may_work
from premblyd.keep.operators import write_down
from premblyd.keep.searching import of_size
from premblyd.model.columns import Column
from premblyd.model.keeptables import EventKey, Lacks, ToErase
from premblyd.model.table import Table
from premblyd.model.tables import Attempt, Delivery, Event
from premblyd.seal import eventkeys
from premblyd.seal.starting import FLOOR, HostKeys, HostsLackKeyError, data_keys
from premblyd.vault import MARK, TEXT_MARK, Cipher, DamagedError, LacksKeyError, Vault, Wrapped
from premblyd.verifications.digests import Digests, seal_key

LOOKED_AT = 1000  # events, whether they have a key
MOST_SEALED = 50  # events in a transaction, as nobody else writes meanwhile
MOST_BYTES = 4 << 20  # of their bodies, unless one alone has more
MOST_WRAPPED = 500
GAP_S = 0.02
TRIES = 5
AGAIN_S = 0.5
GAP_RATIO = 4  # of a gap to the transaction before it
SAFE = (Lacks.IDENTITY, Lacks.ERASED)  # what lacks this has nothing to be sealed


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What is sealed, and by which data keys."""

    in_clear: int  # events that are not sealed
    by_data_key: dict[str, int]  # events' keys
    seals_with: str
    lacking: tuple[str, ...]  # data keys of these that are not here
    idle: tuple[str, ...]  # data keys that are here, by which nothing is sealed

    @property
    def to_wrap(self) -> int:
        """How many events' keys another data key has that is here."""
        left = {self.seals_with, *self.lacking}
        return sum(count for each, count in self.by_data_key.items() if each not in left)


@dataclass(slots=True)
class Done:
    """What was done."""

    sealed: int = 0  # events
    wrapped: int = 0  # events' keys
    damaged: list[str] = field(default_factory=list)  # events whose key can't be opened, or is gone

    def add(self, other: "Done") -> None:
        self.sealed += other.sealed
        self.wrapped += other.wrapped
        self.damaged += other.damaged


def standing(database: Database) -> Standing:
    """Return what `rekey` would do. Raise CannotStartError when nothing seals here."""
    vault = _sealing(database.vault)

    def look(transaction: Transaction) -> Standing:
        found = data_keys(transaction)
        return Standing(
            in_clear=transaction.number(_COUNT_CLEAR),
            by_data_key={each: transaction.number(_COUNT_OF, data_key=each) for each in found},
            seals_with=vault.seals_with or "",
            lacking=tuple(each for each in found if each not in vault.opens),
            idle=tuple(each for each in vault.opens if each not in {*found, vault.seals_with}),
        )

    return database.look(look)


def has_clear(database: Database) -> bool:
    """Return whether any event is stored in clear that could be sealed."""
    return database.look(lambda transaction: transaction.row(_ANY_CLEAR)) is not None


def rekey(database: Database, actor: str, advanced: Callable[[Done], None]) -> Done:
    """Seal every event that is not sealed, and give all events' keys to the data key that seals.
    `advanced` is called after each transaction. Raise CannotStartError when nothing seals here,
    HostsLackKeyError when a daemon could not open it, MoveAtWorkError."""
    _sealing(database.vault)
    now_ms = database.now_ms()
    database.transact(partial(_begin, actor=actor, now_ms=now_ms), alone=True)
    done = Done()
    for work in _works(database):
        began = time.monotonic()
        done.add(transact(database, partial(_guarded, work, now_ms)))
        advanced(done)
        time.sleep(max(GAP_S, GAP_RATIO * (time.monotonic() - began)))
    return done


Work = Callable[[Transaction], Done]
Found = TypeVar("Found")


def transact(database: Database, work: Callable[[Transaction], Found]) -> Found:
    """Run `work` in a transaction, alone. Under load others may have the lock for long."""
    for _ in range(TRIES):
        with contextlib.suppress(StoreUnavailableError):
            return database.transact(work, alone=True)
        time.sleep(AGAIN_S)
    return database.transact(work, alone=True)


def _sealing(vault: Vault | None) -> Vault:
    if vault is None or vault.seals_with is None:
        raise CannotStartError(
            "Nothing was sealed: the configuration has no `encryption: {key: …}`, or that key is"
            " not there, or this user may not read it. Root may; `premblyd check` says more."
        )
    return vault


def _begin(transaction: Transaction, actor: str, now_ms: int) -> None:
    _require_hosts(transaction, now_ms)
    transaction.change(RAISE_FLOOR, migration=FLOOR)
    seal_key(transaction)
    vault = _sealing(transaction.vault)
    write_down(transaction, actor, "rekey", now_ms, f"by data key {vault.seals_with}")


def _guarded(work: Work, now_ms: int, transaction: Transaction) -> Done:
    """A daemon may have started since that could not open what is sealed now."""
    _require_hosts(transaction, now_ms)
    return work(transaction)


def _require_hosts(transaction: Transaction, now_ms: int) -> None:
    working = may_work(transaction, now_ms)
    key = _sealing(transaction.vault).seals_with
    if lacking := {name for name, keys in working if key not in HostKeys.read(keys).opens}:
        raise HostsLackKeyError(lacking)


def sealed_without_key(database: Database) -> Iterator[list[str]]:
    """Yield the events that are sealed and have no key, as in a dump that leaves these out, in
    portions."""
    for rows in portions(database, _LOOK, MOST_SEALED):
        ids = [row[0] for row in rows]
        yield [
            str(key)
            for _, key, sha256, *values in database.look(partial(_in_clear, ids))
            if _has_lost_key(dict(zip(_NAMES[Event], values, strict=True)), sha256)
        ]


def _in_clear(ids: Sequence[int], transaction: Transaction) -> list[Row]:
    return transaction.look_up(_EVENTS, ids)


def unopened(event_ids: Sequence[int], transaction: Transaction) -> int | None:
    """Return which of these events, the first of them, has a key that can't be opened here."""
    with contextlib.suppress(DamagedError, LacksKeyError):
        eventkeys.ciphers(transaction, event_ids)
        return None
    for number in event_ids:
        try:
            eventkeys.ciphers(transaction, [number])
        except (DamagedError, LacksKeyError):
            return number
    return None


def _works(database: Database) -> Iterator[Work]:
    """Yield what each transaction is to do. What came or went since that was found is looked at
    again there."""
    vault = _sealing(database.vault)
    for old in [each for each in vault.opens if each != vault.seals_with]:
        for rows in portions(database, _KEYS_OF, MOST_WRAPPED, data_key=old):
            yield partial(_wrap, [row[0] for row in rows])
    for rows in portions(database, _LOOK, LOOKED_AT):
        sizes = [(number, size) for number, size, in_clear in rows if in_clear]
        for ids in of_size(sizes, MOST_BYTES):
            for start in range(0, len(ids), MOST_SEALED):
                yield partial(_seal, ids[start : start + MOST_SEALED])


def _wrap(ids: Sequence[int], transaction: Transaction) -> Done:
    """Give these events' keys to the data key that seals."""
    vault, done = _sealing(transaction.vault), Done()
    for number, key, data_key, wrapped in transaction.look_up(_KEYS, ids):
        if data_key == vault.seals_with:
            continue
        try:
            anew = vault.rewrap(key, data_key, wrapped)
        except (DamagedError, LacksKeyError):
            done.damaged.append(str(number if key is None else key))
            continue
        done.wrapped += transaction.change(
            _WRAP, id=number, data_key=anew.data_key, wrapped=anew.wrapped
        )
    return done


def _seal(ids: Sequence[int], transaction: Transaction) -> Done:
    """Seal these events, each by a new key, with all that became of them: those that have none."""
    vault, done = _sealing(transaction.vault), Done()
    digests = Digests.of(transaction)
    ciphers: dict[int, Cipher] = {}
    lost: dict[int, str] = {}
    keys: dict[int, Wrapped] = {}
    for number, key, sha256, *values in transaction.look_up(_EVENTS, ids):
        found = dict(zip(_NAMES[Event], values, strict=True))
        if _has_lost_key(found, sha256):
            lost[number] = str(key)
            continue
        cipher, keys[number] = vault.new_cipher(key)
        ciphers[number] = cipher
        session_id = found["session_id"]
        digest = digests.of_session(session_id) if session_id else None
        sealed = _sealed(Event, cipher, values)
        transaction.change(_SEAL_EVENT, id=number, session_digest=digest, **sealed)
    eventkeys.add(transaction, keys)
    cipher_of: dict[int, Cipher] = {}
    for number, event_id, *values in transaction.look_up(_DELIVERIES, sorted(ciphers)):
        cipher_of[number] = ciphers[event_id]
        _change(transaction, _SEAL_DELIVERY, Delivery, number, cipher_of[number], values)
    for number, delivery_id, *values in transaction.look_up(_ATTEMPTS, sorted(cipher_of)):
        _change(transaction, _SEAL_ATTEMPT, Attempt, number, cipher_of[delivery_id], values)
    done.sealed = len(ciphers)
    going = {row[0] for row in transaction.look_up(_GOING, sorted(lost))}  # `erase` took their keys
    done.damaged = [key for number, key in lost.items() if number not in going]
    return done


def _has_lost_key(found: dict[str, Any], sha256: str) -> bool:
    """Return whether an event without a key is sealed nevertheless: somebody has deleted that.
    Sealed anew, nothing would show it any more, and a hook would get what is sealed."""
    body = found["body"]
    if body:
        is_marked = isinstance(body, bytes) and body.startswith(MARK)
        return is_marked and hashlib.sha256(body).hexdigest() != sha256
    return any(isinstance(each, str) and each.startswith(TEXT_MARK) for each in found.values())


def _change(
    transaction: Transaction,
    statement: Statement,
    table: type[Table],
    number: int,
    cipher: Cipher,
    values: Sequence[Any],
) -> None:
    if any(value is not None for value in values):
        transaction.change(statement, id=number, **_sealed(table, cipher, values))


def _sealed(table: type[Table], cipher: Cipher, values: Sequence[Any]) -> dict[str, Any]:
    """Return the values of the sealed columns of a row, sealed: save those that are emptied."""
    return {
        column.column_name: value
        if value in ("", b"", column.emptied)
        else cipher.seal(column.place, value)
        for column, value in zip(_COLUMNS[table], values, strict=True)
    }


_COLUMNS: dict[type[Table], tuple[Column, ...]] = {
    table: eventkeys.sealed_columns(table) for table in (Event, Delivery, Attempt)
}
_NAMES = {table: tuple(column.column_name for column in found) for table, found in _COLUMNS.items()}
_STORED = {table: tuple(map(AsStored, found)) for table, found in _COLUMNS.items()}
IS_CLEAR = (Event.lacks.is_null() | Event.lacks.not_in(SAFE)) & ~fn.EXISTS(
    EventKey.select(EventKey.id).where(EventKey.id == Event.id)
)
_COUNT_CLEAR = Statement(Event.select(fn.COUNT(Event.id)).where(IS_CLEAR))
_ANY_CLEAR = Statement(Event.select(Event.id).where(IS_CLEAR).limit(1))
_COUNT_OF = Statement(
    EventKey.select(fn.COUNT(EventKey.id)).where(EventKey.data_key == param("data_key"))
)
_KEYS_OF = by_number(
    EventKey.select(EventKey.id).where(EventKey.data_key == param("data_key")), EventKey.id
)
_KEYS = Lookup(
    EventKey.select(EventKey.id, Event.key, EventKey.data_key, EventKey.wrapped).join_from(
        EventKey, Event, JOIN.LEFT_OUTER, on=Event.id == EventKey.id
    ),
    EventKey.id,
)
_GOING = Lookup(ToErase.select(ToErase.event_id), ToErase.event_id)
_WRAP = update(EventKey, "data_key", "wrapped", where=EventKey.id == param("id"))
_LOOK = by_number(Event.select(Event.id, Event.body_bytes, IS_CLEAR), Event.id)
_EVENTS = Lookup(
    Event.select(Event.id, Event.key, Event.body_sha256, *_STORED[Event]).where(IS_CLEAR),
    Event.id,
)
_DELIVERIES = Lookup(
    Delivery.select(Delivery.id, Delivery.event, *_STORED[Delivery]), Delivery.event
)
_ATTEMPTS = Lookup(
    Attempt.select(Attempt.id, Attempt.delivery, *_STORED[Attempt]), Attempt.delivery
)
_SEAL_EVENT = Statement(
    Event.update(params("session_digest", *_NAMES[Event])).where(Event.id == param("id"))
)
_SEAL_DELIVERY = Statement(
    Delivery.update(params(*_NAMES[Delivery])).where(Delivery.id == param("id"))
)
_SEAL_ATTEMPT = Statement(Attempt.update(params(*_NAMES[Attempt])).where(Attempt.id == param("id")))
