"""premblyd export: all that is held of a person, or a table of the record for auditors, whole."""

import contextlib
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import click

from premblyd.agefiles import require_recipients, sealed
from premblyd.cli import caller, config_option, json_option
from premblyd.cli.caller import actor
from premblyd.cli.common import (
    PRIVATE,
    WHEN,
    database_of,
    database_option,
    open_to_change,
    open_to_read,
)
from premblyd.cli.printing import print_json
from premblyd.config.values import When
from premblyd.databases import DatabaseAddress
from premblyd.engines.engine import Database
from premblyd.errors import NotGrantedError, PremblydError
from premblyd.keep.persons import Named
from premblyd.newfile import new_file, require_new
from premblyd.record import exporting
from premblyd.record.dossiers import archive, dossier
from premblyd.record.dossiers.dossier import Dossier
from premblyd.record.exporting import Format, Period
from premblyd.record.operating import Operator, RecordedExport, record_export
from premblyd.words import counted

UNRECORDED = "Nothing is exported: that you do could not be recorded."
STDOUT = Path("-")
MOST_NAMED = 20
IN_CLEAR = "it can be read by whoever has it: --recipient age1… seals it."


@click.command()
@click.option(
    "--user-ref", metavar="U", type=PRIVATE, help="All that is held of the person, as a ZIP."
)
@click.option(
    "--reference", metavar="R", type=PRIVATE, help="All that is held of whom it is about, as a ZIP."
)
@click.option("--since", type=WHEN, help="A table: all rows from then on: 2026-01-31, 30d.")
@click.option("--until", type=WHEN, help="Only from before (default: now).")
@click.option(
    "--what",
    metavar="TABLE",
    type=click.Choice([*exporting.KINDS]),
    help=f"Which table (default: events): {', '.join(exporting.KINDS)}.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice([each.value for each in Format]),
    help="csv for a spreadsheet, jsonl exactly: a JSON object in each line.",
)
@click.option(
    "--reveal",
    is_flag=True,
    help="A table with personal data and payload. It is recorded that you took it.",
)
@click.option(
    "--to",
    "target",
    type=click.Path(path_type=Path),
    help="A new file; of a table, - is standard output.",
)
@click.option(
    "--recipient",
    "recipients",
    multiple=True,
    metavar="age1…",
    help="Seal it by age, to this one; more than one may be given.",
)
@database_option
@config_option
@json_option
def export(
    config_path: Path,
    *,
    user_ref: str | None,
    reference: str | None,
    since: When | None,
    until: When | None,
    what: str | None,
    form: str | None,
    reveal: bool,
    target: Path | None,
    recipients: tuple[str, ...],
    database: str | None,
    as_json: bool,
) -> None:
    """Of a person: a page to read, the same as JSON, and all bodies. A table: its rows of a time,
    with personal data masked and without payload, unless --reveal. Both are on record.

    A file is there when all of it is written, for you alone to read. For `--user-ref -` a line of
    standard input is read: everybody on this machine can read arguments.
    """
    if target is None:
        raise click.UsageError("Say where: --to FILE.")
    if target == STDOUT and as_json:
        raise click.UsageError("--json tells of a file: leave it out with --to -.")
    place = database_of(config_path, database)
    if user_ref is not None or reference is not None:
        if since or until or what or form or reveal:
            raise click.UsageError("--since, --until, --what, --format and --reveal are of tables.")
        named = _named(user_ref, reference)
        told = _export_person(place, named, user_ref or reference or "", target, recipients)
    else:
        if since is None or form is None:
            raise click.UsageError(
                "Say of whom: --user-ref or --reference; or a table: --since and --format."
            )
        about = (since, until, what or "events")
        told = _export_table(place, about, Format(form), target, recipients, reveal=reveal)
    if as_json:
        is_sealed = bool(recipients)
        print_json(
            {**told, "file": str(target), "bytes": target.stat().st_size, "sealed": is_sealed}
        )


def _named(user_ref: str | None, reference: str | None) -> Named:
    if user_ref is not None and reference is not None:
        raise click.UsageError("--user-ref and --reference go one at a time.")
    return Named.user(user_ref) if user_ref is not None else Named.reference(reference or "")


def _export_person(
    place: DatabaseAddress, named: Named, name: str, target: Path, recipients: tuple[str, ...]
) -> dict[str, object]:
    if target == STDOUT:
        raise click.UsageError("A ZIP is written to a file: --to FILE.")
    require_new(target)
    require_recipients(recipients)
    record = open_to_read(place)
    found = dossier.of(record, named, name, record.now_ms())
    with _recorded():
        about = f"a person: {counted(len(found.lacks), 'event')}"
        recorded = record_export(open_to_change(place), actor(), found.event_ids, about)
    with _opened(target, recipients) as out:
        archive.write(out, record, found, recorded, actor())
    _warn(target, recipients, found)
    return {
        "events": len(found.lacks),
        "others": found.others,
        "doubtful": list(found.doubtful_ids),
        "nameless": list(found.nameless_ids),
    }


def _export_table(
    place: DatabaseAddress,
    about: tuple[When, When | None, str],
    form: Format,
    target: Path,
    recipients: tuple[str, ...],
    *,
    reveal: bool,
) -> dict[str, object]:
    since, until, what = about
    if target != STDOUT:
        require_new(target)
    require_recipients(recipients)
    record = open_to_read(place)
    period = _period(record, since, until)
    recorded = _record_table(place, exporting.about(what, period, is_revealed=reveal), reveal)
    with _opened(target, recipients) as out:
        for piece in exporting.pieces(record, what, period, form, recorded if reveal else None):
            out.write(piece)
    return {"what": what, "since_ms": period.since_ms, "until_ms": period.until_ms}


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
        with _recorded():
            database = open_to_change(place)
            return database.transact(Operator(actor=actor()).export(about, database.now_ms()))
    except PremblydError as error:
        may_only_read = error.lacks_rights or isinstance(error, NotGrantedError)
        if reveal or not may_only_read:
            raise
        click.echo("note: Not on record: only who may write it can be recorded.", err=True)
        return None


@contextlib.contextmanager
def _recorded() -> Iterator[None]:
    """Have an error say besides that nothing is exported."""
    try:
        yield
    except PremblydError as error:
        error.args = (f"{UNRECORDED} {error}",)
        raise


@contextlib.contextmanager
def _opened(target: Path, recipients: tuple[str, ...]) -> Iterator[BinaryIO]:
    with contextlib.ExitStack() as files:
        out: BinaryIO = (
            sys.stdout.buffer if target == STDOUT else files.enter_context(new_file(target))
        )
        yield files.enter_context(sealed(out, recipients))


def _warn(target: Path, recipients: tuple[str, ...], found: Dossier) -> None:
    notes = [] if recipients else [f"{target} is in clear: {IN_CLEAR}"]
    notes.append("It names who looked, and has what hooks printed: read it before you hand it out.")
    if found.holds:
        holds = counted(len(found.holds), "hold")
        notes.append(f"It tells of {holds}, and why: is the person allowed to know that?")
    if found.others:
        others = counted(found.others, "event")
        notes.append(f"Not in it: {others} of somebody else, under the same references.")
    if found.doubtful_ids:
        doubtful = counted(len(found.doubtful_ids), "event")
        notes.append(
            f"Not in it: {doubtful} without a user_ref, under references that somebody else has"
            f" too. Whose is it? `premblyd show`: {_numbers(found.doubtful_ids)}."
        )
    if found.nameless_ids:
        nameless = counted(len(found.nameless_ids), "event")
        notes.append(
            f"{nameless} in it without a user_ref, found by reference alone: a forged webhook may"
            " have put that beside this user_ref. Is each the person's? `premblyd show`:"
            f" {_numbers(found.nameless_ids)}."
        )
    for note in notes:
        click.echo(caller.as_called(f"note: {note}"), err=True)


def _numbers(ids: Sequence[int]) -> str:
    more = ", …" if len(ids) > MOST_NAMED else ""
    return ", ".join(map(str, ids[:MOST_NAMED])) + more
