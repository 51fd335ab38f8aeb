"""The keys of `once`: they identify what a hook succeeds once for, under each name of a
verification, even after the record was deleted. once.py decides whose turn it is."""

from collections.abc import Collection, Sequence
from typing import NamedTuple

from peewee import JOIN, fn

from premblyd.features.turns.tables import OnceRun
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
    be read. Of an erased one there is the key."""
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
    found = transaction.look_up(_RUNS, event_ids)
    transaction.change_each(_FORGET, [delivery_id for delivery_id, *_ in found])
    once = {
        (action, key)
        for _, state, action, *keys in found
        for key in keys
        if state == State.SUCCEEDED and isinstance(key, str) and key
    }
    once -= {*transaction.look_up(_HELD, sorted({key for _, key in once}))}
    transaction.write_many(_KEEP, sorted(once))


def forget_confirmed(transaction: Transaction, delivery_ids: Sequence[int]) -> None:
    """Forget what Prembly confirmed: whoever has a hook run anew has it asked anew."""
    transaction.change_each(_UNCONFIRM, delivery_ids)


_HAS_ID = Delivery.id == param("id")
_VERDICT = Statement(
    Delivery.select(
        Event.reference,
        Event.outcome,
        Event.type,
        OnceRun.confirmed_key,
        VerificationName.verification,
        Event.removed_parts,
        OnceRun.once_key,
    )
    .join(Event)
    .join(
        VerificationName,
        JOIN.LEFT_OUTER,
        on=VerificationName.name == fn.COALESCE(Event.reference_key, Event.reference),
    )
    .join_from(Delivery, OnceRun, JOIN.LEFT_OUTER, on=OnceRun.delivery == Delivery.id)
    .where(_HAS_ID)
)
_RUNS = Lookup(
    OnceRun.select(
        *(Delivery.id, Delivery.state, OnceRun.action),
        *(OnceRun.once_key, OnceRun.confirmed_key),
    ).join(Delivery),
    Delivery.event,
)
_FORGET = Lookup(OnceRun.delete(), OnceRun.delivery)
_HELD = Lookup(OnceRun.select(OnceRun.action, OnceRun.once_key), OnceRun.once_key)
_KEEP = BulkInsert(OnceRun, "action", "once_key")
_UNCONFIRM = Lookup(OnceRun.update(confirmed_key=None), OnceRun.delivery)
