"""Retention: deletes the classes of events whose period has expired, a portion in each transaction.
`Round` says what is to be done next, for the daemon's loop and for `premblyd record prune`.

A class walks through all events in the order of their receipt, from its bookmark on. What has
expired but waits, runs or is on hold, or came while the clock was behind, is left: now and then a
round is whole, and begins with the oldest event.
"""

import functools
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from peewee import EXCLUDED, Tuple, fn

from premblyd.features.keeping import holds, removing
from premblyd.features.keeping.settings import Retention
from premblyd.features.keeping.tables import KeptFrom, Removal, Removed, Sweep
from premblyd.ground.times import DAY_MS
from premblyd.record.operating import EVENTS
from premblyd.store.engine import Database, Lookup, Statement, Transaction, insert, param
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


class Bookmark(NamedTuple):
    """The last row that the walk of a class has passed, by the time and the number in whose order
    it goes. It is a hint: without it the walk begins anew."""

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Remover:
    """Removes by these periods, at this time."""

    retention: Retention
    now_ms: int

    def remove(self, transaction: Transaction, removed: Removed, after: Bookmark | None) -> Done:
        """Remove the next portion of a class. `after`: where its walk has come to in this round;
        None: it begins at its bookmark."""
        if not transaction.try_lock(LOCK):
            return Done(to=after or START, is_more=True, is_busy=True)
        transaction.lock([EVENTS])
        if removed is Removed.REJECTIONS:
            return self._remove_rejections(transaction)
        found = transaction.row(_BOOKMARK, removed=removed)
        bookmark = Bookmark(*found) if found else START
        begin = after or bookmark
        rows = transaction.rows(
            _BY_RECEIPT,
            after_ms=begin.at_ms,
            after_id=begin.row_id,
            until_ms=self._until_ms(removed),
            limit=PORTION,
        )
        events = [Aged(*row) for row in rows]
        expired, passed = self._expired(removed, events)
        ready = self._ready(transaction, removed, [event.id for event in expired])
        gone = [event.id for event in expired if event.id in ready]
        if gone:
            removing.remove(transaction, removed, gone)
        last = events[passed - 1] if passed else None
        to = Bookmark(last.received_at_ms, last.id) if last else begin
        if to > bookmark:
            transaction.change(_FORGET_BOOKMARK, removed=removed)
            transaction.insert(_SET_BOOKMARK, removed=removed, **to._asdict())
        self._count(transaction, removed, len(gone))
        is_more = passed < len(rows) or len(rows) == PORTION
        return Done(to=to, is_more=is_more, count=len(gone))

    def _until_ms(self, removed: Removed) -> int:
        """Return until when a period has begun that has expired now."""
        return self.now_ms - periods(self.retention)[removed]

    def _expired(self, removed: Removed, events: Sequence[Aged]) -> tuple[list[Aged], int]:
        """Return those events of which the class has expired and is there, as many as a transaction
        may change; and how many of all were looked at."""
        taken: list[Aged] = []
        size = 0
        for number, event in enumerate(events):
            if event.removed_parts in DONE[removed]:
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
    there is no more work. `is_whole`: it begins with the oldest event, and looks through what is
    about no event, too."""

    def __init__(self, settings: Retention, *, is_whole: bool = True) -> None:
        self._settings = settings
        self._start = START if is_whole else None
        found = periods(settings)
        classes = (*STRONGEST_FIRST, Removed.REJECTIONS)
        self._left: deque[Removed | int] = deque(each for each in classes if each in found)
        if is_whole:
            self._left += removing.eventless_kinds(settings)
        self._after = self._start
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
        return functools.partial(remover.remove, removed=first, after=self._after)

    def take(self, done: Done) -> None:
        """Take in what was done."""
        if done.is_busy:
            return
        first = self._left[0]
        if not isinstance(first, int):
            self.removed[first] += done.count
        self._after = done.to
        if not done.is_more:
            self._left.popleft()
            self._after = self._start

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


_BODY_BYTES = fn.COALESCE(fn.LENGTH(Event.body), 0)
_AT_MS = Event.received_at_ms
_BY_RECEIPT = Statement(
    Event.select(Event.id, _AT_MS, Event.removed_parts, _BODY_BYTES)
    .where(
        param("after_ms") <= _AT_MS,
        param("until_ms") >= _AT_MS,
        Tuple(_AT_MS, Event.id) > Tuple(param("after_ms"), param("after_id")),
    )
    .order_by(_AT_MS, Event.id)
    .limit(param("limit"))
)
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
_HAS_NAME = Sweep.removed == param("removed")
_BOOKMARK = Statement(Sweep.select(Sweep.at_ms, Sweep.row_id).where(_HAS_NAME))
_FORGET_BOOKMARK = Statement(Sweep.delete().where(_HAS_NAME))
_SET_BOOKMARK = insert(Sweep, "removed", "at_ms", "row_id")
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
