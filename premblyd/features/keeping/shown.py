"""What people are told of what is kept and what has gone: at an event, by `check` and `status`, and
as troubles."""

import functools
import shlex
from collections.abc import Iterator

from peewee import Case, Tuple, fn

from premblyd.config.models import Config
from premblyd.features.keeping import holds, trusted
from premblyd.features.keeping.retention import DONE, START, periods
from premblyd.features.keeping.settings import RETENTION, Retention, period_text
from premblyd.features.keeping.tables import (
    ErasedEvent,
    Erasure,
    ErasureFile,
    Hold,
    Removal,
    Removed,
    Sweep,
    ToErase,
)
from premblyd.ground import times
from premblyd.ground.times import DAY_MS
from premblyd.ground.words import counted
from premblyd.record import queries
from premblyd.record.events import Show, WholeEvent
from premblyd.record.told import Item, Part, Severity, Situation, Told, trouble
from premblyd.store import connections
from premblyd.store.engine import Database
from premblyd.store.states import RemovedParts
from premblyd.store.tables import Event, Rejection

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
    held = functools.partial(holds.held, event_ids=[event.id], now_ms=database.now_ms())
    on_hold = bool(database.look(held))
    query = Erasure.select(Erasure.id, Erasure.at_ms, Erasure.actor)
    query = query.join(ErasedEvent, on=ErasedEvent.erasure_id == Erasure.id)
    found = queries.tuples(database, query.where(ErasedEvent.event_id == event.id))
    deleted = [
        f"All personal data in it was erased at {times.for_people(at_ms)} UTC by {actor}"
        f" (erasure {number})."
        for number, at_ms, actor in found
    ]
    if event.removed_parts is not None and not found:
        deleted = [REMOVED_PARTS.get(event.removed_parts, f"Removed: {event.removed_parts}.")]
    return Told(
        values={"erasure_id": found[0][0] if found else None, "on_hold": on_hold},
        sentences=[*deleted, *[ON_HOLD] * on_hold],
    )


def kept(situation: Situation) -> dict[str, int | None]:
    """Return how many holds are in force, what was erased, and since when bytes of it may remain in
    the database's file."""
    is_left = Erasure.vacuumed_at_ms.is_null()
    erasures = Erasure.select(fn.COUNT(Erasure.id), fn.MIN(Case(None, [(is_left, Erasure.at_ms)])))
    [(count, since_ms)] = queries.tuples(situation.database, erasures)
    active = Hold.select(fn.COUNT(Hold.id)).where(holds.is_in_force(situation.now_ms))
    return {
        "holds": queries.value(situation.database, active),
        "erasures": count,
        "bytes_remain_since_ms": since_ms,
    }


def _of_kept(situation: Situation) -> Iterator[str]:
    found = kept(situation)
    if settings := situation.settings:
        yield from promises(settings) if periods(RETENTION.of(settings)) else ()
    if found["holds"]:
        yield f"Legal holds: {found['holds']:,}."
    if found["erasures"]:
        since = times.for_people(found["bytes_remain_since_ms"])
        told = f" Bytes of those since {since} UTC may remain in the database's file:"
        told += " `premblyd record vacuum` deletes them."
        yield f"Erasures: {found['erasures']:,}.{told if since else ''}"


def promises(settings: Config) -> Iterator[str]:
    """Yield which periods are in force."""
    yield f"Retention: {in_words(RETENTION.of(settings))}."


def in_words(retention: Retention) -> str:
    """Return which periods are in force, in a line."""
    limited = [f"{removed} {period_text(ms)}" for removed, ms in periods(retention).items()]
    return ", ".join(limited) or "nothing is deleted (no `retention`)"


BEHIND_MS = DAY_MS  # it is deleted in small steps, once it has expired
AT_WORK_MS = 2 * DAY_MS  # who has removed something so lately is at work
LOOKED_AT = 2000  # events behind a bookmark: nearly all are there still
GRACE_MS = 60_000  # an erasure that is this new may be under way


@trouble()
def retention(situation: Situation) -> Iterator[Item]:
    """Yield the classes of which something is there more than a day after its time, though nothing
    holds it, and none of which was deleted lately."""
    if situation.settings is None:
        return
    counting = functools.partial(trusted.counted_ms, wall_ms=situation.now_ms)
    now_ms = situation.database.look(counting)
    for removed, period_ms in periods(RETENTION.of(situation.settings)).items():
        oldest_ms = _oldest_ms(situation.database, removed, now_ms - period_ms - BEHIND_MS)
        newest = Removal.select(fn.MAX(Removal.day_ms)).where(Removal.removed == removed)
        last_ms = queries.value(situation.database, newest) or 0
        if oldest_ms is None or last_ms >= now_ms - AT_WORK_MS:
            continue
        days = (now_ms - oldest_ms - period_ms) // DAY_MS
        yield Item(
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
            command="premblyd sql 'SELECT * FROM erasure'",
            count=count,
        )


@trouble(reads_record=False)
def put_aside(situation: Situation) -> Iterator[Item]:
    """Yield the files that no erasure reaches."""
    files = [str(path) for path in connections.put_aside(situation.path)]
    if files:
        yield Item(
            text=f"The old database file is kept, and no erasure reaches it: {', '.join(files)}.",
            remedy="Delete it when you are sure of the new one.",
            command=f"sudo rm -r {shlex.join(files)}",
            count=len(files),
        )


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


def _oldest_ms(database: Database, removed: Removed, until_ms: int) -> int | None:
    """Return from when on the oldest counts that began before `until_ms` and is there still: of the
    events, behind the bookmark of the class."""
    if removed is Removed.REJECTIONS:
        first = Rejection.select(fn.MIN(Rejection.at_ms)).where(Rejection.at_ms <= until_ms)
        at_ms: int | None = queries.value(database, first)
        return at_ms
    bookmark = Sweep.select(Sweep.at_ms, Sweep.row_id).where(Sweep.removed == removed)
    after = next(iter(queries.tuples(database, bookmark)), START)
    rows = queries.tuples(
        database,
        Event.select(Event.received_at_ms, Event.removed_parts)
        .where(
            Event.received_at_ms.between(after[0], until_ms),
            Tuple(Event.received_at_ms, Event.id) > Tuple(*after),
        )
        .order_by(Event.received_at_ms, Event.id)
        .limit(LOOKED_AT),
    )
    return next((at_ms for at_ms, parts in rows if parts not in DONE[removed]), None)


@trouble(reminds=True)
def clock(situation: Situation) -> Iterator[Item]:
    """Yield that the clock is far from the trusted time."""
    trusted_ms = situation.database.look(
        functools.partial(trusted.read_trusted, wall_ms=situation.now_ms)
    )
    if trusted.is_apart(trusted_ms, situation.now_ms):
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


PROMISES = (promises,)
STATUS = (Part("kept", kept, _of_kept),)
OF_EVENT = (of_event,)
TROUBLES = (clock, retention, erasure, put_aside, erasure_file)
