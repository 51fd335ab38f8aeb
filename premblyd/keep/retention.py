"""Retention: what is removed when its period is over, a portion in each transaction. Begin with
`Remover.next_portion`.

What is over, but waits, runs or is held, or came while the clock was behind, is noted in `put_off`
and looked at again.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from peewee import EXCLUDED, fn

from premblyd.config.retention import Retention
from premblyd.engines.engine import BulkInsert, Lookup, Statement, Transaction, param
from premblyd.keep import bookmarks, holds, periods, removing
from premblyd.keep.bookmarks import START, Bookmark
from premblyd.keep.walks import BATCH, PORTION, Finder, Portion, Walk, Way
from premblyd.model.keeptables import KeptFrom, PutOff, Removal, Removed
from premblyd.model.states import FINISHED, AwaitedState, State
from premblyd.model.tables import Awaited, Delivery, Event, Rejection
from premblyd.times import DAY_MS

LOCK = "retention"  # who removes has it: two hosts never do at once, nor a command beside a daemon


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """What a transaction has removed, and where its walk goes on."""

    to: Bookmark = START
    is_more: bool = False
    count: int = 0
    freed_bytes: int = 0
    is_busy: bool = False  # nothing was done, as another is at work


@dataclass(frozen=True, slots=True, kw_only=True)
class Remover:
    """Removes by these periods, at this time, at most so many events in a transaction; or leaves
    them all, as if they waited."""

    retention: Retention
    now_ms: int
    most: int = BATCH
    leaves_all: bool = False

    @property
    def _finder(self) -> Finder:
        return Finder(retention=self.retention, now_ms=self.now_ms, most=self.most)

    def next_portion(self, walk: Walk, after: Bookmark | None) -> Callable[[Transaction], Done]:
        """Return what removes the next portion of a walk within a transaction. `after`: where the
        walk has come to in this round; None: it begins."""

        def remove(transaction: Transaction) -> Done:
            if not transaction.try_lock(LOCK):
                return Done(to=after or START, is_more=True, is_busy=True)
            transaction.lock([holds.LOCK])
            if walk.removed is Removed.REJECTIONS:
                return self._remove_rejections(transaction)
            return self._remove(transaction, self._finder.find(transaction, walk, after))

        return remove

    def _ready(self, transaction: Transaction, portion: Portion) -> set[int]:
        """Return which of these events may be removed: of which nothing waits or runs, and that are
        not held. Nobody else can change them, or their deliveries, until the transaction ends."""
        if self.leaves_all:
            return set()
        ids = [event.id for event in portion.over]
        free = {event_id for (event_id,) in transaction.look_up(_LOCK_EVENTS, ids)}
        own = {delivery_id for (delivery_id,) in transaction.look_up(_LOCK_DELIVERIES, ids)}
        for delivery_id, event_id, state, holds_order in transaction.look_up(_DELIVERIES, ids):
            waits = state not in FINISHED or (state == State.DEAD and holds_order)
            if waits or delivery_id not in own:
                free.discard(event_id)
        free -= {event_id for (event_id,) in transaction.look_up(_AWAITED, ids)}
        until_ms = self._finder.until_ms(portion.walk.removed)
        free -= {id_ for id_, at_ms in transaction.look_up(_KEPT_FROM, ids) if at_ms > until_ms}
        return free - holds.held(transaction, free, self.now_ms)

    def _remove(self, transaction: Transaction, portion: Portion) -> Done:
        walk, over = portion.walk, portion.over
        ready = self._ready(transaction, portion) if over else set()
        gone = [event for event in over if event.id in ready]
        left = [event.id for event in over if event.id not in ready]
        freed_bytes = sum(event.body_bytes for event in gone)
        count = len(gone)
        if gone:
            removing.remove(transaction, walk.removed, [each.id for each in gone])
        self._note_put_off(transaction, portion, [event.id for event in gone], left)
        if portion.is_moved:
            bookmarks.move(transaction, walk.name, portion.to)
        self._count(transaction, walk.removed, count, freed_bytes)
        return Done(to=portion.to, is_more=portion.is_more, count=count, freed_bytes=freed_bytes)

    def _note_put_off(
        self, transaction: Transaction, portion: Portion, gone: Sequence[int], left: Sequence[int]
    ) -> None:
        removed = portion.walk.removed
        if gone and removed is not Removed.RECORD:
            for each in (removed, *removing.TAKES[removed]):
                transaction.change_each(_TAKE_UP, gone, removed=each)
        if portion.dropped:  # of this class alone: an earlier one may be over still
            transaction.change_each(_TAKE_UP, portion.dropped, removed=removed)
        if left and portion.walk.way is not Way.PUT_OFF:
            noted = {id_ for id_, each in transaction.look_up(_IS_PUT_OFF, left) if each == removed}
            rows = [(event_id, removed) for event_id in left if event_id not in noted]
            transaction.insert_many(_PUT_OFF_ALSO, rows)

    def _remove_rejections(self, transaction: Transaction) -> Done:
        until_ms = self._finder.until_ms(Removed.REJECTIONS)
        rows = transaction.rows(_OLD_REJECTIONS, until_ms=until_ms, limit=PORTION)
        count = transaction.change_each(_DELETE_REJECTIONS, [row[0] for row in rows]) if rows else 0
        self._count(transaction, Removed.REJECTIONS, count, 0)
        return Done(count=count, is_more=len(rows) == PORTION)

    def _count(
        self, transaction: Transaction, removed: Removed, count: int, freed_bytes: int
    ) -> None:
        if count:
            transaction.change(
                _COUNT,
                day_ms=self.now_ms - self.now_ms % DAY_MS,
                removed=removed,
                period_ms=periods.periods(self.retention)[removed],
                count=count,
                freed_bytes=freed_bytes,
            )


_LOCK_EVENTS = Lookup(Event.select(Event.id), Event.id, locks=True)
_LOCK_DELIVERIES = Lookup(Delivery.select(Delivery.id), Delivery.event, locks=True)
_DELIVERIES = Lookup(
    Delivery.select(Delivery.id, Delivery.event, Delivery.state, Delivery.holds_order),
    Delivery.event,
)
_AWAITED = Lookup(
    Awaited.select(Awaited.event).where(fn.COALESCE(Awaited.state, "") == AwaitedState.WAITING),
    Awaited.event,
)
_KEPT_FROM = Lookup(KeptFrom.select(KeptFrom.event_id, KeptFrom.at_ms), KeptFrom.event_id)
_IS_PUT_OFF = Lookup(PutOff.select(PutOff.event_id, PutOff.removed), PutOff.event_id)
_PUT_OFF_ALSO = BulkInsert(PutOff, "event_id", "removed")
_TAKE_UP = Lookup(
    PutOff.delete().where(fn.COALESCE(PutOff.removed, "") == param("removed")), PutOff.event_id
)
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
        {field: param(field.column_name) for field in (*_KEY, Removal.count, Removal.freed_bytes)}
    ).on_conflict(
        conflict_target=_KEY,
        update={
            Removal.count: Removal.count + EXCLUDED.count,
            Removal.freed_bytes: Removal.freed_bytes + EXCLUDED.freed_bytes,
        },
    )
)
