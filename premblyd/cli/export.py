"""premblyd export: a table of the record for auditors, whole."""

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import click

from premblyd.cli import config_option
from premblyd.cli.caller import actor
from premblyd.cli.common import WHEN, database_of, database_option, open_to_change, open_to_read
from premblyd.config.values import When
from premblyd.databases import DatabaseAddress
from premblyd.engines.engine import Database
from premblyd.errors import PremblydError
from premblyd.newfile import new_file, require_new
from premblyd.record import exporting
from premblyd.record.exporting import Format, Period
from premblyd.record.operating import Operator, RecordedExport

UNRECORDED = "Nothing is exported: that you do could not be recorded."
STDOUT = Path("-")


@click.command()
@click.option("--since", type=WHEN, help="All rows from then on: 2026-01-31, 30d.")
@click.option("--until", type=WHEN, help="Only from before (default: now).")
@click.option(
    "--what",
    type=click.Choice([*exporting.KINDS]),
    default="events",
    show_default=True,
    help="Which table.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice([each.value for each in Format]),
    help="csv for a spreadsheet, jsonl exactly: a JSON object in each line.",
)
@click.option(
    "--to", "target", type=click.Path(path_type=Path), help="A new file; - is standard output."
)
@click.option(
    "--reveal",
    is_flag=True,
    help="With personal data and payload. It is recorded that you took it.",
)
@database_option
@config_option
def export(
    config_path: Path,
    *,
    since: When | None,
    until: When | None,
    what: str,
    form: str | None,
    target: Path | None,
    reveal: bool,
    database: str | None,
) -> None:
    """--since --format --to: a table for auditors, all of its rows since a time. Personal data is
    masked, and there is no payload, unless --reveal. It is on record.

    A file is there when all of it is written, for you alone to read.
    """
    if since is None or form is None or target is None:
        raise click.UsageError("Say --since, --format and --to.")
    place = database_of(config_path, database)
    record = open_to_read(place)
    period = _period(record, since, until)
    if target != STDOUT:
        require_new(target)
    recorded = _record_table(place, exporting.about(what, period, is_revealed=reveal), reveal)
    with _opened(target) as out:
        for piece in exporting.pieces(
            record, what, period, Format(form), recorded if reveal else None
        ):
            out.write(piece)


def _period(record: Database, since: When, until: When | None) -> Period:
    now_ms = record.now_ms()
    until_ms = now_ms + 1 if until is None else until.by(now_ms)
    period = Period(since_ms=since.by(now_ms), until_ms=until_ms)
    if period.since_ms >= period.until_ms:
        raise click.UsageError("--since is not before --until: nothing can be in between.")
    return period


def _record_table(place: DatabaseAddress, about: str, reveal: bool) -> RecordedExport | None:
    """Record that this user takes rows out. Who may only read takes nothing that is masked for
    others: that need not be recorded, and can't."""
    try:
        database = open_to_change(place)
        return database.transact(Operator(actor=actor()).export(about, database.now_ms()))
    except PremblydError as error:
        if not reveal and error.lacks_rights:
            click.echo("note: Not on record: only who may write it can be recorded.", err=True)
            return None
        error.args = (f"{UNRECORDED} {error}",)
        raise


@contextlib.contextmanager
def _opened(target: Path) -> Iterator[BinaryIO]:
    if target == STDOUT:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    with new_file(target) as out:
        yield out
