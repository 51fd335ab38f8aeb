"""What is kept and what has gone, at a glance: periods, holds, erasures and copies. For `status`,
the console and metrics."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from peewee import Case, fn

from premblyd.config.models import Config
from premblyd.feature import added
from premblyd.features.keeping.holds import is_in_force
from premblyd.features.keeping.retention import unset
from premblyd.features.keeping.settings import RETENTION, Retention, period_text
from premblyd.features.keeping.tables import Erasure, Hold, Removed
from premblyd.ground import times
from premblyd.ground.words import counted, size
from premblyd.record import queries
from premblyd.store.engine import Database

CLASSES = tuple(each.value for each in Removed)


@dataclass(frozen=True, slots=True, kw_only=True)
class CopiesFolder:
    """A folder with copies, and the newest that was made there; None: there was none yet."""

    folder: str
    file: str | None
    file_bytes: int | None
    copied_at_ms: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class KeepStatus:
    """What retention keeps and has deleted. `periods`: by class, None if it is kept for ever; all
    is None if the configuration is not known. `unvacuumed`: erasures of which bytes may remain in
    the database's file."""

    periods: Mapping[str, str | None] | None
    holds: int
    next_end_ms: int | None  # when the first of these ends
    erasures: int
    unvacuumed: int
    unvacuumed_since_ms: int | None
    copies: list[CopiesFolder]


def at_a_glance(database: Database, settings: Config | None, now_ms: int) -> KeepStatus:
    """Return how things stand. Raise StoreUnreadableError when the record can't be read."""
    retention = RETENTION.of(settings) if settings else None
    in_force = Hold.select(fn.COUNT(Hold.id), fn.MIN(Hold.until_ms)).where(is_in_force(now_ms))
    [(holds, next_end_ms)] = queries.tuples(database, in_force)
    since_ms = fn.MIN(Case(None, [(Erasure.vacuumed_at_ms.is_null(), Erasure.at_ms)]))
    vacuumed = fn.COUNT(Erasure.vacuumed_at_ms)
    [(erasures, done, unvacuumed_since_ms)] = queries.tuples(
        database, Erasure.select(fn.COUNT(Erasure.id), vacuumed, since_ms)
    )
    return KeepStatus(
        periods=None if retention is None else periods(retention),
        holds=holds,
        next_end_ms=next_end_ms,
        erasures=erasures,
        unvacuumed=erasures - done,
        unvacuumed_since_ms=unvacuumed_since_ms,
        copies=[each for table in added("tables", "COPIES") for each in _copies(database, table)],
    )


def _copies(database: Database, table: Any) -> list[CopiesFolder]:
    query = table.select(*queries.columns(table, CopiesFolder)).order_by(table.folder)
    return queries.rows(database, query, CopiesFolder)


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
    is_used = status.holds or status.erasures
    retention = RETENTION.of(settings) if settings else None
    if retention is not None and (is_used or any(periods(retention).values())):
        yield "periods", in_words(retention)
    if status.holds:
        ends_ms = status.next_end_ms
        first = "" if ends_ms is None else f"; the first ends at {times.for_people(ends_ms)} UTC"
        yield "holds", f"{status.holds:,} active{first}"
    if status.erasures:
        told = f"{status.erasures:,} at request"
        if since_ms := status.unvacuumed_since_ms:
            count, since = counted(status.unvacuumed, "erasure"), times.for_people(since_ms)
            told += f"; bytes of {count} since {since} UTC may remain in the database's file:"
            told += " `premblyd record vacuum` deletes them"
        yield "erased", told
    for copy in status.copies:
        if copy.file is not None:
            at, large = times.for_people(copy.copied_at_ms), size(copy.file_bytes)
            yield "newest copy", f"{copy.folder}/{copy.file}, of {at} UTC, {large}"
