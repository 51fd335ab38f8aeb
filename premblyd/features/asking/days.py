"""Which days are complete: `reconcile --day` compares a day (UTC) of Prembly's log with the record,
and keeps the result in a row that names nobody. `days` returns the rows."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from peewee import EXCLUDED, Case, fn

from premblyd.features.asking.reconciliation import LACKS, Reconciliation
from premblyd.features.asking.tables import Day as Row
from premblyd.ground import jsontext, times
from premblyd.ground.times import DAY_MS
from premblyd.ground.words import counted
from premblyd.prembly import events
from premblyd.queue.hooks import of_features
from premblyd.record import queries
from premblyd.store.engine import Database, Statement, param
from premblyd.store.states import RemovedParts
from premblyd.store.tables import Event

SHOWN = 30
NIGHTS = 7  # in which a day is asked for again
GRACE_MS = 60_000  # what is this new may be on its way
PRUNED, NOTHING = "pruned", "nothing_to_compare"
# Why a day is not complete: of these the numbers tell how many there are, ...
_COUNTED = ("unreadable", "of_another_time", *map(str, LACKS))
_REASONS = {  # ... and of these the words tell it.
    "log_not_read": "Prembly's log could not be read to its end",
    "day_not_over": "the day had not ended",
    PRUNED: "`retention` has deleted events of this day, or their references",
    "log_empty": (
        "events came, but Prembly's log has nothing: the API key may be of another account or"
        " environment"
    ),
    NOTHING: "Prembly's log has nothing of this day, and nothing came",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Day:
    """The result of a day's comparison. `reasons`: why it is not complete, in single words."""

    day: str
    day_ms: int
    read_at_ms: int
    complete: bool
    reasons: tuple[str, ...]
    counts: Mapping[str, int]

    @property
    def needs_somebody(self) -> bool:
        return not self.complete and self.reasons != (NOTHING,)

    @property
    def sentence(self) -> str:
        """Say whether it is complete, or why not."""
        if not self.complete:
            return f"{self.day} is not complete: {self.why}."
        ended = counted(self.counts.get("ended", 0), "verification")
        given_up = self.counts.get("given_up", 0)
        more = f" For {given_up:,} Prembly has no result either." if given_up else ""
        return f"{self.day} is complete: {ended} ended by Prembly's log, and none is missing.{more}"

    @property
    def why(self) -> str:
        """Say why it is not complete; empty: it is."""
        return "; ".join(
            _REASONS.get(word) or f"{self.counts.get(word, 0):,} {word.replace('_', ' ')}"
            for word in self.reasons
        )


def days(database: Database, most: int = SHOWN) -> list[Day]:
    """Return the last days that were compared, the newest first."""
    columns = (Row.day_ms, Row.read_at_ms, Row.is_complete, Row.reasons, Row.counts)
    rows = queries.tuples(database, Row.select(*columns).order_by(Row.day_ms.desc()).limit(most))
    return [_day(*row) for row in rows]


def due(database: Database, now_ms: int) -> list[int]:
    """Return the days that a night asks for, the last first: yesterday, and of the days before,
    since days are compared, those that are not complete and may still become so."""
    yesterday_ms = now_ms // DAY_MS * DAY_MS - DAY_MS
    first_ms = queries.value(database, Row.select(fn.MIN(Row.day_ms)))
    known = {each.day_ms: each for each in days(database, NIGHTS + 1)}
    return [
        day_ms
        for day_ms in range(yesterday_ms, yesterday_ms - NIGHTS * DAY_MS, -DAY_MS)
        if (day_ms == yesterday_ms or (first_ms is not None and day_ms >= first_ms))
        and not ((found := known.get(day_ms)) and (found.complete or found.reasons == (PRUNED,)))
    ]


def keep(work: Reconciliation, day_ms: int) -> Day:
    """Keep what a run has found of the day that begins at `day_ms`, and return it. Raise
    StoreUnavailableError when it can't be kept."""
    database, now_ms = work.database, work.clock.now_ms()
    came, is_nameless = _received(database, day_ms)
    counts = {**work.numbers(), "events": came}
    is_pruned = bool(counts["too_old"]) or is_nameless or _was_pruned(database, day_ms)
    reasons = [*_why_not(work, counts, day_ms, now_ms, is_pruned=is_pruned)]
    if not reasons and work.is_empty:
        reasons.append(NOTHING)
    values: dict[str, Any] = {
        "day_ms": day_ms,
        "read_at_ms": now_ms,
        "is_complete": not reasons,
        "reasons": ", ".join(reasons),
        "counts": jsontext.dumps(counts).decode(),
    }
    database.transact(lambda transaction: transaction.write(_KEEP, **values))
    return _day(*values.values())


def _day(day_ms: int, read_at_ms: int, is_complete: Any, reasons: str, counts: str) -> Day:
    return Day(
        day=times.day(day_ms),
        day_ms=day_ms,
        read_at_ms=read_at_ms,
        complete=bool(is_complete),
        reasons=tuple(filter(None, reasons.split(", "))),
        counts=orjson.loads(counts),
    )


def _why_not(
    work: Reconciliation,
    counts: Mapping[str, int],
    day_ms: int,
    now_ms: int,
    *,
    is_pruned: bool,
) -> Iterator[str]:
    """Yield why the day is not complete; nothing: it is."""
    log = work.log
    if not log.is_whole:
        yield "log_not_read"
    if day_ms + DAY_MS + GRACE_MS > now_ms:
        yield "day_not_over"
    if is_pruned:
        yield PRUNED
    yield from (word for word in _COUNTED if counts[word])
    if log.is_whole and counts["events"] and not log.entries:
        yield "log_empty"


def _received(database: Database, day_ms: int) -> tuple[int, bool]:
    """Return how many events of verifications came on the day, and whether `retention` has removed
    what names any."""
    is_nameless = fn.MAX(Case(None, [(Event.removed_parts == RemovedParts.IDENTITY, 1)], 0))
    query = (
        Event.select(Event.type, fn.COUNT(Event.id), is_nameless)
        .where(Event.received_at_ms >= day_ms, Event.received_at_ms < day_ms + DAY_MS)
        .group_by(Event.type)
    )
    found = queries.tuples(database, query)
    came = sum(count for type_, count, _ in found if events.is_about_verification(type_ or ""))
    return came, any(is_nameless for *_, is_nameless in found)


def _was_pruned(database: Database, day_ms: int) -> bool:
    """Return whether `retention` may have removed events of this day, or what names them."""
    return any(until(database) > day_ms for until in of_features("REMOVED_UNTIL"))


_VALUES = ("day_ms", "read_at_ms", "is_complete", "reasons", "counts")
_KEEP = Statement(
    Row.insert({getattr(Row, name): param(name) for name in _VALUES}).on_conflict(
        conflict_target=[Row.day_ms],
        update={getattr(Row, name): getattr(EXCLUDED, name) for name in _VALUES[1:]},
    )
)
