"""`once: reference`: an action's hook succeeds once for each reference and outcome. For events that
are not about a verification, once for each type too.

All of this is decided in the transaction of a claim. Of an action's deliveries with the same key
one at a time runs, and has the key in its row of `once_run`, where it is unique: so
has the one that succeeded. One that did not succeed loses the key to the next that is claimed.
Whoever decides about a key has its lock, so that no two hosts do at the same time. Many keys share
a lock: so a claim has few, whatever waits.
"""

import hashlib
from collections.abc import Callable, Collection, Sequence
from typing import Any, NamedTuple

from peewee import JOIN, Case, fn

from premblyd.features.names.names import names_of
from premblyd.features.names.tables import VerificationName
from premblyd.features.turns.order import keeps_open
from premblyd.features.turns.tables import OnceRun
from premblyd.prembly import events
from premblyd.prembly.payload import Verdict, plain_id, same_id
from premblyd.queue.digests import Digests
from premblyd.queue.end import close_open_attempt, release
from premblyd.queue.hooks import Turn
from premblyd.queue.jobs import Due, Job
from premblyd.store.engine import (
    BulkInsert,
    Lookup,
    Statement,
    Transaction,
    param,
    params,
    update,
)
from premblyd.store.states import RemovedParts, State
from premblyd.store.tables import IS_LAST_ATTEMPT, Attempt, Delivery, Event

MIN_HOLD_MS = 500
MAX_HOLD_MS = 60_000
LOCK_COUNT = 64  # of all keys: PostgreSQL has room for some 6,000, for everybody


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
    return _keys(digests, sorted(known) or [verdict.reference], verdict.outcome, verdict.type)


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


class _Holder(NamedTuple):
    """The delivery that runs for a key, or has succeeded."""

    id: int | None  # None: its record was removed
    state: str
    started_at_ms: int | None = None  # of its last attempt


def lock_name(action: str, key: str) -> str:
    """Return the name of the lock that whoever decides about an action's key has."""
    digest = hashlib.sha256(f"{action} {key}".encode("utf-8", "replace")).digest()
    return f"once {digest[0] % LOCK_COUNT}"


class Turns:
    """Whose turn it is, for the time of one claim."""

    def __init__(self, transaction: Transaction, now_ms: int) -> None:
        self._transaction = transaction
        self._now_ms = now_ms
        self._holders: dict[tuple[str, str], _Holder] = {}
        self._locks: dict[str, bool] = {}  # by their names, and whether this claim has got them
        self._others: dict[int, bool] = {}  # deliveries, and whether this claim has locked them

    def of(self, delivery: Due) -> Turn:
        """Return whether it is the turn of `delivery`; if not, get it out of the way."""
        subject = subject_of(self._transaction, delivery.id)
        if subject is None:
            return Turn.NOW  # no reference: it runs as without `once`, or its end tells what is odd
        place = (delivery.action, subject.key)
        holder = self._holders.get(place)
        if holder is None:
            if not self._is_locked(lock_name(*place)):
                return Turn.UNKNOWN
            holder = self._find(delivery, subject)
        if holder is None or holder.id == delivery.id:
            self._holders[place] = _Holder(delivery.id, State.RUNNING, self._now_ms)
            return Turn.NOW
        self._holders[place] = holder
        if delivery.state == State.RUNNING:
            if not delivery.attempts_left:
                return Turn.NOW  # it has no attempt left, and ends dead
            close_open_attempt(self._transaction, delivery.id, self._now_ms)
        if holder.state != State.SUCCEEDED:
            self._hold(delivery, holder)
        elif not keeps_open(self._transaction, delivery) and (
            holder.id is None or self._is_noted(delivery.id, holder.id)
        ):
            release(self._transaction, delivery.id, State.SKIPPED, self._now_ms, None, delivery)
        else:
            return Turn.UNKNOWN
        return Turn.PASSED

    def _is_locked(self, name: str) -> bool:
        """Return whether this claim has a lock, for which it asks once."""
        if name not in self._locks:
            self._locks[name] = self._transaction.try_lock(name)
        return self._locks[name]

    def _is_noted(self, delivery_id: int, other_id: int) -> bool:
        """Put down, as `note_other` does, which other delivery has succeeded."""
        if self._has(other_id):
            self._transaction.write(_NOTE_OTHER, id=delivery_id, ran_instead_id=other_id)
        return self._has(other_id)

    def _has(self, other_id: int) -> bool:
        """Return whether this claim has locked another delivery, which it tries once: it may be
        that of a thousand."""
        if other_id not in self._others:
            self._others[other_id] = _is_locked(self._transaction, other_id)
        return self._others[other_id]

    def _find(self, delivery: Due, subject: Subject) -> _Holder | None:
        """Return who has succeeded or runs, but for `delivery` itself. Those from a time when the
        action had no `once` have no key yet: they are found by their events, and get it. So is one
        that has the key of what Prembly confirmed, which may be another: it keeps that."""
        for holder in _holders_of(self._transaction, delivery.action, subject.keys):
            if holder.id != delivery.id and holder.state in _IN_THE_WAY:
                return holder
        for about in _abouts(subject, delivery.action):
            row = self._transaction.row(_EARLIER, **about, id=delivery.id)
            if row is not None:
                *found, its_key = row
                if its_key is None and self._has(row[0]):
                    give_key(self._transaction, delivery.action, row[0], subject.key)
                return _Holder(*found)
        return None

    def _hold(self, delivery: Due, holder: _Holder) -> None:
        """Make `delivery` due again after a while."""
        due_at_ms = self._now_ms + _hold_ms(self._now_ms, holder.started_at_ms)
        self._transaction.write(_HOLD, id=delivery.id, state=State.PENDING, due_at_ms=due_at_ms)


def _holders_of(transaction: Transaction, action: str, keys: Sequence[str]) -> list[_Holder]:
    """Return who has these keys, behind them those whose record was removed."""
    asked = [transaction.ask(_HOLDER, action=action, once_key=key) for key in keys]
    found = [_Holder(*row) for rows in asked for row in rows()]
    return sorted(found, key=lambda holder: holder.id is None)


def _abouts(subject: Subject, action: str) -> list[dict[str, Any]]:
    """Return the values of `_EARLIER` for each name of a subject."""
    is_about = events.is_about_verification(subject.type)
    type_ = None if is_about else subject.type
    told = {"action": action, "outcome": subject.outcome, "type": type_}
    return [{**told, "reference": name, "plain": plain_id(name)} for name in subject.names]


class Ruling(NamedTuple):
    """What is decided about a delivery that Prembly confirms. `key`: what its hook runs once for;
    None: its action has no `once`. Not `runs`: another runs in its place, or has; then it is to
    wait for `wait_ms`, or None: it is not to run at all. `other_id`: the other; None: its record
    was removed."""

    key: str | None = None
    runs: bool = True
    other_id: int | None = None
    wait_ms: int | None = None


def rule(
    transaction: Transaction,
    job: Job,
    names: Sequence[str],
    verdict: Verdict,
    now_ms: int,
    is_confirmed: Callable[[int], bool],
) -> Ruling:
    """Decide again whose turn it is, now that Prembly has told by which names it knows the
    verification and what came of it: another name's hook may have succeeded, or run. Of those that
    are asked about at the same time, the first that is confirmed runs."""
    keys = _keys(Digests.of(transaction), names, verdict.outcome, verdict.type)
    transaction.lock({lock_name(job.action, key) for key in keys})
    for other_id, state, started_at_ms in _holders_of(transaction, job.action, keys):
        if other_id == job.delivery_id:
            continue
        if state == State.SUCCEEDED:
            return Ruling(keys[0], runs=False, other_id=other_id)
        if state == State.RUNNING and other_id is not None and is_confirmed(other_id):
            return Ruling(keys[0], False, other_id, _hold_ms(now_ms, started_at_ms))
    give_key(transaction, job.action, job.delivery_id, keys[0])
    transaction.write(_CONFIRM_KEY, id=job.delivery_id)
    return Ruling(key=keys[0])


def note_other(transaction: Transaction, delivery_id: int, other_id: int) -> bool:
    """Put down which delivery has succeeded in the place of one that is about to be skipped. False:
    another host has that at this moment, and may be removing it."""
    if not _is_locked(transaction, other_id):
        return False
    transaction.write(_NOTE_OTHER, id=delivery_id, ran_instead_id=other_id)
    return True


def _is_locked(transaction: Transaction, delivery_id: int) -> bool:
    return transaction.row(_LOCK_OTHER, id=delivery_id) is not None


def _hold_ms(now_ms: int, started_at_ms: int | None) -> int:
    """Return for how long to wait for another that runs: as long as that runs already. So it waits
    at most twice as long as it must, and looks only a few times however long that is."""
    return min(max(now_ms - (started_at_ms or now_ms), MIN_HOLD_MS), MAX_HOLD_MS)


def begin(transaction: Transaction, delivery: Due) -> str | None:
    """Give a delivery that begins what it runs once for, and return it; None: nothing."""
    subject = subject_of(transaction, delivery.id)
    if subject is None:
        return None
    give_key(transaction, delivery.action, delivery.id, subject.key)
    transaction.write(_RUNS_ITSELF, id=delivery.id)
    return subject.key


def give_key(transaction: Transaction, action: str, delivery_id: int, key: str) -> None:
    """Give the key to a delivery that starts or has succeeded, and take it from the one that had
    it."""
    transaction.write(_TAKE_KEY, action=action, once_key=key, id=delivery_id)
    transaction.write(_GIVE_KEY, action=action, once_key=key, id=delivery_id)


_IN_THE_WAY = (State.SUCCEEDED, State.RUNNING)
_HAS_ID = Delivery.id == param("id")
_HAS_KEY = (OnceRun.action == param("action")) & (OnceRun.once_key == param("once_key"))
_IS_GONE = OnceRun.delivery.is_null()
_LAST_ATTEMPT = (Attempt, JOIN.LEFT_OUTER, IS_LAST_ATTEMPT)
_LOCK_OTHER = Statement(Delivery.select(Delivery.id).where(_HAS_ID), locks=True)
_NOTE_OTHER = update(Delivery, "ran_instead_id", where=_HAS_ID)
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
_HOLDER = Statement(
    OnceRun.select(
        OnceRun.delivery,
        Case(None, [(_IS_GONE, State.SUCCEEDED)], Delivery.state),
        Attempt.started_at_ms,
    )
    .join(Delivery, JOIN.LEFT_OUTER)
    .join(*_LAST_ATTEMPT)
    .where(_HAS_KEY)
)
_EARLIER = Statement(
    Delivery.select(Delivery.id, Delivery.state, Attempt.started_at_ms, OnceRun.once_key)
    .join(*_LAST_ATTEMPT)
    .join_from(Delivery, OnceRun, JOIN.LEFT_OUTER, on=OnceRun.delivery == Delivery.id)
    .join_from(Delivery, Event)
    .where(
        Event.reference.in_([param("reference"), param("plain")])
        | (Event.reference_key == param("plain")),
        # COALESCE keeps SQLite from reading all events of an outcome, or all that ever succeeded,
        # by the indexes of these columns.
        fn.COALESCE(Event.outcome, "") == param("outcome"),
        param("type").cast("TEXT").is_null() | (Event.type == param("type")),
        Delivery.action == param("action"),
        fn.COALESCE(Delivery.state, "").in_(_IN_THE_WAY),
        Delivery.id != param("id"),
    )
    .order_by(Delivery.state.desc(), Delivery.id)  # succeeded ones before running ones
    .limit(1)
)
_HOLD = update(Delivery, "state", "due_at_ms", where=_HAS_ID)
_OF_DELIVERY = OnceRun.delivery == param("id")
_TAKE_KEY = Statement(OnceRun.update(once_key=None).where(_HAS_KEY, ~_OF_DELIVERY))
_GIVE_KEY = Statement(
    OnceRun.insert(delivery=param("id"), **params("action", "once_key")).on_conflict(
        conflict_target=[OnceRun.delivery], update=params("once_key")
    )
)
_CONFIRM_KEY = Statement(OnceRun.update(confirmed_key=OnceRun.once_key).where(_OF_DELIVERY))
_RUNS_ITSELF = Statement(
    Delivery.update(ran_instead=None).where(_HAS_ID, Delivery.ran_instead.is_null(False))
)
