"""premblyd record prune: deletes data whose retention period has expired, or counts it. And
`vacuum`, which writes the database anew, without bytes of erased data."""

import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import click
from peewee import fn

from premblyd.cli import config_option, json_option
from premblyd.cli.caller import actor
from premblyd.cli.common import database_of, open_to_change, open_to_read
from premblyd.cli.printing import print_told, progress
from premblyd.config.load import load_config
from premblyd.features.keeping import trusted, vacuuming
from premblyd.features.keeping.retention import (
    DONE,
    START,
    STRONGEST_FIRST,
    Round,
    periods,
    work_off,
)
from premblyd.features.keeping.settings import RETENTION, Retention
from premblyd.features.keeping.shown import in_words
from premblyd.features.keeping.tables import Removed
from premblyd.ground import times
from premblyd.ground.errors import PremblydError
from premblyd.ground.words import counted, size
from premblyd.queue.heartbeat import machine_start, machine_time
from premblyd.record import queries
from premblyd.record.operating import write_down
from premblyd.store.connections import backend
from premblyd.store.engine import Database, Transaction
from premblyd.store.tables import Event, Rejection


def expired(database: Database, retention: Retention, now_ms: int) -> dict[str, int]:
    """Return how much of each class has expired and is there still, whatever keeps it for now. An
    event counts once: where a record goes, its body goes too."""
    found: dict[str, int] = {}
    counted_until_ms = START.at_ms
    limits = periods(retention)
    for removed in (each for each in STRONGEST_FIRST if each in limits):
        until_ms = now_ms - limits[removed]
        found[removed] = queries.value(
            database,
            Event.select(fn.COUNT(Event.id)).where(
                Event.received_at_ms > counted_until_ms,
                Event.received_at_ms <= until_ms,
                fn.COALESCE(Event.removed_parts, "").not_in(DONE[removed]),
            ),
        )
        counted_until_ms = max(counted_until_ms, until_ms)
    if Removed.REJECTIONS in limits:
        is_old = Rejection.at_ms <= now_ms - limits[Removed.REJECTIONS]
        query = Rejection.select(fn.COUNT(Rejection.id)).where(is_old)
        found[Removed.REJECTIONS] = queries.value(database, query)
    return {str(removed): count for removed, count in found.items() if count}


NOTHING = (
    "Nothing to delete: the configuration has no `retention`, so everything is kept. The sample"
    " configuration (`premblyd init`) shows it."
)


@click.command()
@click.option("--dry-run", is_flag=True, help="Count what has expired, and delete nothing.")
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

    Events that wait, run or are on legal hold are kept for now. --dry-run counts them too.
    """
    settings = load_config(config_path, look_up_secrets=False)
    retention = RETENTION.of(settings)
    if not periods(retention) and not trust_clock:
        print_told({"would_remove" if dry_run else "removed": {}}, NOTHING, as_json=as_json)
        return
    database = (open_to_read if dry_run else open_to_change)(settings.database)
    wall_ms = database.now_ms()
    trusted_ms = database.look(partial(trusted.read_trusted, wall_ms=wall_ms))
    now, passed = times.for_people(wall_ms), times.for_people(trusted_ms)
    words = f"the clock says {now} UTC, but by the time that has passed it should be {passed} UTC"
    is_apart = trusted.is_apart(trusted_ms, wall_ms)
    if is_apart and not dry_run and not trust_clock:
        raise PremblydError(
            f"Nothing was deleted: {words}. If the clock is wrong, set it. If it is right,"
            " `premblyd record prune --trust-clock` deletes what has expired by the"
            " clock. Add `--dry-run` to count it first."
        )
    now_ms = wall_ms if trust_clock else min(wall_ms, trusted_ms)
    found = expired(database, retention, now_ms)
    total = sum(found.values())
    if trust_clock or is_apart:
        by = "by the clock" if trust_clock else "by the earlier"
        click.echo(f"{words}: up to {counted(total, 'row')} would be deleted {by}.", err=True)
    if dry_run:
        print_told({"would_remove": found}, f"Expired: {_counts(found)}.", as_json=as_json)
        return
    if total and not yes and sys.stdin.isatty():
        question = f"Delete what has expired in {counted(total, 'row')}? It can't be undone."
        click.confirm(question, abort=True, err=True)
    if trust_clock:
        database.transact(partial(_trust_clock, wall_ms=wall_ms, note=words))
    removed = _remove(database, retention, now_ms, total, silent=as_json)
    left = expired(database, retention, now_ms)
    told = f"Deleted: {_counts(removed)}."
    if left:
        told += f" Expired, but kept while it waits, runs or is on legal hold: {_counts(left)}."
    print_told({"removed": removed, "put_off": left}, told, as_json=as_json)


def _counts(found: Mapping[str, int]) -> str:
    return ", ".join(f"{removed} {count:,}" for removed, count in found.items()) or "nothing"


def _trust_clock(transaction: Transaction, wall_ms: int, note: str) -> None:
    """Have periods count back from what the clock says now."""
    trusted.write_trusted(transaction, machine_time(wall_ms, machine_start()))
    write_down(transaction, actor(), "trust-clock", wall_ms, note)


def _remove(
    database: Database, retention: Retention, now_ms: int, total: int, *, silent: bool
) -> dict[str, int]:
    """Do a whole round; return how much it removed of each class."""
    who, words = actor(), in_words(retention)
    database.transact(lambda transaction: write_down(transaction, who, "prune", now_ms, words))
    round_ = Round(retention)
    with progress(silent=silent) as shown:
        task = shown.add_task("deleting", total=total)
        for done in work_off(database, round_, now_ms):
            shown.advance(task, done.count)
    return {str(removed): count for removed, count in round_.removed.items() if count}


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
        vacuuming.require_room(before)
        vacuuming.vacuum(place, database)
        count = vacuuming.bytes_of(its.sizes())
    freed = max(vacuuming.bytes_of(before) - count, 0)
    words = f"Done: the database has {size(count)}, and {size(freed)} were freed."
    print_told({"database_bytes": count, "freed_bytes": freed}, words, as_json=as_json)
