"""premblyd record prune: deletes data whose retention period has expired."""

import sys
from functools import partial
from pathlib import Path

import click

from premblyd.cli import caller, config_option, json_option
from premblyd.cli.caller import actor
from premblyd.cli.common import open_to_change, open_to_read
from premblyd.cli.printing import Column, print_json, print_rows, print_told, progress
from premblyd.config.load import load_config
from premblyd.features.keeping.forecast import Forecast, forecast
from premblyd.features.keeping.retention import begin_anew, periods
from premblyd.features.keeping.settings import RETENTION, Retention
from premblyd.features.keeping.shown import in_words
from premblyd.features.keeping.sweeping import Round, work_off
from premblyd.ground import times
from premblyd.ground.errors import PremblydError
from premblyd.ground.logs import output
from premblyd.ground.words import counted
from premblyd.queue import trusted
from premblyd.queue.heartbeat import machine_start, machine_time
from premblyd.record.operating import write_down
from premblyd.store.engine import Database, Transaction

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
    trusted_ms = database.look(partial(trusted.read, wall_ms=wall_ms))
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
    trusted.write(transaction, machine_time(wall_ms, machine_start()))
    write_down(transaction, actor(), "trust-clock", wall_ms, note)


def _remove(
    database: Database, retention: Retention, now_ms: int, total: int, *, silent: bool
) -> Round:
    """Do a whole round, from the beginning, and return it."""
    who, words = actor(), in_words(retention)
    database.transact(lambda transaction: write_down(transaction, who, "prune", now_ms, words))
    database.transact(begin_anew)
    round_ = Round(retention, with_eventless=True)
    output.configure("auto", "error")  # each try that fails
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
