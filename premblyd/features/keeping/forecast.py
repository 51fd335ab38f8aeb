"""Counts what `retention` would delete now, and what has expired but is kept for now."""

import functools
import itertools
import operator
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from peewee import Tuple, fn

from premblyd.features.keeping import removing
from premblyd.features.keeping.holds import is_on_hold
from premblyd.features.keeping.retention import (
    DONE,
    OF_EVENT,
    START,
    STRONGEST_FIRST,
    Aged,
    periods,
)
from premblyd.features.keeping.settings import Retention
from premblyd.features.keeping.tables import Removed
from premblyd.ground import times
from premblyd.record import queries
from premblyd.store.engine import Database
from premblyd.store.states import FINISHED, State
from premblyd.store.tables import Delivery, Event, Rejection


class Why(StrEnum):
    """Why something stays although it has expired."""

    WAITS = "waits"  # a delivery waits, or holds a line, or Prembly is asked what became of it
    RUNS = "runs"  # a hook
    HOLD = "hold"  # `premblyd person hold`


@dataclass(frozen=True, slots=True, kw_only=True)
class Going:
    """What goes of the events of a month, or of its refused requests."""

    removed: str
    month: str
    count: int
    body_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PutOffCount:
    """What of a class has expired and stays."""

    removed: str
    why: str
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """What would go now, and what is put off. An event counts once: where a record goes, its body
    goes too."""

    going: list[Going]
    put_off: list[PutOffCount]


def forecast(database: Database, retention: Retention, now_ms: int) -> Forecast:
    """Return what would go now. Raise StoreUnreadableError when the record can't be read."""
    counts: Counter[tuple[Removed, str]] = Counter()
    sizes: Counter[tuple[Removed, str]] = Counter()
    put_off: Counter[tuple[Removed, Why]] = Counter()
    until = {each: now_ms - period for each, period in periods(retention).items()}
    for event, kept_from_ms, why in _old_events(database, until, now_ms):
        for removed in STRONGEST_FIRST:
            if removed not in until or kept_from_ms > until[removed]:
                continue
            if event.removed_parts in DONE[removed]:
                continue
            if why is not None:
                put_off[removed, why] += 1
            else:
                place = (removed, times.month(event.received_at_ms))
                counts[place] += 1
                sizes[place] += event.body_bytes
            break
    if (end_ms := until.get(Removed.REJECTIONS)) is not None:
        found = Rejection.select(Rejection.at_ms).where(Rejection.at_ms <= end_ms)
        counts.update(
            (Removed.REJECTIONS, times.month(at_ms)) for (at_ms,) in queries.tuples(database, found)
        )
    return Forecast(
        going=[
            Going(removed=place[0], month=place[1], count=count, body_bytes=sizes[place])
            for place, count in sorted(counts.items(), key=lambda each: _order(*each[0]))
        ],
        put_off=[
            PutOffCount(removed=removed, why=why, count=count)
            for (removed, why), count in sorted(put_off.items(), key=lambda each: _order(*each[0]))
        ],
    )


def _order(removed: Removed, text: str) -> tuple[int, str]:
    return list(Removed).index(removed), text


def _old_events(
    database: Database, until: dict[Removed, int], now_ms: int
) -> Iterator[tuple[Aged, int, Why | None]]:
    """Yield the events for which any class may be over, each with the time from which it
    counts, and why it stays; in portions, as while one is read SQLite's log can't be emptied."""
    ends_ms = [end_ms for removed, end_ms in until.items() if removed is not Removed.REJECTIONS]
    after = START
    while ends_ms:
        rows = queries.tuples(
            database,
            Event.select(*OF_EVENT, Event.kept_from_ms, _RUNS, _WAITS, is_on_hold(now_ms))
            .where(
                Event.received_at_ms >= after.at_ms,
                Event.received_at_ms <= max(ends_ms),
                Tuple(Event.received_at_ms, Event.id) > Tuple(*after),
            )
            .order_by(Event.received_at_ms, Event.id)
            .limit(queries.MOST_ROWS),
        )
        for *columns, late_ms, runs, waits, is_held_now in rows:
            reasons = ((runs, Why.RUNS), (waits, Why.WAITS), (is_held_now, Why.HOLD))
            why = next((why for is_so, why in reasons if is_so), None)
            event = Aged(*columns)
            yield event, max(event.received_at_ms, late_ms or 0), why
        if len(rows) < queries.MOST_ROWS:
            return
        after = START._replace(at_ms=rows[-1][1], row_id=rows[-1][0])


def _has(table: Any, condition: Any) -> Any:
    """Return the condition that an event has such a row. (Counted: of an EXISTS, PostgreSQL would
    make a table of all such rows first, and read all of them for each thousand events.)"""
    return table.select(fn.COUNT(table.id)).where(table.event == Event.id, condition) > 0


_STATE = fn.COALESCE(Delivery.state, "")  # else SQLite looks through all of a state, ever
_RUNS = _has(Delivery, _STATE == State.RUNNING)
_IS_OPEN = _STATE.not_in(FINISHED) | ((_STATE == State.DEAD) & Delivery.blocks_order)
_WAITS = functools.reduce(
    operator.or_, itertools.starmap(_has, [(Delivery, _IS_OPEN), *removing.WAITING])
)
