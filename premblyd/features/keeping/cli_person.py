"""premblyd person hold, release, erase and export: what is done about one person's data."""

import sys
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import click

from premblyd.cli import config_option, json_option
from premblyd.cli.caller import actor
from premblyd.cli.common import (
    ROW_ID,
    Typed,
    database_of,
    open_to_change,
    open_to_read,
)
from premblyd.cli.printing import Column, print_json, print_listed, print_told, progress
from premblyd.config.values import When
from premblyd.features.keeping import (
    erasing,
    erasurelines,
    holds,
    listing,
    persons,
    personzip,
    vacuuming,
)
from premblyd.features.keeping.erasing import Done, Findings, Request
from premblyd.features.keeping.newfile import new_file, require_new
from premblyd.features.keeping.personrows import names_in
from premblyd.features.keeping.persons import Named
from premblyd.features.keeping.settings import period_ms
from premblyd.ground import times
from premblyd.ground.databases import file_of
from premblyd.ground.errors import NotFoundError, PremblydError
from premblyd.ground.words import counted
from premblyd.prembly.payload import MAX_TEXT_BYTES
from premblyd.store.connections import put_aside
from premblyd.store.engine import Database

MAX_PRIVATE_BYTES = MAX_TEXT_BYTES  # a longer text in a body is no name of anything
NO_NAME = "should be a text of up to 2 KiB, not empty and without a NUL."
REMAINS = (
    "Bytes of it may remain in the database's file: `premblyd record vacuum` deletes them, with the"
    " daemon stopped."
)
SHOWN = 20  # numbers of events
HOLDS = (
    Column("id", kind="whole"),
    Column("user ref", "user_ref"),
    Column("reference"),
    Column("since (UTC)", "since_ms", kind="time"),
    Column("until (UTC)", "until_ms", kind="time"),
    Column("who", "actor"),
    Column("reason"),
)


class Private(click.ParamType[str]):
    """A name of a person or a verification, or words about them; `-`: the next line of standard
    input, as everybody on a machine can read arguments. No message quotes it."""

    name = "TEXT"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        text = str(value)
        if text == "-":
            line = sys.stdin.buffer.readline(MAX_PRIVATE_BYTES + 2) if sys.stdin else b""
            text = line.decode(errors="replace").strip()
        is_short = len(text.strip()) > 0 and len(text.encode()) <= MAX_PRIVATE_BYTES
        if not is_short or "\0" in text or "\ufffd" in text:
            self.fail(NO_NAME, param, ctx)
        return text


PRIVATE = Private()
user_ref_option = click.option(
    "--user-ref", metavar="U", type=PRIVATE, help="The person with this user_ref."
)
reference_option = click.option(
    "--reference", metavar="R", type=PRIVATE, help="The verification with this reference."
)


def _named(user_ref: str | None, reference: str | None, event_id: int | None = None) -> Named:
    named = [
        *([Named.user(user_ref)] if user_ref is not None else []),
        *([Named.reference(reference)] if reference is not None else []),
        *([Named.event(event_id)] if event_id is not None else []),
    ]
    if len(named) != 1:
        raise click.UsageError("Say who or what by one option, such as --user-ref U.")
    return named[0]


def _numbers(ids: Sequence[int]) -> str:
    more = f" and {len(ids) - SHOWN} more" if len(ids) > SHOWN else ""
    return f"{', '.join(map(str, ids[:SHOWN]))}{more}"


def _doubts(nameless_ids: Sequence[int], other_ids: Sequence[int]) -> Iterator[str]:
    """Yield of which events somebody should look whom they are about."""
    if nameless_ids:
        yield (
            f"{counted(len(nameless_ids), 'event')} without a user_ref, found by a reference alone,"
            " which a forged webhook may have put beside this user_ref. Check with `premblyd show`"
            f" whom they are about: {_numbers(nameless_ids)}."
        )
    if other_ids:
        yield (
            f"Left out: {counted(len(other_ids), 'event')} under the same names, of somebody else"
            f" or in doubt: {_numbers(other_ids)}."
        )


def _print_notes(notes: Iterator[str]) -> None:
    for note in notes:
        click.echo(f"note: {note}", err=True)


def _until(text: str) -> When:
    try:
        return When(text, ago_ms=-period_ms(text))
    except ValueError:
        return When(text, at_ms=times.from_iso(text))


UNTIL = Typed("TIME", _until, "neither a date such as 2030-01-31 nor a duration such as 90d or 2y")


@click.command()
@user_ref_option
@reference_option
@click.option("--until", type=UNTIL, help="When it ends: 2030-01-31, or 90d or 2y from now.")
@click.option("--reason", type=PRIVATE, help="Why. It is deleted when the hold ends.")
@click.option("--list", "lists", is_flag=True, help="List the active holds.")
@config_option
@json_option
def hold(
    config_path: Path,
    *,
    user_ref: str | None,
    reference: str | None,
    until: When | None,
    reason: str | None,
    lists: bool,
    as_json: bool,
) -> None:
    """Neither `retention` nor `person erase` deletes what is on hold. A person may have
    several holds: each ends by `person release`, or at its --until.

    Other users of this machine can read arguments. With `-` the value is read from standard input:
    `premblyd person hold --user-ref - --reason - < FILE`.
    """
    place = database_of(config_path)
    if lists:
        record = open_to_read(place)
        rows = listing.holds(record, record.now_ms())
        print_listed(HOLDS, rows, empty="No active holds.", as_json=as_json)
        return
    named = _named(user_ref, reference)
    record = open_to_change(place)
    now_ms = record.now_ms()
    until_ms = until and until.by(now_ms)
    if until_ms is not None and until_ms <= now_ms:
        raise click.UsageError(f"--until {until} is past.")
    events = len(record.look(partial(persons.find, named=named)).event_ids)
    number = record.transact(
        holds.place(named, actor=actor(), now_ms=now_ms, until_ms=until_ms, reason=reason)
    )
    end = f"{times.for_people(until_ms)} UTC" if until_ms else f"`premblyd person release {number}`"
    words = (
        f"Hold {number}: exempt from deletion until {end}.\n"
        f"It covers {counted(events, 'event')}, and future ones."
    )
    if not events:
        words += " Nothing has this name yet: check the spelling."
    exact = {"hold_id": number, "until_ms": until_ms, "events": events}
    print_told(exact, words, as_json=as_json)


@click.command()
@click.argument("hold", type=ROW_ID)
@config_option
@json_option
def release(config_path: Path, *, hold: int, as_json: bool) -> None:
    """Ends this hold: `person hold --list` lists them."""
    record = open_to_change(database_of(config_path))
    if not record.transact(holds.end(hold, actor=actor(), now_ms=record.now_ms())):
        raise NotFoundError(f"There is no active hold {hold}: `premblyd person hold --list`.")
    print_told({"hold_id": hold}, f"Ended hold {hold}.", as_json=as_json)


@click.command()
@user_ref_option
@reference_option
@click.option("--event", "event_id", type=ROW_ID, help="Only this event.")
@click.option("--reason", type=PRIVATE, help="Why. It is kept, so name nobody.")
@click.option("--dry-run", is_flag=True, help="Say what would be deleted, and delete nothing.")
@click.option("--yes", is_flag=True, help="Don't ask for confirmation.")
@config_option
@json_option
def erase(
    config_path: Path,
    *,
    user_ref: str | None,
    reference: str | None,
    event_id: int | None,
    reason: str | None,
    dry_run: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Deletes every personal value in a person's events, deliveries and attempts. Codes, outcomes
    and times stay, and who erased it. Later webhooks with the same references are erased as they
    arrive. It can't be undone.

    An event that names another user_ref is not erased; it is listed.

    Other users of this machine can read arguments. With `-` the value is read from standard input:
    `premblyd person erase --user-ref - < FILE`.
    """
    named = _named(user_ref, reference, event_id)
    place = database_of(config_path)
    record = open_to_read(place)
    findings = record.look(partial(erasing.look, named=named, now_ms=record.now_ms()))
    person = findings.person
    if findings.is_empty and not dry_run:
        _print_notes(_doubts((), person.other_ids))
        if findings.earlier is None:
            raise NotFoundError("Nothing is stored that could be erased.")
        words = f"Already erased (erasure {findings.earlier})."
        print_told({"already_erased": findings.earlier}, words, as_json=as_json)
        return
    _print_notes(_doubts(person.nameless_ids, person.other_ids))
    if dry_run:
        _print_findings(findings, as_json=as_json)
        return
    if reason is not None and any(names_in(name, reason) for name in findings.names.all):
        raise click.UsageError(
            "--reason has a name of the person, which would be kept. Leave it out: give a"
            " ticket's number, for example."
        )
    if not findings.hold_ids and not yes:
        if not sys.stdin.isatty():
            raise click.UsageError(
                "It can't be undone, and there is no terminal to ask for confirmation: add --yes."
            )
        events = counted(len(person.event_ids), "event")
        question = f"Delete every personal value in {events}? It can't be undone."
        click.confirm(question, abort=True, err=True)
    database = open_to_change(place)
    request = Request(named=named, actor=actor(), reason=reason)
    done = _erased(database, request, len(person.event_ids), silent=as_json)
    errors = [each.error for each in erasurelines.complete(database, place) if each.error]
    remains = not vacuuming.beside_daemons(place, database)
    exact = {
        "erasure_id": done.id,
        "event_ids": sorted(done.keys),
        "cancelled": done.cancelled,
        "other_ids": list(done.other_ids),
        "bytes_may_remain": remains,
    }
    cancelled = counted(done.cancelled, "delivery", "deliveries")
    words = f"Erased {counted(len(done.keys), 'event')} (erasure {done.id}); cancelled {cancelled}."
    print_told(exact, words, as_json=as_json)
    notes = [REMAINS] * remains
    notes += [f"with a copy, the person may come back. {error}" for error in errors]
    notes += [
        f"the person is still in {file}, the old database file"
        for file in put_aside(file_of(place))
    ]
    _print_notes(iter(notes))


def _erased(database: Database, request: Request, total: int, *, silent: bool) -> Done:
    with progress(silent=silent) as shown:
        task = shown.add_task("erasing", total=total)

        def show(done: Done) -> None:
            shown.update(task, completed=len(done.keys) - done.left, total=len(done.keys))

        return erasing.erase(database, request, show)


def _print_findings(findings: Findings, *, as_json: bool) -> None:
    ids = findings.person.event_ids
    exact = {
        "event_ids": list(ids),
        "would_cancel": findings.waiting,
        "other_ids": list(findings.person.other_ids),
        "nameless_ids": list(findings.person.nameless_ids),
        "hold_ids": findings.hold_ids,
    }
    cancelled = counted(findings.waiting, "delivery", "deliveries")
    words = f"Would erase {counted(len(ids), 'event')} ({_numbers(ids)}), and cancel {cancelled}."
    words += "".join(
        f"\nHold {each}: nothing is erased until it ends." for each in findings.hold_ids
    )
    print_told(exact, words, as_json=as_json)


@click.command()
@user_ref_option
@reference_option
@click.option(
    "--to", "target", required=True, type=click.Path(path_type=Path), help="The new ZIP file."
)
@config_option
@json_option
def export(
    config_path: Path, *, user_ref: str | None, reference: str | None, target: Path, as_json: bool
) -> None:
    """The ZIP has a page to read, the same as JSON, every body and every photo. The export is
    recorded.

    Only you can read the file; it is not encrypted. With `--user-ref -` the value is read from
    standard input: other users of this machine can read arguments.
    """
    named = _named(user_ref, reference)
    place = database_of(config_path)
    require_new(target)
    record = open_to_read(place)
    held = personzip.find(record, named, user_ref or reference or "", record.now_ms())
    try:
        about = f"a person: {counted(len(held.event_ids), 'event')}"
        personzip.record_export(open_to_change(place), actor(), held.event_ids, about)
    except PremblydError as error:
        error.args = (f"Nothing is exported, as the export could not be recorded. {error}",)
        raise
    with new_file(target) as out:
        personzip.write(out, record, held, actor())
    _print_notes(_about(held))
    if as_json:
        print_json(
            {
                "events": len(held.event_ids),
                "other_ids": list(held.other_ids),
                "nameless_ids": list(held.nameless_ids),
                "file": str(target),
                "bytes": target.stat().st_size,
            }
        )


def _about(held: personzip.Holdings) -> Iterator[str]:
    yield "It names who looked, and has the output of hooks: read it before you hand it out."
    if held.holds:
        holds = counted(len(held.holds), "legal hold")
        yield f"It mentions {holds}, and the reason: may the person know that?"
    yield from _doubts(held.nameless_ids, held.other_ids)
