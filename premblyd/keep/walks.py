"""Walks through the events, to find what is over. Begin with `Finder.find`.

A class of what is removed goes through all events by several walks, each in an order that an index
has, and each from its bookmark on.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from peewee import Field, Tuple, fn

from premblyd.config.retention import Retention
from premblyd.engines.engine import Lookup, Statement, Transaction, param
from premblyd.keep import bookmarks, periods
from premblyd.keep.bookmarks import START, Bookmark
from premblyd.keep.periods import DONE, OF_EVENT, Aged
from premblyd.model.keeptables import Closing, PutOff, Removed
from premblyd.model.tables import Event

PORTION = 500  # rows that a transaction looks at
BATCH = 25  # events that it changes: beside half a million, webhooks wait 6 ms for it
MAX_BYTES = 1 << 20  # of their bodies, but for a single one: SQLite overwrites what it frees
CLOSINGS = 100  # persons whose events a transaction looks for


class Way(StrEnum):
    """In which order a class goes through the events."""

    RECEIPT = "receipt"  # all of them
    CLOSINGS = "closings"  # those of persons whose relationship ended, in the order of these ends
    CLOSED = "closed"  # those of persons whose identity is gone, in that order too
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
        ways = [Way.RECEIPT]
        if periods.counts_from_closing(retention, removed):
            ways.append(Way.CLOSINGS)
            if removed is Removed.RECORD:
                ways.append(Way.CLOSED)
        ways.append(Way.PUT_OFF)
        if removed in found:
            made += [Walk(removed, way) for way in ways]
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
        if walk.way is Way.CLOSINGS:
            return self._find_closed_persons(transaction, walk, begin)
        statement = _BY_RECEIPT if walk.way is Way.RECEIPT else _BY_CLOSING
        rows = transaction.rows(
            statement,
            after_ms=begin.at_ms,
            after_id=begin.row_id,
            until_ms=self.until_ms(walk.removed),
            limit=PORTION,
        )
        over, count = self._take(transaction, walk.removed, [Aged(*row[1:]) for row in rows])
        to = Bookmark(rows[count - 1][0], rows[count - 1][1]) if count else begin
        is_more = count < len(rows) or len(rows) == PORTION
        return Portion(walk=walk, over=over, to=to, is_moved=count > 0, is_more=is_more)

    def _find_put_off(self, transaction: Transaction, walk: Walk, after: Bookmark) -> Portion:
        rows = transaction.rows(
            _PUT_OFF, removed=walk.removed, after_id=after.row_id, limit=PORTION
        )
        found = {row[0]: Aged(*row) for row in transaction.look_up(AGED, [row[1] for row in rows])}
        there = [found[event_id] for _, event_id in rows if event_id in found]
        over, count = self._take(transaction, walk.removed, there)
        passed = len(rows)
        if count < len(there):
            passed = next(at for at, row in enumerate(rows) if row[1] == there[count].id)
        stays = {event.id for event in over}
        if walk.removed is Removed.MEDIA:  # all that are later: their walk never begins anew
            stays.update(event.id for event in there if event.lacks not in DONE[Removed.MEDIA])
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

    def _find_closed_persons(
        self, transaction: Transaction, walk: Walk, begin: Bookmark
    ) -> Portion:
        until_ms = self.until_ms(walk.removed)
        closings = transaction.rows(
            _CLOSINGS,
            after_ms=begin.at_ms,
            after_id=begin.row_id,
            until_ms=until_ms,
            limit=CLOSINGS,
        )
        found: list[Aged] = []
        to = begin
        for at_ms, row_id, user_ref in closings:
            of_person = transaction.rows(
                _OF_PERSON[walk.removed], user_ref=user_ref, until_ms=until_ms, limit=BATCH
            )
            found += [Aged(*row) for row in of_person]
            if len(found) >= BATCH:  # there may be more of this person
                break
            to = Bookmark(at_ms, row_id)
        over, count = self._take(transaction, walk.removed, found)
        is_whole = count == len(found)
        if not is_whole:
            to = begin
        is_more = not is_whole or len(found) >= BATCH or len(closings) == CLOSINGS
        return Portion(walk=walk, over=over, to=to, is_moved=to != begin, is_more=is_more)

    def until_ms(self, removed: Removed) -> int:
        """Return until when a period has begun that is over now."""
        return self.now_ms - periods.periods(self.retention)[removed]

    def _take(
        self, transaction: Transaction, removed: Removed, events: Sequence[Aged]
    ) -> tuple[list[Aged], int]:
        """Return those events whose time is over, as many as a transaction may change; and how many
        of all were looked at."""
        closings: dict[str, int] = {}
        if periods.counts_from_closing(self.retention, removed):
            closings = closings_of(transaction, events)
        until_ms = self.until_ms(removed)
        # Of bodies most have no media.
        most = 4 * self.most if removed is Removed.MEDIA and self.most > 1 else self.most
        taken: list[Aged] = []
        size = 0
        for number, event in enumerate(events):
            began_ms = periods.began_ms(event, removed, self.retention, closings)
            if event.lacks in DONE[removed] or began_ms is None or began_ms > until_ms:
                continue
            size += event.body_bytes
            if len(taken) == most or (taken and size > MAX_BYTES):
                return taken, number
            taken.append(event)
        return taken, len(events)


def closings_of(transaction: Transaction, events: Iterable[Aged]) -> dict[str, int]:
    """Return when the relationship with the persons of these events ended."""
    users = {each.user_ref for each in events if isinstance(each.user_ref, str) and each.user_ref}
    return dict(transaction.look_up(_CLOSED, sorted(users))) if users else {}


def _in_order_of(at_ms: Field) -> Statement:
    return Statement(
        Event.select(at_ms, *OF_EVENT)
        .where(
            at_ms >= param("after_ms"),
            at_ms <= param("until_ms"),
            Tuple(at_ms, Event.id) > Tuple(param("after_ms"), param("after_id")),
        )
        .order_by(at_ms, Event.id)
        .limit(param("limit"))
    )


def _of_person(removed: Removed) -> Statement:
    is_put_off = PutOff.select(PutOff.id).where(
        PutOff.event_id == Event.id, PutOff.removed == removed
    )
    return Statement(
        Event.select(*OF_EVENT)
        .where(
            Event.user_ref == param("user_ref"),
            Event.received_at_ms <= param("until_ms"),
            Event.lacks.is_null() | Event.lacks.not_in(DONE[removed] or ("",)),
            ~fn.EXISTS(is_put_off),
        )
        .order_by(Event.id)
        .limit(param("limit"))
    )


_BY_RECEIPT = _in_order_of(Event.received_at_ms)
_BY_CLOSING = _in_order_of(Event.closed_at_ms)
_OF_PERSON = {removed: _of_person(removed) for removed in periods.OF_PERSONS}
AGED = Lookup(Event.select(*OF_EVENT), Event.id)
_CLOSED = Lookup(Closing.select(Closing.user_ref, Closing.at_ms), Closing.user_ref)
_CLOSINGS = Statement(
    Closing.select(Closing.at_ms, Closing.id, Closing.user_ref)
    .where(
        Closing.at_ms >= param("after_ms"),
        Closing.at_ms <= param("until_ms"),
        Tuple(Closing.at_ms, Closing.id) > Tuple(param("after_ms"), param("after_id")),
    )
    .order_by(Closing.at_ms, Closing.id)
    .limit(param("limit"))
)
_PUT_OFF = Statement(
    PutOff.select(PutOff.id, PutOff.event_id)
    .where(PutOff.removed == param("removed"), PutOff.id > param("after_id"))
    .order_by(PutOff.id)
    .limit(param("limit"))
)
