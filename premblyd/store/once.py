"""`once: reference`: of all events of one reference and outcome, an action's hook succeeds once. Of
those that are about no verification, for each type.

All of this is decided in the transaction of a claim. Of an action's deliveries with the same key
(`keys.once_key`) one at a time runs, and has the key in its row, where it is unique: so has the
one that succeeded. One that did not succeed loses the key to the next that is claimed. Whoever
decides about a key has its lock, so that no two hosts do at the same time. Many keys share a lock:
so a claim has few, whatever waits.
"""

import hashlib
from enum import Enum, auto
from typing import Any, NamedTuple

from peewee import JOIN, fn

from premblyd.prembly import events
from premblyd.prembly.payload import Verdict, plain_id
from premblyd.store import damage
from premblyd.store.damage import Due, UnusableError, is_count
from premblyd.store.engine import Transaction
from premblyd.store.keys import once_key
from premblyd.store.models import IS_LAST_ATTEMPT, Attempt, Delivery, Event, State
from premblyd.store.order import may_end
from premblyd.store.statements import Statement, param, update

MIN_HOLD_MS = 500
MAX_HOLD_MS = 60_000
LOCK_COUNT = 64  # of all keys: PostgreSQL has room for some 6,000, for everybody


class _Holder(NamedTuple):
    """The delivery that runs for a key, or has succeeded."""

    id: int
    state: str
    started_at_ms: int | None  # of its last attempt


class Turn(Enum):
    """What becomes of a delivery in a claim."""

    NOW = auto()  # it may run
    PASSED = auto()  # it is out of the way: skipped, as another has succeeded; or due later
    UNKNOWN = auto()  # another host has its key's lock at this moment, or that of its line


def lock_name(action: str, key: str) -> str:
    """Return the name of the lock that whoever decides about an action's key has."""
    digest = hashlib.sha256(f"{action} {key}".encode("utf-8", "replace")).digest()
    return f"once {digest[0] % LOCK_COUNT}"


class Turns:
    """Who may run, for the time of one claim."""

    def __init__(self, transaction: Transaction, now_ms: int) -> None:
        self._transaction = transaction
        self._now_ms = now_ms
        self._holders: dict[tuple[str, str], _Holder] = {}
        self._locks: dict[str, bool] = {}  # by their names, and whether this claim has got them

    def of(self, delivery: Due) -> Turn:
        """Return whether it is the turn of `delivery`; if not, get it out of the way."""
        row = self._transaction.row(_VERDICT, id=delivery.id)
        if row is None or not isinstance(row[0], str) or not row[0]:
            return Turn.NOW  # no reference: it runs as without `once`, or its end tells what is odd
        reference, outcome, type_ = row
        if not isinstance(type_, str):  # stored by a premblyd that did not tell types
            try:
                type_ = damage.stored_event(self._transaction, delivery.id).verdict.type
            except UnusableError:
                return Turn.NOW
        place = (delivery.action, once_key(reference, outcome, type_))
        holder = self._holders.get(place)
        if holder is None:
            if not self._is_locked(lock_name(*place)):
                return Turn.UNKNOWN
            holder = self._find(delivery, place, reference, outcome, type_)
        if holder is None or holder.id == delivery.id:
            self._holders[place] = _Holder(delivery.id, State.RUNNING, self._now_ms)
            return Turn.NOW
        self._holders[place] = holder
        if delivery.state == State.RUNNING:
            if not is_count(delivery.attempts_left, 1):
                return Turn.NOW  # it has no attempt left, and ends dead
            damage.close_open_attempt(self._transaction, delivery.id, self._now_ms)
        if holder.state != State.SUCCEEDED:
            self._hold(delivery, holder)
        elif may_end(self._transaction, delivery.order_key):
            self._skip(delivery, holder)
        else:
            return Turn.UNKNOWN
        return Turn.PASSED

    def _is_locked(self, name: str) -> bool:
        """Return whether this claim has a lock, for which it asks once."""
        if name not in self._locks:
            self._locks[name] = self._transaction.try_lock(name)
        return self._locks[name]

    def _find(
        self,
        delivery: Due,
        place: tuple[str, str],
        reference: str,
        outcome: str,
        type_: str,
    ) -> _Holder | None:
        """Return who has succeeded or runs, but for `delivery` itself. Those from a time when the
        action had no `once` have no key yet: they are found by their events, and get it."""
        action, key = place
        row = self._transaction.row(_HOLDER, action=action, once_key=key)
        if row is not None and row[0] != delivery.id and row[1] in _IN_THE_WAY:
            return _Holder(*row)
        row = self._transaction.row(
            _EARLIER,
            action=action,
            reference=reference,
            plain=plain_id(reference),
            outcome=outcome,
            type=None if events.is_about_verification(type_) else type_,
            id=delivery.id,
        )
        if row is None:
            return None
        give_key(self._transaction, action, row[0], key)
        return _Holder(*row)

    def _skip(self, delivery: Due, holder: _Holder) -> None:
        self._transaction.change(
            _SKIP,
            id=delivery.id,
            state=State.SKIPPED,
            due_at_ms=None,
            finished_at_ms=self._now_ms,
            last_error=None,
            ran_instead_id=holder.id,
        )

    def _hold(self, delivery: Due, holder: _Holder) -> None:
        """Make `delivery` due again after as long as the other runs already. So it waits at most
        twice as long as it must, and looks only a few times however long that is."""
        runs_for_ms = self._now_ms - (holder.started_at_ms or self._now_ms)
        hold_ms = min(max(runs_for_ms, MIN_HOLD_MS), MAX_HOLD_MS)
        due_at_ms = self._now_ms + hold_ms
        self._transaction.change(_HOLD, id=delivery.id, state=State.PENDING, due_at_ms=due_at_ms)


def key_of(verdict: Verdict) -> str | None:
    """Return the key under which the hook of an action with `once` runs for an event; None for an
    event without a reference, for which it runs as without `once`."""
    if not verdict.reference:
        return None
    return once_key(verdict.reference, verdict.outcome, verdict.type)


def give_key(transaction: Transaction, action: str, delivery_id: int, key: str) -> None:
    """Give the key to a delivery that starts, and take it from the one that had it."""
    transaction.change(_TAKE_KEY, action=action, once_key=key, id=delivery_id)
    transaction.change(_GIVE_KEY, once_key=key, id=delivery_id)


_IN_THE_WAY = (State.SUCCEEDED, State.RUNNING)
_HAS_ID = Delivery.id == param("id")
_HAS_KEY = (Delivery.action == param("action")) & (Delivery.once_key == param("once_key"))


def _holders() -> Any:
    return Delivery.select(Delivery.id, Delivery.state, Attempt.started_at_ms).join(
        Attempt, JOIN.LEFT_OUTER, on=IS_LAST_ATTEMPT
    )


_VERDICT = Statement(
    Delivery.select(Event.reference, Event.outcome, Event.type).join(Event).where(_HAS_ID)
)
_HOLDER = Statement(_holders().where(_HAS_KEY))
_EARLIER = Statement(
    _holders()
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
_SKIP = update(
    Delivery,
    "state",
    "due_at_ms",
    "finished_at_ms",
    "last_error",
    "ran_instead_id",
    where=_HAS_ID,
)
_HOLD = update(Delivery, "state", "due_at_ms", where=_HAS_ID)
_TAKE_KEY = Statement(Delivery.update(once_key=None).where(_HAS_KEY, Delivery.id != param("id")))
_GIVE_KEY = Statement(Delivery.update(once_key=param("once_key"), ran_instead=None).where(_HAS_ID))
