"""Trouble with what is kept: what should have been deleted is there still."""

import functools
from collections.abc import Iterator
from typing import Any

from peewee import Expression, Tuple, fn

from premblyd import times
from premblyd.config.retention import Retention
from premblyd.model.keeptables import Closing, Erasure, Lacks, PutOff, Removal, Sweep, ToErase
from premblyd.model.tables import Event, Rejection
from premblyd.queue import trusted
from premblyd.record import queries
from premblyd.record.keepstatus import CLASSES
from premblyd.record.troubles.trouble import Item, Severity, Situation, trouble
from premblyd.times import DAY_MS
from premblyd.words import counted

BEHIND_MS = DAY_MS  # it goes in small steps, once its time is over
AT_WORK_MS = 2 * DAY_MS  # who has removed something so lately is at work
LOOKED_AT = 2000  # events behind a bookmark: nearly all are there still
GRACE_MS = 60_000  # an erasure that is this new may be under way
CLOSED = ("identity", "record")  # what may count from the end of a relationship


@trouble(needs_nobody=("class is being removed", "classes are being removed"))
def retention(situation: Situation) -> Iterator[Item]:
    """Yield the classes of which something is there more than a day after its time, though nothing
    holds it."""
    settings = situation.settings
    if settings is None:
        return
    counting = functools.partial(trusted.counted_ms, wall_ms=situation.now_ms)
    now_ms = situation.database.look(counting)
    for removed in CLASSES:
        period_ms = getattr(settings.retention, f"{removed}_ms")
        if period_ms is None:
            continue
        until_ms = now_ms - period_ms - BEHIND_MS
        oldest_ms = _oldest_ms(situation, settings.retention, removed, until_ms)
        if oldest_ms is None:
            continue
        newest = Removal.select(fn.MAX(Removal.day_ms)).where(Removal.removed == removed)
        last_ms = queries.time(queries.value(situation.database, newest)) or 0
        is_at_work = last_ms >= now_ms - AT_WORK_MS
        days = (now_ms - oldest_ms - period_ms) // DAY_MS
        yield Item(
            severity=Severity.NOTICE if is_at_work else Severity.WARNING,
            text=f"Retention is behind with {removed}: some of it is there"
            f" {counted(days, 'day')} after its time was over.",
            remedy="Does the daemon run, and can it write? The log says why, as retention.failed."
            " `prune` does all of it now.",
            command="sudo -u premblyd premblyd prune",
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
            text=f"{counted(count, 'erasure was', 'erasures were')} begun and not ended, since"
            f" {times.for_people(since_ms)} UTC: some of it is still there.",
            remedy="If no `premblyd erase` runs now, one was ended before it was done: give the"
            " same command again, and it goes on.",
            command="premblyd erase --list",
            count=count,
        )


def _oldest_ms(
    situation: Situation, retention: Retention, removed: str, until_ms: int
) -> int | None:
    """Return from when on the oldest counts that began before `until_ms` and is there still."""
    if removed == "rejections":
        first = Rejection.select(Rejection.at_ms).where(Rejection.at_ms <= until_ms)
        return queries.time(queries.value(situation.database, first.order_by(Rejection.at_ms)))
    is_of_closings = retention.counts_from == "closed" and removed in CLOSED
    found = [_oldest_received_ms(situation, removed, until_ms, without_person=is_of_closings)]
    if is_of_closings:
        found.append(_oldest_closing_ms(situation, removed, until_ms))
    return min((at_ms for at_ms in found if at_ms is not None), default=None)


def _oldest_received_ms(
    situation: Situation, removed: str, until_ms: int, *, without_person: bool
) -> int | None:
    columns = (Event.id, Event.received_at_ms, Event.lacks, Event.user_ref, Event.closed_at_ms)
    next_ = (
        Event.select(*columns)
        .where(_is_behind(situation, removed, Event.received_at_ms, Event.id, until_ms))
        .order_by(Event.received_at_ms, Event.id)
        .limit(LOOKED_AT)
        .alias("next")
    )
    is_put_off = PutOff.select(PutOff.id).where(
        PutOff.event_id == next_.c.id, PutOff.removed == removed
    )
    is_there = next_.c.lacks.is_null() | next_.c.lacks.not_in(_lack_it(removed))
    query = Event.select(fn.MIN(next_.c.received_at_ms)).from_(next_)
    query = query.where(is_there, ~fn.EXISTS(is_put_off))
    if without_person:
        query = query.where(next_.c.user_ref.is_null(), next_.c.closed_at_ms.is_null())
    return queries.time(queries.value(situation.database, query))


def _oldest_closing_ms(situation: Situation, removed: str, until_ms: int) -> int | None:
    is_behind = _is_behind(situation, f"{removed} closings", Closing.at_ms, Closing.id, until_ms)
    noted_ms = situation.now_ms - BEHIND_MS
    query = Closing.select(fn.MIN(Closing.at_ms)).where(is_behind, Closing.noted_at_ms <= noted_ms)
    return queries.time(queries.value(situation.database, query))


def _is_behind(
    situation: Situation, bookmark: str, at_ms: Any, number: Any, until_ms: int
) -> Expression:
    """Return the condition that a row is behind a bookmark, and that old."""
    query = Sweep.select(Sweep.at_ms, Sweep.row_id).where(Sweep.removed == bookmark)
    found = queries.tuples(situation.database, query)
    condition: Expression = at_ms <= until_ms
    if found:
        after_ms, after_id = found[0]
        condition &= (at_ms >= after_ms) & (Tuple(at_ms, number) > Tuple(after_ms, after_id))
    return condition


def _lack_it(removed: str) -> list[str]:
    """Return what events lack that have nothing of this class any more."""
    names = [each.value for each in Lacks]
    return names[names.index(removed) :] if removed in names else [""]
