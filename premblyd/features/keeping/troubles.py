"""Troubles of retention and erasure: data is still there that should have been deleted, or the
clock by which periods are counted is wrong."""

import functools
import shlex
from collections.abc import Iterator
from pathlib import Path

from peewee import Expression, Tuple, fn

from premblyd.features.keeping.keepstatus import CLASSES
from premblyd.features.keeping.settings import RETENTION
from premblyd.features.keeping.tables import (
    Erasure,
    ErasureFile,
    PutOff,
    Removal,
    Sweep,
    ToErase,
)
from premblyd.ground import times
from premblyd.ground.databases import is_plain, key_of
from premblyd.ground.times import DAY_MS
from premblyd.ground.words import counted
from premblyd.queue import trusted
from premblyd.record import events, queries
from premblyd.record.troubles.trouble import Item, Severity, Situation, trouble
from premblyd.store import connections
from premblyd.store.states import RemovedParts
from premblyd.store.tables import Event, Rejection

BEHIND_MS = DAY_MS  # it is deleted in small steps, once it has expired
AT_WORK_MS = 2 * DAY_MS  # who has removed something so lately is at work
LOOKED_AT = 2000  # events behind a bookmark: nearly all are there still
GRACE_MS = 60_000  # an erasure that is this new may be under way


@trouble(
    means="expired data has not been deleted",
    needs_nobody=("class is being deleted", "classes are being deleted"),
)
def retention(situation: Situation) -> Iterator[Item]:
    """Yield the classes of which something is there more than a day after its time, though nothing
    holds it."""
    settings = situation.settings
    if settings is None:
        return
    counting = functools.partial(trusted.counted_ms, wall_ms=situation.now_ms)
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


@trouble(means="an erasure was not finished")
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


@trouble(means="an old database file is kept, and no erasure reaches it", reads_record=False)
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


@trouble(means="a file does not remember an erasure, or the database does not")
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


@trouble(means="the clock is far off, or was", reminds=True)
def clock(situation: Situation) -> Iterator[Item]:
    """Yield that the clock is far from the trusted time; and that the record has what is yet to
    come, by more than a clock is wrong that somebody looks after."""
    trusted_ms = situation.database.look(functools.partial(trusted.read, wall_ms=situation.now_ms))
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


TROUBLES = (clock, retention, erasure, put_aside, erasure_file)
