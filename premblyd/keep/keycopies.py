"""What the copy of events' keys has, and what a copy of the record that has none becomes with it.

The keys are copied as they are, without their data key, in portions: of a million, an erasure has
to write one portion anew, and not all. A portion is known by which events it has keys of (by their
number, and two sums of their ids), and by its last key: a key that went does not come again.
"""

import base64
import hashlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from peewee import fn

from premblyd.engines.engine import Database, Lookup, Statement, Transaction, insert, param, update
from premblyd.engines.portions import by_number, portions
from premblyd.errors import PremblydError
from premblyd.keep import blanking, rekeying, restoring
from premblyd.keep.operators import KEYS
from premblyd.keep.persons import FoundBy
from premblyd.keep.restoring import PORTION, Remembered
from premblyd.model.keeptables import Erasure, EventKey, Lacks
from premblyd.model.tables import Event, OperatorAction
from premblyd.seal import eventkeys
from premblyd.seal.starting import data_keys
from premblyd.vault import WRAPPED_BYTES, DamagedError, LacksKeyError, Vault
from premblyd.verifications.digests import KEY, SET_KEY, opened_key, sealed_key
from premblyd.words import DAMAGED

IN_A_CHUNK = 10_000
LOOKED_INTO = 1000  # of a copy's events, whether their keys open them
BLANK = bytes(WRAPPED_BYTES)  # as withoutkeys.py leaves a key
_UP_TO = "up to erasure "
_REASON = "its key was gone when a copy was put back"


class KeysDoNotFitError(PremblydError):
    """The copy of events' keys is not of this record, or older than its copy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """A portion of the keys: those whose rows have numbers that begin alike."""

    number: int
    count: int
    sum: int  # of their places in it
    squares: int  # the sum of these
    last_id: int
    mark: str  # of the last one


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptKeys:
    """What a copy of events' keys has."""

    secrets: Mapping[str, bytes] = field(repr=False)  # by `event.key`
    remembered: Remembered = field(repr=False)
    newest_event_id: int  # when it was made
    made_at_ms: int


@dataclass(slots=True, kw_only=True)
class PutBack:
    """What a copy of the record has got of its keys."""

    opened: int = 0  # events
    lost: list[str] = field(default_factory=list)  # events, whose key is gone
    erased: int = 0


def chunks(transaction: Transaction) -> list[Chunk]:
    """Return which portions there are, in their order: of a million keys in a tenth of a second, as
    they are counted in an index, each portion by itself."""
    numbers = range(transaction.number(_LAST) // IN_A_CHUNK + 1)
    by = data_keys(transaction)
    found = [_chunk(transaction, number, by) for number in numbers]
    return [each for each in found if each is not None]


def _chunk(transaction: Transaction, number: int, by: Sequence[str]) -> Chunk | None:
    bounds = {"first": number * IN_A_CHUNK, "behind": (number + 1) * IN_A_CHUNK}
    last = transaction.row(_LAST_OF, **bounds)
    if last is None:
        return None
    counted = [transaction.row(_COUNT_OF, data_key=each, **bounds) or (0, 0, 0) for each in by]
    count, total, squares = (sum(map(int, column)) for column in zip(*counted, strict=True))
    return Chunk(
        number=number,
        count=count,
        sum=total,
        squares=squares,
        last_id=last[0],
        mark=hashlib.sha256(bytes(last[1])).hexdigest()[:16],
    )


def secrets(transaction: Transaction, number: int) -> dict[str, str]:
    """Return the keys of a portion, as base64. Raise LacksKeyError when the data key of one is not
    here. What can't be opened by its data key nobody can ever open."""
    vault = transaction.vault
    first, behind = number * IN_A_CHUNK, (number + 1) * IN_A_CHUNK
    found = {}
    for key, data_key, wrapped in transaction.rows(_OF_CHUNK, first=first, behind=behind):
        if vault is None:
            raise LacksKeyError(str(data_key))
        try:
            found[str(key)] = base64.b64encode(vault.secret(key, data_key, wrapped)).decode()
        except DamagedError:
            continue
    return found


def newest_event_id(transaction: Transaction) -> int:
    """Return the number of the newest event; 0: there is none."""
    return transaction.number(_NEWEST)


def newest_erasure_id(transaction: Transaction) -> int:
    """Return the number of the newest erasure; 0: there is none."""
    return transaction.number(_NEWEST_ERASURE)


def up_to(erasure_id: int) -> str:
    """Return what is put on record of a keys' copy that has nothing of who was erased so far."""
    return f"{_UP_TO}{erasure_id}"


def is_due(transaction: Transaction) -> bool:
    """Return whether somebody was erased since the keys' copy was made last."""
    newest = newest_erasure_id(transaction)
    if not newest:
        return False
    row = transaction.row(_NEWEST_COPY)
    known = str(row[0] or "").removeprefix(_UP_TO) if row else ""
    return newest > (int(known) if known.isdecimal() else 0)


def put_back(copy: Database, kept: KeptKeys, *, rows_are_there: bool) -> PutBack:
    """Give a copy, on which nobody works, the keys of its events, wrapped by the data key that
    seals here. Who has none there is to be erased by `erase_lost`. `rows_are_there`: of what was
    sealed there is a row without a key. Raise KeysDoNotFitError before anything is changed."""
    vault = copy.vault
    if vault is None or vault.seals_with is None:
        raise PremblydError(
            "What is sealed in the copy gets its keys back by a data key: name one, old or new"
            " (`premblyd keygen`), as `encryption: {key: …}`. Nothing was changed."
        )
    copy.look(partial(_require_fits, kept=kept))
    # By a run that was killed.
    given = 0 if rows_are_there else copy.look(lambda transaction: transaction.number(_COUNT))
    if not given:
        _require_any(copy, kept, rows_are_there=rows_are_there)
    copy.transact(partial(_set_digest_key, key=kept.remembered.key))
    done = PutBack(opened=given)
    for portion in _sealed(copy, rows_are_there=rows_are_there):
        copy.transact(partial(_give, keys=portion, kept=kept, vault=vault))
        done.lost += [key for key in portion if key not in kept.secrets]
        done.opened += sum(key in kept.secrets for key in portion)
    copy.look(_require_opens)
    return done


def erase_lost(copy: Database, done: PutBack, actor: str) -> None:
    """Erase the events whose key is gone, save those that are erased already: nobody can open what
    was sealed in them, and an erasure, or a period, is why."""
    ids = [
        event_id
        for start in range(0, len(done.lost), PORTION)
        for (event_id,) in copy.look(partial(_whole, keys=done.lost[start : start + PORTION]))
    ]
    if not ids:
        return
    now_ms = copy.now_ms()
    number = copy.transact(partial(_begin, event_ids=ids, actor=actor, now_ms=now_ms))
    for start in range(0, len(ids), PORTION):
        copy.transact(partial(restoring.erase_events, number, ids[start : start + PORTION]))
    done.erased = len(ids)


def _require_fits(transaction: Transaction, kept: KeptKeys) -> None:
    row = transaction.row(KEY)
    try:
        own = opened_key(bytes(row[0]), transaction.vault) if row else None
    except LacksKeyError:  # it was sealed by a data key that nobody has any more
        own = None
    if own is not None and own != kept.remembered.key:
        raise KeysDoNotFitError("The keys' copy is of another record. Nothing was changed.")
    if newest_event_id(transaction) > kept.newest_event_id:
        raise KeysDoNotFitError(
            "The keys' copy is older than the copy of the record, so events would be lost: bring"
            " the newest, or name an older copy by --copy. Nothing was changed."
        )


def _require_opens(transaction: Transaction) -> None:
    """Raise KeysDoNotFitError when the keys are not those by which the copy was sealed: who can
    write to their folder can make files for the recipients too."""
    found = [headers for _, headers in transaction.rows(_HEADERS, limit=LOOKED_INTO)]
    if sum(each is DAMAGED for each in found) * 2 > len(found):
        raise KeysDoNotFitError(
            "The keys' copy has other keys than those by which the copy was sealed: somebody has"
            " changed it."
        )


def _require_any(copy: Database, kept: KeptKeys, *, rows_are_there: bool) -> None:
    """Raise KeysDoNotFitError when not one key fits: all of the copy would be erased."""
    is_any = False
    for portion in _sealed(copy, rows_are_there=rows_are_there):
        if any(key in kept.secrets for key in portion):
            return
        is_any = is_any or bool(portion)
    if is_any:
        raise KeysDoNotFitError(
            "The keys' copy has the key of no event of the copy: it is of another record, or all"
            " that was sealed was erased. Nothing was changed."
        )


def _sealed(copy: Database, *, rows_are_there: bool) -> Iterator[list[str]]:
    """Yield the keys of the events that were sealed when the copy was made, in portions."""
    if not rows_are_there:
        yield from rekeying.sealed_without_key(copy)
        return
    for rows in portions(copy, _ROWS, PORTION):
        yield [str(key) for _, key, wrapped in rows if bytes(wrapped) == BLANK]


def _give(transaction: Transaction, keys: Sequence[str], kept: KeptKeys, vault: Vault) -> None:
    ids: dict[str, int] = dict(transaction.look_up(_IDS, sorted(keys)))
    lost = sorted(number for key, number in ids.items() if key not in kept.secrets)
    transaction.change_each(_DELETE, lost)
    wrapped = {ids[key]: vault.wrap(key, kept.secrets[key]) for key in ids if key in kept.secrets}
    new = {
        number: each
        for number, each in wrapped.items()
        if not transaction.change(_GIVE, id=number, data_key=each.data_key, wrapped=each.wrapped)
    }
    eventkeys.add(transaction, new)


def _set_digest_key(transaction: Transaction, key: bytes) -> None:
    transaction.change(SET_KEY, key=sealed_key(key, transaction.vault))


def _whole(transaction: Transaction, keys: Collection[str]) -> list[Any]:
    return transaction.look_up(_WHOLE, sorted(keys))


def _begin(transaction: Transaction, event_ids: Sequence[int], actor: str, now_ms: int) -> int:
    number = transaction.insert(
        _ADD_ERASURE,
        at_ms=now_ms,
        actor=actor,
        reason=_REASON,
        found_by=FoundBy.EVENT,
        events=len(event_ids),
        cancelled=len(blanking.waiting(transaction, event_ids)),
    )
    return number or 0


_IS_IN_IT = (EventKey.id >= param("first")) & (EventKey.id < param("behind"))
_COUNT = Statement(EventKey.select(fn.COUNT(EventKey.id)))
_LAST = Statement(EventKey.select(fn.MAX(EventKey.id)))
_LAST_OF = Statement(
    EventKey.select(EventKey.id, EventKey.wrapped)
    .where(_IS_IN_IT)
    .order_by(EventKey.id.desc())
    .limit(1)
)
_PLACE = EventKey.id - param("first")
_COUNT_OF = Statement(
    EventKey.select(
        fn.COUNT(EventKey.id),
        fn.COALESCE(fn.SUM(_PLACE), 0),
        fn.COALESCE(fn.SUM(_PLACE * _PLACE), 0),
    ).where(EventKey.data_key == param("data_key"), _IS_IN_IT)
)
_OF_CHUNK = Statement(
    EventKey.select(Event.key, EventKey.data_key, EventKey.wrapped)
    .join_from(EventKey, Event, on=Event.id == EventKey.id)
    .where(_IS_IN_IT)
    .order_by(EventKey.id)
)
_NEWEST = Statement(Event.select(fn.MAX(Event.id)))
_NEWEST_ERASURE = Statement(Erasure.select(fn.MAX(Erasure.id)))
_NEWEST_COPY = Statement(
    OperatorAction.select(OperatorAction.note)
    .where(OperatorAction.action == KEYS)
    .order_by(OperatorAction.id.desc())
    .limit(1)
)
_ROWS = by_number(
    EventKey.select(EventKey.id, Event.key, EventKey.wrapped).join_from(
        EventKey, Event, on=Event.id == EventKey.id
    ),
    EventKey.id,
)
_GIVE = update(EventKey, "data_key", "wrapped", where=EventKey.id == param("id"))
_IDS = Lookup(Event.select(Event.key, Event.id), Event.key)
_HEADERS = Statement(
    Event.select(Event.id, Event.headers)
    .join(EventKey, on=EventKey.id == Event.id)
    .order_by(Event.id.desc())
    .limit(param("limit"))
)
_DELETE = Lookup(EventKey.delete(), EventKey.id)
_WHOLE = Lookup(
    Event.select(Event.id).where(
        Event.lacks.is_null() | Event.lacks.not_in((Lacks.IDENTITY, Lacks.ERASED))
    ),
    Event.key,
)
_ADD_ERASURE = insert(Erasure, "at_ms", "actor", "reason", "found_by", "events", "cancelled")
