"""premblyd record prune: deletes data whose retention period has expired, or counts it. And
`vacuum`, which writes the database anew, without bytes of erased data."""

import functools
import itertools
import operator
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Any

import click
from peewee import Tuple, fn

from premblyd.cli import caller, config_option, json_option
from premblyd.cli.caller import actor
from premblyd.cli.common import database_of, open_to_change, open_to_read
from premblyd.cli.printing import Column, print_json, print_rows, print_told, progress
from premblyd.config.load import load_config
from premblyd.features.keeping import removing, vacuuming
from premblyd.features.keeping.holds import is_on_hold
from premblyd.features.keeping.retention import (
    DONE,
    OF_EVENT,
    START,
    STRONGEST_FIRST,
    Aged,
    begin_anew,
    periods,
)
from premblyd.features.keeping.settings import RETENTION, Retention
from premblyd.features.keeping.shown import in_words
from premblyd.features.keeping.sweeping import Round, work_off
from premblyd.features.keeping.tables import KeptFrom, Removed
from premblyd.ground import logs, times
from premblyd.ground.errors import PremblydError
from premblyd.ground.words import counted, size
from premblyd.queue import heartbeat
from premblyd.queue.heartbeat import machine_start, machine_time
from premblyd.record import queries
from premblyd.record.operating import write_down
from premblyd.store.connections import backend
from premblyd.store.engine import Database, Transaction
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
            Event.select(*OF_EVENT, _KEPT_FROM, _RUNS, _WAITS, is_on_hold(now_ms))
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


_KEPT_FROM = KeptFrom.select(KeptFrom.at_ms).where(KeptFrom.event_id == Event.id)
_STATE = fn.COALESCE(Delivery.state, "")  # else SQLite looks through all of a state, ever
_RUNS = _has(Delivery, _STATE == State.RUNNING)
_IS_OPEN = _STATE.not_in(FINISHED) | removing.IS_NEEDED
_WAITS = functools.reduce(
    operator.or_, itertools.starmap(_has, [(Delivery, _IS_OPEN), *removing.WAITING])
)


NOTHING = (
    "Nothing to delete: the configuration has no `retention`, so everything is kept. The sample"
    " configuration (`premblyd init`) shows it."
)
GOING = (
    Column("class", "removed", kind="whole"),
    Column("month received", "month", kind="whole"),
    Column("count", kind="whole"),
    Column("bytes", "body_bytes", rank=1, kind="whole"),
)
WORDS: dict[str, str] = {
    "waits": "waits: a delivery has not ended, or blocks later ones, or Prembly is asked about it",
    "runs": "runs",
    "hold": "is on legal hold: `premblyd person hold --list`",
}
PUT_OFF = (
    Column("class", "removed", kind="whole"),
    Column("why", lambda each: caller.as_called(WORDS[each.why])),
    Column("count", kind="whole"),
)


@click.command()
@click.option("--dry-run", is_flag=True, help="Count what would be deleted, and delete nothing.")
@click.option("--yes", is_flag=True, help="Don't ask for confirmation.")
@click.option(
    "--trust-clock",
    is_flag=True,
    help="The clock is right, although it differs from the time that has passed: use it.",
)
@config_option
@json_option
def prune(config_path: Path, *, dry_run: bool, yes: bool, trust_clock: bool, as_json: bool) -> None:
    """The daemon does this by itself; this command does it now, also while a daemon runs, and is
    recorded. It can't be undone.

    Events that wait, run or are on legal hold are kept. --dry-run counts what would be deleted, by
    class and month of receipt, and lists what is kept for now, and why.
    """
    settings = load_config(config_path, look_up_secrets=False)
    retention = RETENTION.of(settings)
    if not periods(retention) and not trust_clock:
        none = {"would_remove": []} if dry_run else {"removed": {}, "freed_bytes": 0}
        print_told({**none, "put_off": []}, NOTHING, as_json=as_json)
        return
    database = (open_to_read if dry_run else open_to_change)(settings.database)
    wall_ms = database.now_ms()
    trusted_ms = database.look(partial(heartbeat.read_trusted, wall_ms=wall_ms))
    now, passed = times.for_people(wall_ms), times.for_people(trusted_ms)
    words = f"the clock says {now} UTC, but by the time that has passed it should be {passed} UTC"
    is_apart = heartbeat.is_apart(trusted_ms, wall_ms)
    if is_apart and not dry_run and not trust_clock:
        raise PremblydError(
            f"Nothing was deleted: {words}. If the clock is wrong, set it. If it is right,"
            " `premblyd record prune --trust-clock` deletes what has expired by the"
            " clock. Add `--dry-run` to count it first."
        )
    now_ms = wall_ms if trust_clock else min(wall_ms, trusted_ms)
    found = forecast(database, retention, now_ms)
    total = sum(each.count for each in found.going)
    if trust_clock or is_apart:
        by = "by the clock" if trust_clock else "by the earlier"
        click.echo(f"{words}: {counted(total, 'row')} would be deleted {by}.", err=True)
    if dry_run:
        _print_forecast(found, as_json)
        return
    if total and not yes and sys.stdin.isatty():
        question = f"Delete what has expired in {counted(total, 'row')}? It can't be undone."
        click.confirm(question, abort=True, err=True)
    if trust_clock:
        database.transact(partial(_trust_clock, wall_ms=wall_ms, note=words))
    round_ = _remove(database, retention, now_ms, total, silent=as_json)
    _report(round_, found, as_json)


def _trust_clock(transaction: Transaction, wall_ms: int, note: str) -> None:
    """Have periods count back from what the clock says now."""
    heartbeat.write_trusted(transaction, machine_time(wall_ms, machine_start()))
    write_down(transaction, actor(), "trust-clock", wall_ms, note)


def _remove(
    database: Database, retention: Retention, now_ms: int, total: int, *, silent: bool
) -> Round:
    """Do a whole round, from the beginning, and return it."""
    who, words = actor(), in_words(retention)
    database.transact(lambda transaction: write_down(transaction, who, "prune", now_ms, words))
    database.transact(begin_anew)
    round_ = Round(retention, with_eventless=True)
    logs.configure("auto", "error")  # each try that fails
    with progress(silent=silent) as shown:
        task = shown.add_task("deleting", total=total)
        try:
            for done in work_off(database, round_, now_ms):
                shown.advance(task, done.count)
        except KeyboardInterrupt:
            gone = sum(round_.removed.values())
            raise PremblydError(
                f"Interrupted after {counted(gone, 'row')}; nothing is half deleted. The daemon, or"
                " `premblyd record prune`, continues."
            ) from None
    return round_


def _report(round_: Round, found: Forecast, as_json: bool) -> None:
    removed = {str(name): count for name, count in round_.removed.items()}
    if as_json:
        freed_bytes = sum(round_.freed_bytes.values())
        print_json({"removed": removed, "freed_bytes": freed_bytes, "put_off": found.put_off})
        return
    gone = [f"{name} {count}" for name, count in removed.items() if count]
    click.echo(f"Deleted: {', '.join(gone)}." if gone else "Nothing had expired.")
    if round_.failures:
        left = counted(round_.failures, "event")
        click.echo(
            f"Not deleted, because of a fault in premblyd: {left}. The lines above say where."
        )
    _print_put_off(found)


def _print_forecast(found: Forecast, as_json: bool) -> None:
    if as_json:
        print_json({"would_remove": found.going, "put_off": found.put_off})
        return
    print_rows(GOING, found.going, empty="Nothing has expired.")
    _print_put_off(found)


def _print_put_off(found: Forecast) -> None:
    if found.put_off:
        click.echo("\nExpired, but put off:")
        print_rows(PUT_OFF, found.put_off, empty="")


@click.command()
@config_option
@json_option
def vacuum(config_path: Path, *, as_json: bool) -> None:
    """Bytes of what was deleted may remain in the database's file. This writes it anew without
    them, and gives their space back to the disk.

    On SQLite the daemon must be stopped, and the disk must have twice the file's size free. On
    PostgreSQL this is VACUUM of the tables, while daemons run.

    Exit status 75: a daemon runs, or somebody reads the database.
    """
    place = database_of(config_path)
    its = backend(place)
    its.connect_operator().close()  # it says what is wrong
    with its.hold():  # before SQLite has the file open: this closes it, which ends all locks
        database = open_to_change(place)
        before = its.sizes()
        needed = size(vacuuming.require_room(before))
        if before.free_bytes is not None:
            free = size(before.free_bytes)
            click.echo(f"This takes {needed} of disk for a while; {free} are free.", err=True)
        vacuuming.vacuum(place, database)
        count = vacuuming.bytes_of(its.sizes())
    freed = max(vacuuming.bytes_of(before) - count, 0)
    words = f"Done: the database has {size(count)}, and {size(freed)} were freed."
    print_told({"database_bytes": count, "freed_bytes": freed}, words, as_json=as_json)
