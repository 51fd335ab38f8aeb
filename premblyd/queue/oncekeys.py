"""What a hook with `once` runs once for, and its keys: by which the same is known again, under each
name of a verification, and when the event's person is erased or its record removed. once.py decides
by them whose turn it is.
"""

from collections.abc import Collection, Sequence
from functools import cached_property
from typing import NamedTuple

from peewee import JOIN, fn

from premblyd.engines.engine import Statement, Transaction, param
from premblyd.model.keeptables import GoneOnce, RemovedParts
from premblyd.model.tables import Delivery, Event, VerificationName
from premblyd.prembly import events
from premblyd.prembly.payload import Verdict, same_id
from premblyd.queue.keys import digest
from premblyd.verifications import erased
from premblyd.verifications.digests import KEYED_DIGITS, Digests
from premblyd.verifications.names import names_of


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


def once_key(reference: str, outcome: str, type_: str = events.UNKNOWN) -> str:
    """Return what is the same for all events of one reference and outcome: in whichever spelling of
    a UUID, since Prembly confirms each.

    Events that are about no verification have no outcome. What happened to their subject is in
    their type, so that counts for them: a transaction is processed, and later escalated.
    """
    types = () if events.is_about_verification(type_) else (type_,)
    return digest(same_id(reference), str(outcome), *types)


def key_of(verdict: Verdict) -> str | None:
    """Return the key under which the hook of an action with `once` runs for an event; None for an
    event without a reference, for which it runs as without `once`."""
    if not verdict.reference:
        return None
    return once_key(verdict.reference, verdict.outcome, verdict.type)


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
    keys = _keys(known, outcome, type_) if known else (once_key(reference, outcome, type_),)
    if isinstance(confirmed_key, str) and confirmed_key:
        keys = tuple(dict.fromkeys([confirmed_key, *keys]))
    return Subject(tuple(dict.fromkeys([reference, *known])), outcome, type_, keys)


def keys_of(verdict: Verdict, known: Collection[str]) -> tuple[str, ...]:
    """Return under which keys the hook of an action may have run for an event, the same for all of
    its verification, which is `known` under several names; none: the event has no
    reference."""
    if not verdict.reference:
        return ()
    return keys_by_names(sorted(known) or [verdict.reference], verdict)


def keys_by_names(names: Sequence[str], verdict: Verdict) -> tuple[str, ...]:
    """Return the keys of what a verdict says, by names of its verification."""
    return _keys(names, verdict.outcome, verdict.type)


def _keys(names: Sequence[str], outcome: str, type_: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(once_key(name, outcome, type_) for name in names))


class KeptKeys:
    """The keys of what is gone, for the time of one claim: of who was erased a keyed digest is
    kept, and of records that were removed the keys for which a hook has succeeded."""

    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction

    @cached_property
    def _gone(self) -> erased.Gone:
        return erased.gone(self._transaction)

    @cached_property
    def _digests(self) -> Digests | None:
        return self._gone.digests if self._gone.any_names else None

    def of(self, key: str) -> str:
        """Return what stands for a key whether or not its person is erased; a keyed digest stands
        for itself."""
        is_keyed = len(key) == KEYED_DIGITS
        return key if is_keyed or self._digests is None else self._digests.of_key(key)

    def all_of(self, keys: Sequence[str]) -> Sequence[str]:
        """Return these keys, and as which they are kept of who was erased."""
        return tuple(dict.fromkeys([*keys, *map(self.of, keys)]))

    def removed(self, action: str, keys: Sequence[str]) -> int | None:
        """Return the number that a delivery had which succeeded for one of these keys, and whose
        record was removed; None: there was none."""
        if self._gone.any_events:
            for key in self.all_of(keys):
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
_REMOVED = Statement(
    GoneOnce.select(GoneOnce.delivery_id).where(
        GoneOnce.action == param("action"), GoneOnce.once_key == param("once_key")
    )
)
