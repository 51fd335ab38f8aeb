"""What is kept and what has gone, at a glance: periods, removals, holds and erasures. For `status`,
the console and metrics."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from peewee import SQL, Case, fn

from premblyd import times
from premblyd.config.models import Config
from premblyd.config.retention import Retention, period_text
from premblyd.engines.engine import Database
from premblyd.keep.holds import is_in_force, is_on_hold
from premblyd.keep.retention import unset
from premblyd.model.keeptables import Erasure, Hold, PutOff, Removal, Removed
from premblyd.model.tables import Event
from premblyd.record import queries
from premblyd.times import DAY_MS
from premblyd.words import counted

SOON_MS = 30 * DAY_MS
MOST_PUT_OFF = 10_000  # that are looked at
CLASSES = tuple(each.value for each in Removed)
_WENT = {
    "body": ("event's body", "events' bodies"),
    "identity": ("event's identity", "events' identities"),
    "record": ("event's record", "events' records"),
    "rejections": ("rejection", "rejections"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class LastRemoved:
    """The last day on which something of a class was removed by a period, and how much."""

    removed: str
    day_ms: int
    period_ms: int
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class KeepStatus:
    """What is kept and what has gone. `periods`: by class, None where it is kept for ever; all is
    None where the configuration is not known."""

    periods: Mapping[str, str | None] | None
    last_removed: Sequence[LastRemoved]
    removed: Mapping[str, int]  # ever, by class
    freed_bytes: int
    put_off: Mapping[str, int]  # held, waits: events of which a class has expired
    holds: int
    holds_ending: int  # within SOON_MS
    next_end_ms: int | None  # of these, the first
    erasures: int


def at_a_glance(database: Database, settings: Config | None, now_ms: int) -> KeepStatus:
    """Return how things stand. Raise StoreUnreadableError when the record can't be read."""
    retention = settings.retention if settings else None
    removed, freed_bytes = _removed(database)
    holds, ending, next_end_ms = _holds(database, now_ms)
    return KeepStatus(
        periods=None if retention is None else periods(retention),
        last_removed=_last_removed(database),
        removed=removed,
        freed_bytes=freed_bytes,
        put_off=_put_off(database, now_ms),
        holds=holds,
        holds_ending=ending,
        next_end_ms=next_end_ms,
        erasures=queries.value(database, Erasure.select(fn.COUNT(Erasure.id))),
    )


def periods(retention: Retention) -> dict[str, str | None]:
    """Return the period of each class, as the file has it; None: it is kept for ever."""
    found = {name: getattr(retention, f"{name}_ms") for name in CLASSES}
    return {name: None if ms is None else period_text(ms) for name, ms in found.items()}


def in_words(retention: Retention) -> str:
    """Return which periods are in force, in a line."""
    found = periods(retention)
    limited = [f"{name} {period}" for name, period in found.items() if period is not None]
    if not limited:
        return "nothing is deleted (no `retention`)"
    for_ever = unset(retention)
    rest = f"; for ever: {', '.join(for_ever)}" if for_ever else ""
    return f"{', '.join(limited)}{rest}"


def lines(status: KeepStatus, settings: Config | None) -> Iterator[tuple[str, str]]:
    """Yield what there is to say, each with its title. Nothing while nothing of it is used."""
    said = list(_lines(status))
    if settings is not None and (said or any(periods(settings.retention).values())):
        yield "periods", in_words(settings.retention)
    yield from said


def _lines(status: KeepStatus) -> Iterator[tuple[str, str]]:
    if status.last_removed:
        day_ms = max(each.day_ms for each in status.last_removed)
        went = [
            f"{counted(each.count, *_WENT.get(each.removed, (each.removed,)))}"
            f" ({period_text(each.period_ms)})"
            for each in status.last_removed
            if each.day_ms == day_ms
        ]
        yield "removed", f"{', '.join(went)} on {times.for_people(day_ms)[:10]}"
    words = {"held": "held", "waits": "waiting"}
    if parts := [f"{count:,} {words[why]}" for why, count in status.put_off.items() if count]:
        yield "put off", f"{counted(sum(status.put_off.values()), 'event')}: {', '.join(parts)}"
    if status.holds:
        text = f"{status.holds:,} active"
        if status.next_end_ms is not None:
            ends = "1 ends" if status.holds_ending == 1 else f"{status.holds_ending:,} end"
            first = times.for_people(status.next_end_ms)
            text += f"; {ends} within 30 days, first at {first} UTC"
        yield "holds", text
    if status.erasures:
        yield "erased", f"{status.erasures:,} at request"


def _removed(database: Database) -> tuple[dict[str, int], int]:
    query = Removal.select(Removal.removed, fn.SUM(Removal.count), fn.SUM(Removal.freed_bytes))
    found = queries.tuples(database, query.group_by(Removal.removed).order_by(Removal.removed))
    return {name: int(count) for name, count, _ in found}, sum(int(freed) for *_, freed in found)


def _last_removed(database: Database) -> list[LastRemoved]:
    newest = Removal.alias()
    last = newest.select(fn.MAX(newest.day_ms)).where(newest.removed == Removal.removed)
    query = Removal.select(*queries.columns(Removal, LastRemoved)).where(Removal.day_ms == last)
    return queries.rows(database, query.order_by(Removal.id), LastRemoved)


def _put_off(database: Database, now_ms: int) -> dict[str, int]:
    """Return of how many events something would have gone, by what keeps it."""
    some = PutOff.select(PutOff.event_id).distinct().limit(MOST_PUT_OFF).alias("some")
    held = fn.SUM(Case(None, [(is_on_hold(now_ms), 1)], 0))
    query = Event.select(fn.COUNT(Event.id), held).join(some, on=some.c.event_id == Event.id)
    [(count, of_held)] = queries.tuples(database, query)
    return {"held": int(of_held or 0), "waits": count - int(of_held or 0)}


def _holds(database: Database, now_ms: int) -> tuple[int, int, int | None]:
    """Return how many holds are in force, how many of these end soon, and when the first does."""
    ends_soon = Hold.until_ms <= now_ms + SOON_MS
    query = Hold.select(
        fn.COUNT(Hold.id),
        fn.SUM(Case(None, [(ends_soon, 1)], 0)),
        fn.MIN(Case(None, [(ends_soon, Hold.until_ms)], SQL("NULL"))),
    )
    [(count, ending, next_end_ms)] = queries.tuples(database, query.where(is_in_force(now_ms)))
    return count, int(ending or 0), next_end_ms
