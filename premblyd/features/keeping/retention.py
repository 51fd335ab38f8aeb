"""Retention: deletes the classes of events whose period has expired, a portion in each transaction.
`Round` says what is to be done next, for the daemon's loop and for `premblyd record prune`.

A class walks through all events in the order of their receipt, from its bookmark on. What has
expired but waits, runs or is on hold, or came while the clock was behind, is noted in `put_off`,
through which the class walks too.
"""

import functools
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from peewee import EXCLUDED, SQL, Tuple, fn

from premblyd.features.keeping import holds, removing
from premblyd.features.keeping.settings import Retention
from premblyd.features.keeping.tables import KeptFrom, PutOff, Removal, Removed, Sweep
from premblyd.ground.times import DAY_MS
from premblyd.record.operating import EVENTS
from premblyd.store.engine import (
    BulkInsert,
    Database,
    Lookup,
    Statement,
    Transaction,
    insert,
    param,
    update,
)
from premblyd.store.states import FINISHED, RemovedParts
from premblyd.store.tables import Delivery, Event, Rejection

LOCK = "retention"  # who removes has it: two hosts never do at once, nor a command beside a daemon
PORTION = 500  # rows that a transaction looks at
BATCH = 25  # events that it changes: beside half a million, webhooks wait 6 ms for it
MAX_BYTES = 1 << 20  # of their bodies, but for a single one: SQLite overwrites what it frees
AGAIN_S = 1.0  # while another is at work
MIN_GAP_S = 0.02  # after a portion that has changed something
MIN_GAP_BESIDE_S = 0.15  # a daemon looks again whether it may write: see record/operating.py
MAX_GAP_S = 2.0
GAP_RATIO = 4  # of a gap to the transaction before it
MOST_PUT_OFF = 20  # portions of what was put off, in each round of each class
# In which order classes are removed: so nothing is emptied that goes as a whole.
STRONGEST_FIRST = (Removed.RECORD, Removed.IDENTITY, Removed.BODY)
# What an event lacks of which the class is gone already.
DONE: Mapping[Removed, tuple[str, ...]] = {
    Removed.BODY: tuple(RemovedParts),
    Removed.IDENTITY: (RemovedParts.IDENTITY, RemovedParts.ERASED),
    Removed.RECORD: (),
}


class Aged(NamedTuple):
    """Of an event: what decides whether a class of it has expired, and its body's size."""

    id: int
    received_at_ms: int
    removed_parts: str | None
    body_bytes: int


class Walk(NamedTuple):
    """A class, on its way through all events, or through those that were put off."""

    removed: Removed
    is_of_put_off: bool = False

    @property
    def name(self) -> str:
        """By which its bookmark is known."""
        return f"{self.removed} put off" if self.is_of_put_off else self.removed


class Bookmark(NamedTuple):
    """The last row that a walk has passed, by the time and the number in whose order it goes. It is
    a hint: without it the walk begins anew, and finds nothing to do where it has been."""

    at_ms: int
    row_id: int


START = Bookmark(-(1 << 62), 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """What a transaction has deleted, and where its walk continues."""

    to: Bookmark = START
    is_more: bool = False
    count: int = 0
    is_busy: bool = False  # nothing was done, as another is at work


def periods(retention: Retention) -> dict[Removed, int]:
    """Return the classes that are removed, each with its period in milliseconds."""
    found = {removed: getattr(retention, f"{removed}_ms") for removed in Removed}
    return {removed: period for removed, period in found.items() if period is not None}


def walks(retention: Retention) -> list[Walk]:
    """Return all walks of a round, in their order."""
    found = periods(retention)
    made = [Walk(each, way) for each in STRONGEST_FIRST if each in found for way in (False, True)]
    return [*made, Walk(Removed.REJECTIONS)] if Removed.REJECTIONS in found else made


def begin_anew(transaction: Transaction) -> None:
    """Restart all walks."""
    transaction.change(_FORGET_BOOKMARKS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Remover:
    """Removes by these periods, at this time."""

    retention: Retention
    now_ms: int

    def remove(self, transaction: Transaction, walk: Walk, after: Bookmark | None) -> Done:
        """Remove the next portion of a walk. `after`: where it has come to in this round; None: it
        begins at its bookmark."""
        if not transaction.try_lock(LOCK):
            return Done(to=after or START, is_more=True, is_busy=True)
        transaction.lock([EVENTS])
        if walk.removed is Removed.REJECTIONS:
            return self._remove_rejections(transaction)
        begin = after or _bookmark(transaction, walk)
        rows = transaction.rows(
            _OF_WALK[walk.is_of_put_off],
            removed=walk.removed,
            after_ms=begin.at_ms,
            after_id=begin.row_id,
            until_ms=self._until_ms(walk.removed),
            limit=PORTION,
        )
        expired, passed = self._expired(walk.removed, [Aged(*row[2:]) for row in rows])
        is_more = passed < len(rows) or len(rows) == PORTION
        to = Bookmark(*rows[passed - 1][:2]) if passed else begin
        if walk.is_of_put_off and not is_more:
            to = START
        ready = self._ready(transaction, walk.removed, [event.id for event in expired])
        gone = [event for event in expired if event.id in ready]
        if gone:
            removing.remove(transaction, walk.removed, [event.id for event in gone])
        left = [event.id for event in expired if event.id not in ready]
        if walk.is_of_put_off:
            dropped = {row[2] for row in rows[:passed]}.difference(left)
            transaction.change_each(_TAKE_UP, sorted(dropped), removed=walk.removed)
        else:
            put_off = transaction.look_up(_IS_PUT_OFF, left)
            known = {id_ for id_, each in put_off if each == walk.removed}
            new = [(each, walk.removed) for each in left if each not in known]
            transaction.insert_many(_PUT_OFF, new)
        if to != begin:
            _move_bookmark(transaction, walk, to)
        self._count(transaction, walk.removed, len(gone))
        return Done(to=to, is_more=is_more, count=len(gone))

    def _until_ms(self, removed: Removed) -> int:
        """Return until when a period has begun that has expired now."""
        return self.now_ms - periods(self.retention)[removed]

    def _expired(self, removed: Removed, events: Sequence[Aged]) -> tuple[list[Aged], int]:
        """Return those events of which the class has expired and is there, as many as a transaction
        may change; and how many of all were looked at."""
        until_ms = self._until_ms(removed)
        taken: list[Aged] = []
        size = 0
        for number, event in enumerate(events):
            if event.removed_parts in DONE[removed] or event.received_at_ms > until_ms:
                continue
            size += event.body_bytes
            if len(taken) == BATCH or (taken and size > MAX_BYTES):
                return taken, number
            taken.append(event)
        return taken, len(events)

    def _ready(self, transaction: Transaction, removed: Removed, ids: Sequence[int]) -> set[int]:
        """Return which of these events may be deleted: they don't wait, run or are on hold. Nobody
        else can change them, or their deliveries, until the transaction ends."""
        free = {event_id for (event_id,) in transaction.look_up(_LOCK_EVENTS, ids)}
        own = {delivery_id for (delivery_id,) in transaction.look_up(_LOCK_DELIVERIES, ids)}
        for delivery_id, event_id, state, is_needed in transaction.look_up(_DELIVERIES, ids):
            if state not in FINISHED or is_needed or delivery_id not in own:
                free.discard(event_id)
        for lookup in _WAITING:
            free -= {event_id for (event_id,) in transaction.look_up(lookup, ids)}
        until_ms = self._until_ms(removed)
        free -= {id_ for id_, at_ms in transaction.look_up(_KEPT_FROM, ids) if at_ms > until_ms}
        return free - holds.held(transaction, free, self.now_ms)

    def _remove_rejections(self, transaction: Transaction) -> Done:
        until_ms = self._until_ms(Removed.REJECTIONS)
        rows = transaction.rows(_OLD_REJECTIONS, until_ms=until_ms, limit=PORTION)
        count = transaction.change_each(_DELETE_REJECTIONS, [row[0] for row in rows]) if rows else 0
        self._count(transaction, Removed.REJECTIONS, count)
        return Done(count=count, is_more=len(rows) == PORTION)

    def _count(self, transaction: Transaction, removed: Removed, count: int) -> None:
        if count:
            transaction.change(
                _COUNT,
                day_ms=self.now_ms - self.now_ms % DAY_MS,
                removed=removed,
                period_ms=periods(self.retention)[removed],
                count=count,
            )


class Round:
    """All that is to be removed now: `work`, in a transaction, then `take` what it returned, until
    there is no more work. `is_whole`: also all that was put off, and not only some of it, where
    there is very much."""

    def __init__(self, settings: Retention, *, with_eventless: bool, is_whole: bool = True) -> None:
        self._settings = settings
        self._most_put_off = None if is_whole else MOST_PUT_OFF
        self._put_off = 0  # portions of this walk
        self._left: deque[Walk | int] = deque(walks(settings))
        if with_eventless:
            self._left += removing.eventless_kinds(settings)
        self._after: Bookmark | None = None
        self.removed: Counter[Removed] = Counter()

    @property
    def has_work(self) -> bool:
        """Whether there is more to do."""
        return bool(self._left)

    def work(self, now_ms: int) -> Callable[[Transaction], Done]:
        """Return what is to be done next."""
        first = self._left[0]
        if isinstance(first, int):
            return functools.partial(self._remove_eventless, kind=first, now_ms=now_ms)
        remover = Remover(retention=self._settings, now_ms=now_ms)
        return functools.partial(remover.remove, walk=first, after=self._after)

    def take(self, done: Done) -> None:
        """Take in what was done."""
        if done.is_busy:
            return
        first = self._left[0]
        is_last = not done.is_more
        if isinstance(first, Walk):
            self.removed[first.removed] += done.count
            if first.is_of_put_off:
                self._put_off += 1
                is_last = is_last or self._put_off == self._most_put_off
        self._after = done.to
        if is_last:
            self._left.popleft()
            self._after = None
            self._put_off = 0

    def _remove_eventless(self, transaction: Transaction, kind: int, now_ms: int) -> Done:
        if not transaction.try_lock(LOCK):
            return Done(is_busy=True, is_more=True)
        after_id = self._after.row_id if self._after else 0
        last = removing.remove_eventless(transaction, kind, after_id, self._settings, now_ms)
        return Done(to=Bookmark(0, last or 0), is_more=last is not None)


def work_off(database: Database, round_: Round, now_ms: int) -> Iterator[Done]:
    """Do all of a round on a command's own connection, beside a daemon, and yield what each
    transaction did. Raise StoreUnavailableError when it can't."""
    database.transact(functools.partial(removing.end_what_expired, now_ms=now_ms))
    while round_.has_work:
        began = time.monotonic()
        done = database.transact(round_.work(now_ms))
        round_.take(done)
        took_s = time.monotonic() - began
        yield done
        time.sleep(gap_s(done, took_s, MIN_GAP_BESIDE_S))


def gap_s(done: Done, took_s: float, least_s: float = MIN_GAP_S) -> float:
    """Return how long to do nothing after what took so long: the daemon has one processor for its
    webhooks, and one thread that writes."""
    if done.is_busy:
        return AGAIN_S
    own_s = GAP_RATIO * took_s
    return min(max(least_s, own_s), MAX_GAP_S) if done.count else own_s


def _bookmark(transaction: Transaction, walk: Walk) -> Bookmark:
    row = transaction.row(_READ_BOOKMARK, removed=walk.name)
    return START if row is None else Bookmark(*row)


def _move_bookmark(transaction: Transaction, walk: Walk, to: Bookmark) -> None:
    if not transaction.change(_MOVE_BOOKMARK, removed=walk.name, **to._asdict()):
        transaction.insert(_SET_BOOKMARK, removed=walk.name, **to._asdict())


_BODY_BYTES = fn.COALESCE(fn.LENGTH(Event.body), 0)
_OF_EVENT = (Event.id, Event.received_at_ms, Event.removed_parts, _BODY_BYTES)
_AT_MS = Event.received_at_ms
_BY_RECEIPT = Statement(
    Event.select(_AT_MS, Event.id, *_OF_EVENT)
    .where(
        param("after_ms") <= _AT_MS,
        param("until_ms") >= _AT_MS,
        Tuple(_AT_MS, Event.id) > Tuple(param("after_ms"), param("after_id")),
    )
    .order_by(_AT_MS, Event.id)
    .limit(param("limit"))
)
_BY_PUT_OFF = Statement(
    PutOff.select(SQL("0"), PutOff.id, *_OF_EVENT)
    .join(Event, on=Event.id == PutOff.event_id)
    .where(PutOff.removed == param("removed"), PutOff.id > param("after_id"))
    .order_by(PutOff.id)
    .limit(param("limit"))
)
_OF_WALK = (_BY_RECEIPT, _BY_PUT_OFF)
_LOCK_EVENTS = Lookup(Event.select(Event.id), Event.id, locks=True)
_LOCK_DELIVERIES = Lookup(Delivery.select(Delivery.id), Delivery.event, locks=True)
_DELIVERIES = Lookup(
    Delivery.select(Delivery.id, Delivery.event, Delivery.state, removing.IS_NEEDED),
    Delivery.event,
)
_WAITING = [
    Lookup(table.select(table.event).where(waits), table.event) for table, waits in removing.WAITING
]
_KEPT_FROM = Lookup(KeptFrom.select(KeptFrom.event_id, KeptFrom.at_ms), KeptFrom.event_id)
_IS_PUT_OFF = Lookup(PutOff.select(PutOff.event_id, PutOff.removed), PutOff.event_id)
_PUT_OFF = BulkInsert(PutOff, "event_id", "removed")
_TAKE_UP = Lookup(PutOff.delete().where(PutOff.removed == param("removed")), PutOff.event_id)
_HAS_NAME = Sweep.removed == param("removed")
_READ_BOOKMARK = Statement(Sweep.select(Sweep.at_ms, Sweep.row_id).where(_HAS_NAME))
_MOVE_BOOKMARK = update(Sweep, "at_ms", "row_id", where=_HAS_NAME)
_SET_BOOKMARK = insert(Sweep, "removed", "at_ms", "row_id")
_FORGET_BOOKMARKS = Statement(Sweep.delete())
_OLD_REJECTIONS = Statement(
    Rejection.select(Rejection.id)
    .where(Rejection.at_ms <= param("until_ms"))
    .order_by(Rejection.id)
    .limit(param("limit"))
)
_DELETE_REJECTIONS = Lookup(Rejection.delete(), Rejection.id)
_KEY = (Removal.day_ms, Removal.removed, Removal.period_ms)
_COUNT = Statement(
    Removal.insert(
        {field: param(field.column_name) for field in (*_KEY, Removal.count)}
    ).on_conflict(conflict_target=_KEY, update={Removal.count: Removal.count + EXCLUDED.count})
)
