"""Walks through the events, to find what is over. Begin with `Finder.find`.

A class of what is removed goes through all events by several walks, each in an order that an index
has, and each from its bookmark on.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from peewee import Tuple

from premblyd.config.retention import Retention
from premblyd.engines.engine import Lookup, Statement, Transaction, param
from premblyd.keep import bookmarks, periods
from premblyd.keep.bookmarks import START, Bookmark
from premblyd.keep.periods import DONE, OF_EVENT, Aged
from premblyd.model.keeptables import PutOff, Removed
from premblyd.model.tables import Event

PORTION = 500  # rows that a transaction looks at
BATCH = 25  # events that it changes: beside half a million, webhooks wait 6 ms for it
MAX_BYTES = 1 << 20  # of their bodies, but for a single one: SQLite overwrites what it frees


class Way(StrEnum):
    """In which order a class goes through the events."""

    RECEIPT = "receipt"  # all of them
    PUT_OFF = "put off"  # those that were left as they are when their time was over


class Walk(NamedTuple):
    """One class on one way."""

    removed: Removed
    way: Way

    @property
    def name(self) -> str:
        """By which its bookmark is known."""
        return self.removed if self.way is Way.RECEIPT else f"{self.removed} {self.way}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Portion:
    """What a transaction is about: events whose time is over, and how far the walk has come with
    them. `dropped`: events that were put off, whose time is not over any more."""

    walk: Walk
    over: Sequence[Aged]
    to: Bookmark
    is_moved: bool
    is_more: bool
    dropped: Sequence[int] = ()


def of_round(retention: Retention) -> list[Walk]:
    """Return all walks of a round, in their order."""
    found = periods.periods(retention)
    made = []
    for removed in periods.STRONGEST_FIRST:
        if removed in found:
            made += [Walk(removed, way) for way in Way]
    if Removed.REJECTIONS in found:
        made.append(Walk(Removed.REJECTIONS, Way.RECEIPT))
    return made


@dataclass(frozen=True, slots=True, kw_only=True)
class Finder:
    """Finds what is over by these periods, at this time, at most so many events."""

    retention: Retention
    now_ms: int
    most: int

    def find(self, transaction: Transaction, walk: Walk, after: Bookmark | None) -> Portion:
        """Return the next portion of a walk. `after`: where it has come to in this round; None: it
        begins at its bookmark."""
        begin = after or bookmarks.read(transaction, walk.name)
        if walk.way is Way.PUT_OFF:
            return self._find_put_off(transaction, walk, begin)
        rows = transaction.rows(
            _BY_RECEIPT,
            after_ms=begin.at_ms,
            after_id=begin.row_id,
            until_ms=self.until_ms(walk.removed),
            limit=PORTION,
        )
        over, count = self._take(walk.removed, [Aged(*row) for row in rows])
        to = Bookmark(rows[count - 1][1], rows[count - 1][0]) if count else begin
        is_more = count < len(rows) or len(rows) == PORTION
        return Portion(walk=walk, over=over, to=to, is_moved=count > 0, is_more=is_more)

    def _find_put_off(self, transaction: Transaction, walk: Walk, after: Bookmark) -> Portion:
        rows = transaction.rows(
            _PUT_OFF, removed=walk.removed, after_id=after.row_id, limit=PORTION
        )
        found = {row[0]: Aged(*row) for row in transaction.look_up(AGED, [row[1] for row in rows])}
        there = [found[event_id] for _, event_id in rows if event_id in found]
        over, count = self._take(walk.removed, there)
        passed = len(rows)
        if count < len(there):
            passed = next(at for at, row in enumerate(rows) if row[1] == there[count].id)
        stays = {event.id for event in over}
        is_more = passed < len(rows) or len(rows) == PORTION
        to = START._replace(row_id=rows[passed - 1][0]) if is_more else START
        return Portion(
            walk=walk,
            over=over,
            dropped=[event_id for _, event_id in rows[:passed] if event_id not in stays],
            to=to,
            is_moved=to != after,
            is_more=is_more,
        )

    def until_ms(self, removed: Removed) -> int:
        """Return until when a period has begun that is over now."""
        return self.now_ms - periods.periods(self.retention)[removed]

    def _take(self, removed: Removed, events: Sequence[Aged]) -> tuple[list[Aged], int]:
        """Return those events whose time is over, as many as a transaction may change; and how many
        of all were looked at."""
        until_ms = self.until_ms(removed)
        taken: list[Aged] = []
        size = 0
        for number, event in enumerate(events):
            if event.lacks in DONE[removed] or event.received_at_ms > until_ms:
                continue
            size += event.body_bytes
            if len(taken) == self.most or (taken and size > MAX_BYTES):
                return taken, number
            taken.append(event)
        return taken, len(events)


_AT_MS = Event.received_at_ms
_BY_RECEIPT = Statement(
    Event.select(*OF_EVENT)
    .where(
        param("after_ms") <= _AT_MS,
        param("until_ms") >= _AT_MS,
        Tuple(_AT_MS, Event.id) > Tuple(param("after_ms"), param("after_id")),
    )
    .order_by(_AT_MS, Event.id)
    .limit(param("limit"))
)
AGED = Lookup(Event.select(*OF_EVENT), Event.id)
_PUT_OFF = Statement(
    PutOff.select(PutOff.id, PutOff.event_id)
    .where(PutOff.removed == param("removed"), PutOff.id > param("after_id"))
    .order_by(PutOff.id)
    .limit(param("limit"))
)
