"""What people are told of what is kept and what has gone: at an event, by `check` and `status`, in
metrics, and as troubles."""

import functools
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peewee import Case, Expression, Tuple, fn

from premblyd.config.models import Config
from premblyd.feature import added
from premblyd.features.keeping.holds import is_in_force, is_on_hold
from premblyd.features.keeping.listing import ErasureRow
from premblyd.features.keeping.retention import unset
from premblyd.features.keeping.settings import RETENTION, Retention, period_text
from premblyd.features.keeping.tables import (
    ErasedEvent,
    Erasure,
    ErasureFile,
    Hold,
    PutOff,
    Removal,
    Removed,
    Sweep,
    ToErase,
)
from premblyd.ground import times
from premblyd.ground.databases import is_plain, key_of
from premblyd.ground.times import DAY_MS
from premblyd.ground.words import counted, size
from premblyd.queue import heartbeat
from premblyd.record import events, queries
from premblyd.record.events import Show, WholeEvent
from premblyd.record.told import Family, Item, Part, Severity, Situation, Told, trouble
from premblyd.store import connections
from premblyd.store.engine import Database
from premblyd.store.states import RemovedParts
from premblyd.store.tables import Event, Rejection

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


REMOVED_PARTS: dict[str, str] = {
    RemovedParts.BODY: "Its body and headers, and what hooks printed, were deleted when their"
    " retention period expired.",
    RemovedParts.IDENTITY: "All personal data in it was deleted when its retention period expired.",
    RemovedParts.ERASED: "All personal data in it was erased.",
}
ON_HOLD = (
    "It is on legal hold: none of it is deleted until the hold ends"
    " (`premblyd person hold --list`)."
)


def of_event(database: Database, event: WholeEvent, _: Show, __: Config | None) -> Told:
    """Return how an event stands."""
    held = Event.select(Event.id).where(Event.id == event.id, is_on_hold(database.now_ms()))
    on_hold = bool(queries.tuples(database, held))
    query = Erasure.select(*queries.columns(Erasure, ErasureRow))
    query = query.join(ErasedEvent, on=ErasedEvent.erasure_id == Erasure.id)
    found = queries.rows(database, query.where(ErasedEvent.event_id == event.id), ErasureRow)
    return Told(
        values={"erasure_id": next((each.id for each in found), None), "on_hold": on_hold},
        sentences=[*_deleted(event, found), *[ON_HOLD] * on_hold],
    )


def _deleted(event: WholeEvent, found: Sequence[ErasureRow]) -> Iterator[str]:
    for erasure in found:
        is_late = event.received_at_ms > erasure.at_ms
        at, who = times.for_people(erasure.at_ms), erasure.actor
        came = " It came after that, and was stored without it." if is_late else ""
        erased = f"erased at {at} UTC by {who} (erasure {erasure.id})."
        yield f"All personal data in it was {erased}{came}"
    if event.removed_parts is not None and not found:
        yield REMOVED_PARTS.get(event.removed_parts, f"Removed: {event.removed_parts}.")


def _kept(situation: Situation) -> KeepStatus:
    return at_a_glance(situation.database, situation.settings, situation.now_ms)


def _of_kept(situation: Situation) -> Iterator[str]:
    for title, text in lines(_kept(situation), situation.settings):
        yield f"{title.capitalize()}: {text}."


def promises(settings: Config) -> Iterator[str]:
    """Yield which periods are in force."""
    yield f"Retention: {in_words(RETENTION.of(settings))}."


def as_json(settings: Config) -> dict[str, Any]:
    """Return the same for programs."""
    return {"retention": periods(RETENTION.of(settings))}


def of_keeping(situation: Situation) -> Iterator[Family]:
    """Yield how much is held, and was erased."""
    kept = at_a_glance(situation.database, situation.settings, situation.now_ms)
    yield Family("premblyd_holds", "Holds that are in force.", kept.holds)
    yield Family("premblyd_erasures", "Erasures at request.", kept.erasures, is_counter=True)


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


BEHIND_MS = DAY_MS  # it is deleted in small steps, once it has expired
AT_WORK_MS = 2 * DAY_MS  # who has removed something so lately is at work
LOOKED_AT = 2000  # events behind a bookmark: nearly all are there still
GRACE_MS = 60_000  # an erasure that is this new may be under way


@trouble(needs_nobody=("class is being deleted", "classes are being deleted"))
def retention(situation: Situation) -> Iterator[Item]:
    """Yield the classes of which something is there more than a day after its time, though nothing
    holds it."""
    settings = situation.settings
    if settings is None:
        return
    counting = functools.partial(heartbeat.counted_ms, wall_ms=situation.now_ms)
    now_ms = situation.database.look(counting)
    for removed in CLASSES:
        period_ms = getattr(RETENTION.of(settings), f"{removed}_ms")
        if period_ms is None:
            continue
        until_ms = now_ms - period_ms - BEHIND_MS
        oldest_ms = _oldest_ms(situation, removed, until_ms)
        if oldest_ms is None:
            continue
        newest = Removal.select(fn.MAX(Removal.day_ms)).where(Removal.removed == removed)
        last_ms = queries.value(situation.database, newest) or 0
        is_at_work = last_ms >= now_ms - AT_WORK_MS
        days = (now_ms - oldest_ms - period_ms) // DAY_MS
        yield Item(
            severity=Severity.NOTICE if is_at_work else Severity.WARNING,
            text=f"Retention is behind with {removed}: some of it is still there,"
            f" {counted(days, 'day')} after it expired.",
            remedy="Is the daemon running, and can it write? The log says why (retention.failed)."
            " `prune` deletes all of it now.",
            command="sudo -u premblyd premblyd record prune",
            about=removed,
        )


@trouble()
def erasure(situation: Situation) -> Iterator[Item]:
    """Yield erasures that were begun and not ended."""
    begun = fn.EXISTS(ToErase.select(ToErase.id).where(ToErase.erasure_id == Erasure.id))
    query = Erasure.select(fn.COUNT(Erasure.id), fn.MIN(Erasure.at_ms)).where(
        begun, Erasure.at_ms <= situation.now_ms - GRACE_MS
    )
    [(count, since_ms)] = queries.tuples(situation.database, query)
    if count:
        yield Item(
            text=f"{counted(count, 'erasure was', 'erasures were')} begun but not finished, since"
            f" {times.for_people(since_ms)} UTC: some of it is still there.",
            remedy="If no `premblyd person erase` runs now, one was stopped before it was done:"
            " run the same command again to continue.",
            command="premblyd person erase --list",
            count=count,
        )


@trouble(reads_record=False)
def put_aside(situation: Situation) -> Iterator[Item]:
    """Yield the files that no erasure reaches."""
    paths = connections.put_aside(situation.path)
    files = [str(path) for path in paths]
    if files:
        has_key = situation.settings is not None and key_of(situation.settings.database)
        note = " It is NOT encrypted." if has_key and any(map(_is_plain, paths)) else ""
        yield Item(
            text=f"The old database file is kept, and no erasure reaches it:"
            f" {', '.join(files)}.{note}",
            remedy="Delete it when you are sure of the new one.",
            command=f"sudo rm -r {shlex.join(files)}",
            count=len(files),
        )


def _is_plain(path: Path) -> bool:
    try:
        return is_plain(path) is True
    except OSError:  # this user may not read it
        return False


@trouble()
def erasure_file(situation: Situation) -> Iterator[Item]:
    """Yield the files that lack erasures, and those that know more of them than the record."""
    query = ErasureFile.select(ErasureFile.file, ErasureFile.unknown, ErasureFile.error)
    for file, unknown, error in queries.tuples(situation.database, query):
        if unknown:
            yield Item(
                text=f"People who were erased are back, as {file} says: a copy was put in.",
                remedy="Stop the daemon, and erase them again.",
                command="sudo -u premblyd premblyd record restore --erase-again",
                about=file,
            )
        if error:
            yield Item(
                text=f"Who was erased may come back with a copy. {error}",
                remedy="Mount the folder, or let the service write there (ReadWritePaths=).",
                command=f"ls -l {shlex.quote(file)}",
                about=file,
            )


def _oldest_ms(situation: Situation, removed: str, until_ms: int) -> int | None:
    """Return from when on the oldest counts that began before `until_ms` and is there still."""
    if removed == "rejections":
        first = Rejection.select(Rejection.at_ms).where(Rejection.at_ms <= until_ms)
        at_ms: int | None = queries.value(situation.database, first.order_by(Rejection.at_ms))
        return at_ms
    next_ = (
        Event.select(Event.id, Event.received_at_ms, Event.removed_parts)
        .where(_is_behind(situation, removed, until_ms))
        .order_by(Event.received_at_ms, Event.id)
        .limit(LOOKED_AT)
        .alias("next")
    )
    is_put_off = PutOff.select(PutOff.id).where(
        PutOff.event_id == next_.c.id, PutOff.removed == removed
    )
    is_there = next_.c.removed_parts.is_null() | next_.c.removed_parts.not_in(_lack_it(removed))
    query = Event.select(fn.MIN(next_.c.received_at_ms)).from_(next_)
    query = query.where(is_there, ~fn.EXISTS(is_put_off))
    at_ms = queries.value(situation.database, query)
    return at_ms


def _is_behind(situation: Situation, removed: str, until_ms: int) -> Expression:
    """Return the condition that an event is behind the bookmark of a class, and that old."""
    query = Sweep.select(Sweep.at_ms, Sweep.row_id).where(Sweep.removed == removed)
    found = queries.tuples(situation.database, query)
    at_ms, number = Event.received_at_ms, Event.id
    condition: Expression = at_ms <= until_ms
    if found:
        after_ms, after_id = found[0]
        condition &= (at_ms >= after_ms) & (Tuple(at_ms, number) > Tuple(after_ms, after_id))
    return condition


def _lack_it(removed: str) -> list[str]:
    """Return what events lack that have nothing of this class any more."""
    names = [each.value for each in RemovedParts]
    return names[names.index(removed) :] if removed in names else [""]


@trouble(reminds=True)
def clock(situation: Situation) -> Iterator[Item]:
    """Yield that the clock is far from the trusted time; and that the record has what is yet to
    come, by more than a clock is wrong that somebody looks after."""
    trusted_ms = situation.database.look(
        functools.partial(heartbeat.read_trusted, wall_ms=situation.now_ms)
    )
    if heartbeat.is_apart(trusted_ms, situation.now_ms):
        now, passed = times.for_people(situation.now_ms), times.for_people(trusted_ms)
        yield Item(
            severity=Severity.URGENT,
            text=f"The clock says {now} UTC, but by the time that has passed it should be {passed}"
            " UTC: `retention` counts from the earlier.",
            remedy="If `timedatectl` shows the wrong time, set it. If it is right (no daemon ran"
            " for days, say), the difference shrinks by a day each day; this command ends it at"
            " once, and deletes what has expired by the clock.",
            command="sudo -u premblyd premblyd record prune --trust-clock",
            about="trusted time",
        )
    latest_ms = events.latest_ms(situation.database)
    if latest_ms is not None and latest_ms - situation.now_ms >= DAY_MS:
        now, latest = times.for_people(situation.now_ms), times.for_people(latest_ms)
        yield Item(
            severity=Severity.URGENT,
            text=f"The clock says {now} UTC, but an event was received at {latest} UTC: it is"
            " wrong now, or was then.",
            remedy="`timedatectl` shows the time, and whether it is synchronised.",
            command="timedatectl",
        )


PROMISES = (promises,)
KEYS = (as_json,)
STATUS = (Part("kept", _kept, _of_kept),)
OF_EVENT = (of_event,)
FAMILIES = (of_keeping,)
TROUBLES = (clock, retention, erasure, put_aside, erasure_file)
