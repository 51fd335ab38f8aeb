"""The keys of `once`: they identify what a hook succeeds once for, under each name of a
verification, even after the record was deleted. once.py decides whose turn it is."""

from collections.abc import Collection, Sequence
from functools import cached_property
from typing import NamedTuple

from peewee import JOIN, fn

from premblyd.features.turns.tables import GoneOnce
from premblyd.prembly import events
from premblyd.prembly.payload import Verdict, same_id
from premblyd.queue.digests import Digests
from premblyd.queue.names import names_of
from premblyd.store.engine import BulkInsert, Lookup, Statement, Transaction, param
from premblyd.store.states import RemovedParts, State
from premblyd.store.tables import Delivery, Event, VerificationName


class Subject(NamedTuple):
    """What the hook of a delivery runs once for. `names`: of its verification, beginning with the
    event's reference; `keys`: under which any of them may have run, the one that counts first."""

    names: tuple[str, ...]
    outcome: str
    type: str
    keys: tuple[str, ...]

    @property
    def key(self) -> str:
        return self.keys[0]


def once_key(digests: Digests, reference: str, outcome: str, type_: str = events.UNKNOWN) -> str:
    """Return what is the same for all events of one reference and outcome: in whichever spelling of
    a UUID, since Prembly confirms each.

    Events that are about no verification have no outcome. What happened to their subject is in
    their type, so that counts for them: a transaction is processed, and later escalated.
    """
    types = () if events.is_about_verification(type_) else (type_,)
    return digests.key(b"once", same_id(reference), str(outcome), *types)


def subject_of(transaction: Transaction, delivery_id: int) -> Subject | None:
    """Return what the hook of a delivery runs once for; None: its event has no reference, or can't
    be read. Of an erased one the delivery has the key."""
    row = transaction.row(_VERDICT, id=delivery_id)
    if row is None:
        return None
    reference, outcome, type_, confirmed_key, verification, removed_parts, once_key_ = row
    if removed_parts == RemovedParts.ERASED:
        own = [key for key in (confirmed_key, once_key_) if isinstance(key, str) and key]
        return Subject((), outcome, type_, tuple(dict.fromkeys(own))) if own else None
    if not isinstance(reference, str) or not reference:
        return None
    known = names_of(transaction, verification)
    keys = _keys(Digests.of(transaction), known or [reference], outcome, type_)
    if isinstance(confirmed_key, str) and confirmed_key:
        keys = tuple(dict.fromkeys([confirmed_key, *keys]))
    return Subject(tuple(dict.fromkeys([reference, *known])), outcome, type_, keys)


def keys_of(digests: Digests, verdict: Verdict, known: Collection[str]) -> tuple[str, ...]:
    """Return under which keys the hook of an action may have run for an event, the same for all of
    its verification, which is `known` under several names; none: the event has no
    reference."""
    if not verdict.reference:
        return ()
    return keys_by_names(digests, sorted(known) or [verdict.reference], verdict)


def keys_by_names(digests: Digests, names: Sequence[str], verdict: Verdict) -> tuple[str, ...]:
    """Return the keys of what a verdict says, by names of its verification."""
    return _keys(digests, names, verdict.outcome, verdict.type)


def _keys(digests: Digests, names: Sequence[str], outcome: str, type_: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(once_key(digests, name, outcome, type_) for name in names))


def keep_keys(transaction: Transaction, event_ids: Sequence[int]) -> None:
    """Keep what hooks have succeeded for of events whose record goes: it must not run again."""
    once: dict[tuple[str, str], int] = {}
    for delivery_id, action, *keys in transaction.look_up(_SUCCEEDED, event_ids):
        for key in keys:
            if isinstance(key, str) and key:
                once.setdefault((action, key), delivery_id)
    for action, key in transaction.look_up(_KNOWN, sorted({key for _, key in once})):
        once.pop((action, key), None)
    rows = [(action, key, delivery_id) for (action, key), delivery_id in once.items()]
    transaction.insert_many(_KEEP, rows)


class RemovedKeys:
    """The keys of deleted deliveries that succeeded, for the time of one claim."""

    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction

    @cached_property
    def _any(self) -> bool:
        return self._transaction.number(_NEWEST_REMOVED) > 0

    def find(self, action: str, keys: Sequence[str]) -> int | None:
        """Return the number of the deleted delivery that succeeded for one of these keys; None:
        there was none."""
        for key in keys if self._any else ():
            row = self._transaction.row(_REMOVED, action=action, once_key=key)
            if row is not None:
                return int(row[0])
        return None


_HAS_ID = Delivery.id == param("id")
_VERDICT = Statement(
    Delivery.select(
        Event.reference,
        Event.outcome,
        Event.type,
        Delivery.confirmed_key,
        VerificationName.verification,
        Event.removed_parts,
        Delivery.once_key,
    )
    .join(Event)
    .join(
        VerificationName,
        JOIN.LEFT_OUTER,
        on=VerificationName.name == fn.COALESCE(Event.reference_key, Event.reference),
    )
    .where(_HAS_ID)
)
_SUCCEEDED = Lookup(
    Delivery.select(Delivery.id, Delivery.action, Delivery.once_key, Delivery.confirmed_key).where(
        fn.COALESCE(Delivery.state, "") == State.SUCCEEDED
    ),
    Delivery.event,
)
_KNOWN = Lookup(GoneOnce.select(GoneOnce.action, GoneOnce.once_key), GoneOnce.once_key)
_KEEP = BulkInsert(GoneOnce, "action", "once_key", "delivery_id")
_NEWEST_REMOVED = Statement(GoneOnce.select(fn.MAX(GoneOnce.id)))
_REMOVED = Statement(
    GoneOnce.select(GoneOnce.delivery_id).where(
        GoneOnce.action == param("action"), GoneOnce.once_key == param("once_key")
    )
)
