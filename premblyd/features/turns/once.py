"""`once: reference`: an action's hook succeeds once for each reference and outcome. For events that
are not about a verification, once for each type too.

All of this is decided in the transaction of a claim. Of an action's deliveries with the same key
(oncekeys.py) one at a time runs, and has the key in its row, where it is unique: so has the
one that succeeded. One that did not succeed loses the key to the next that is claimed. Whoever
decides about a key has its lock, so that no two hosts do at the same time. Many keys share a lock:
so a claim has few, whatever waits.
"""

import hashlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from peewee import JOIN, fn

from premblyd.features.turns.oncekeys import RemovedKeys, Subject, keys_by_names, subject_of
from premblyd.features.turns.order import keeps_open
from premblyd.prembly import events
from premblyd.prembly.payload import Verdict, plain_id
from premblyd.queue import recovery
from premblyd.queue.digests import Digests
from premblyd.queue.hooks import Turn
from premblyd.queue.jobs import Due, Job
from premblyd.store.engine import Statement, Transaction, param, update
from premblyd.store.states import State
from premblyd.store.tables import IS_LAST_ATTEMPT, Attempt, Delivery, Event

MIN_HOLD_MS = 500
MAX_HOLD_MS = 60_000
LOCK_COUNT = 64  # of all keys: PostgreSQL has room for some 6,000, for everybody


class _Holder(NamedTuple):
    """The delivery that runs for a key, or has succeeded. `is_gone`: its record was removed."""

    id: int
    state: str
    started_at_ms: int | None = None  # of its last attempt
    is_gone: bool = False


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
        self._removed = RemovedKeys(transaction)

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
        if holder is None or (holder.id == delivery.id and not holder.is_gone):
            self._holders[place] = _Holder(delivery.id, State.RUNNING, self._now_ms)
            return Turn.NOW
        self._holders[place] = holder
        if delivery.state == State.RUNNING:
            if not delivery.attempts_left:
                return Turn.NOW  # it has no attempt left, and ends dead
            recovery.close_open_attempt(self._transaction, delivery.id, self._now_ms)
        if holder.state != State.SUCCEEDED:
            self._hold(delivery, holder)
        elif not keeps_open(self._transaction, delivery) and (
            holder.is_gone or self._is_noted(delivery.id, holder.id)
        ):
            recovery.release(
                self._transaction, delivery.id, State.SKIPPED, self._now_ms, None, delivery
            )
        else:
            return Turn.UNKNOWN
        return Turn.PASSED

    def _is_locked(self, name: str) -> bool:
        """Return whether this claim has a lock, for which it asks once."""
        if name not in self._locks:
            self._locks[name] = self._transaction.try_lock(name)
        return self._locks[name]

    def _is_noted(self, delivery_id: int, other_id: int) -> bool:
        """Put down, as `note_other` does, which other delivery has succeeded. One is locked once:
        it may be that of a thousand."""
        if other_id not in self._others:
            self._others[other_id] = _is_locked(self._transaction, other_id)
        if self._others[other_id]:
            self._transaction.write(_NOTE_OTHER, id=delivery_id, ran_instead_id=other_id)
        return self._others[other_id]

    def _find(self, delivery: Due, subject: Subject) -> _Holder | None:
        """Return who has succeeded or runs, but for `delivery` itself. Those from a time when the
        action had no `once` have no key yet: they are found by their events, and get it. So is one
        that has the key of what Prembly confirmed, which may be another: it keeps that."""
        for key in subject.keys:
            row = self._transaction.row(_HOLDER, action=delivery.action, once_key=key)
            if row is not None and row[0] != delivery.id and row[1] in _IN_THE_WAY:
                return _Holder(*row)
        gone_id = self._removed.find(delivery.action, subject.keys)
        if gone_id is not None:
            return _Holder(gone_id, State.SUCCEEDED, is_gone=True)
        for about in _abouts(subject, delivery.action):
            row = self._transaction.row(_EARLIER, **about, id=delivery.id)
            if row is not None:
                *holder, its_key = row
                if its_key is None:
                    give_key(self._transaction, delivery.action, row[0], subject.key)
                return _Holder(*holder)
        return None

    def _hold(self, delivery: Due, holder: _Holder) -> None:
        """Make `delivery` due again after a while."""
        due_at_ms = self._now_ms + _hold_ms(self._now_ms, holder.started_at_ms)
        self._transaction.write(_HOLD, id=delivery.id, state=State.PENDING, due_at_ms=due_at_ms)


def asking_success(
    transaction: Transaction, removed: RemovedKeys, subject: Subject, action: str, before_id: int
) -> Callable[[], int | None]:
    """Ask for the delivery of an action that has succeeded for a subject, of an event before the
    one with this number, as a claim looks for it; return what reads its number."""
    gone_id = removed.find(action, subject.keys)
    if gone_id is not None:
        return lambda: gone_id
    asked = [
        transaction.ask(_HOLDER_BEFORE, action=action, once_key=key, before_id=before_id)
        for key in subject.keys
    ]
    asked += [
        transaction.ask(_EARLIER_BEFORE, **about, id=0, before_id=before_id)
        for about in _abouts(subject, action)
    ]
    return lambda: next(iter([row[0] for rows in asked for row in rows()]), None)


def _abouts(subject: Subject, action: str) -> list[dict[str, Any]]:
    """Return the values of `_EARLIER` for each name of a subject."""
    is_about = events.is_about_verification(subject.type)
    type_ = None if is_about else subject.type
    told = {"action": action, "outcome": subject.outcome, "type": type_}
    return [{**told, "reference": name, "plain": plain_id(name)} for name in subject.names]


class Ruling(NamedTuple):
    """What is decided about a delivery that Prembly confirms. `key`: what its hook runs once for;
    None: its action has no `once`. `other_id`: the delivery that runs in its place, or has; then it
    is to wait for `wait_ms`, or None: it is not to run at all. `is_gone`: the other's record was
    removed."""

    key: str | None = None
    other_id: int | None = None
    wait_ms: int | None = None
    is_gone: bool = False


def rule(
    transaction: Transaction, job: Job, names: Sequence[str], verdict: Verdict, now_ms: int
) -> Ruling:
    """Decide again whose turn it is, now that Prembly has told by which names it knows the
    verification and what came of it: another name's hook may have succeeded, or run. Of those that
    are asked about at the same time, the first that is confirmed runs."""
    keys = keys_by_names(Digests.of(transaction), names, verdict)
    transaction.lock({lock_name(job.action, key) for key in keys})
    gone_id = RemovedKeys(transaction).find(job.action, keys)
    if gone_id is not None:
        return Ruling(key=keys[0], other_id=gone_id, is_gone=True)
    for key in keys:
        row = transaction.row(_CONFIRMED_HOLDER, action=job.action, once_key=key)
        if row is None or row[0] == job.delivery_id:
            continue
        delivery_id, state, started_at_ms = row
        if state == State.SUCCEEDED:
            return Ruling(key=keys[0], other_id=delivery_id)
        return Ruling(keys[0], delivery_id, _hold_ms(now_ms, started_at_ms))
    give_key(transaction, job.action, job.delivery_id, keys[0])
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
    return subject.key


def give_key(transaction: Transaction, action: str, delivery_id: int, key: str) -> None:
    """Give the key to a delivery that starts, and take it from the one that had it."""
    transaction.write(_TAKE_KEY, action=action, once_key=key, id=delivery_id)
    transaction.write(_GIVE_KEY, once_key=key, id=delivery_id)


_IN_THE_WAY = (State.SUCCEEDED, State.RUNNING)
_HAS_ID = Delivery.id == param("id")
_HAS_KEY = (Delivery.action == param("action")) & (Delivery.once_key == param("once_key"))


def _holders() -> Any:
    return Delivery.select(Delivery.id, Delivery.state, Attempt.started_at_ms).join(
        Attempt, JOIN.LEFT_OUTER, on=IS_LAST_ATTEMPT
    )


_CONFIRMED_HOLDER = Statement(
    _holders().where(
        _HAS_KEY,
        (Delivery.state == State.SUCCEEDED)
        | ((Delivery.state == State.RUNNING) & Delivery.confirmed_at_ms.is_null(False)),
    )
)
_LOCK_OTHER = Statement(Delivery.select(Delivery.id).where(_HAS_ID), locks=True)
_NOTE_OTHER = update(Delivery, "ran_instead_id", where=_HAS_ID)
_HOLDER = Statement(_holders().where(_HAS_KEY))
_EARLIER = Statement(
    _holders()
    .select_extend(Delivery.once_key)
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
# COALESCE: as in _EARLIER.
_SUCCEEDED_BEFORE = (fn.COALESCE(Delivery.state, "") == State.SUCCEEDED) & (
    fn.COALESCE(Delivery.event, 0) < param("before_id")
)
_HOLDER_BEFORE = Statement(_HOLDER.query.where(_SUCCEEDED_BEFORE))
_EARLIER_BEFORE = Statement(_EARLIER.query.where(_SUCCEEDED_BEFORE))
_HOLD = update(Delivery, "state", "due_at_ms", where=_HAS_ID)
_TAKE_KEY = Statement(Delivery.update(once_key=None).where(_HAS_KEY, Delivery.id != param("id")))
_GIVE_KEY = Statement(Delivery.update(once_key=param("once_key"), ran_instead=None).where(_HAS_ID))
