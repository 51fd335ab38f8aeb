"""premblyd person erase: deletes a person's data, at their request."""

import sys
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import click

from premblyd.cli import config_option, json_option
from premblyd.cli.caller import actor
from premblyd.cli.common import (
    PRIVATE,
    ROW_ID,
    database_of,
    open_to_change,
    open_to_read,
    reference_option,
    user_ref_option,
)
from premblyd.cli.printing import (
    Column,
    print_json,
    print_listed,
    print_table,
    print_told,
    progress,
)
from premblyd.features.keeping import erasing, linefiles, listing, vacuuming
from premblyd.features.keeping.erasing import Done, Request
from premblyd.features.keeping.findings import Findings, look
from premblyd.features.keeping.personrows import names_in
from premblyd.features.keeping.persons import Named
from premblyd.ground import times
from premblyd.ground.databases import file_of
from premblyd.ground.errors import NotFoundError, PremblydError
from premblyd.ground.words import counted
from premblyd.store.connections import put_aside
from premblyd.store.engine import Database

REMAINS = (
    "Bytes of it may remain in the database's file: `premblyd record vacuum` deletes them, with the"
    " daemon stopped."
)
SHOWN = 20  # numbers of events
ERASURES = (
    Column("id", kind="whole"),
    Column("when (UTC)", "at_ms", kind="time"),
    Column("who", "actor"),
    Column("found by", "found_by", kind="whole"),
    Column("events", kind="whole"),
    Column("cancelled", kind="whole"),
    Column("reason"),
)


@click.command()
@user_ref_option
@reference_option
@click.option("--event", "event_id", type=ROW_ID, help="Only this event.")
@click.option("--reason", type=PRIVATE, help="Why. It is kept, so name nobody.")
@click.option("--dry-run", is_flag=True, help="Count what would be deleted, and delete nothing.")
@click.option("--yes", is_flag=True, help="Don't ask for confirmation.")
@click.option("--list", "lists", is_flag=True, help="List what was erased.")
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
    lists: bool,
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
    if lists:
        if named is not None or dry_run:
            raise click.UsageError("--list can't be combined with other options.")
        _list(config_path, as_json=as_json)
        return
    if named is None:
        raise click.UsageError("Say who or what: --user-ref U, --reference R or --event N.")
    place = database_of(config_path)
    record = open_to_read(place)
    findings = record.look(partial(look, named=named, now_ms=record.now_ms()))
    if dry_run:
        _print_findings(findings, as_json=as_json)
        return
    if findings.is_empty:
        _tell_nothing(findings, as_json=as_json)
        return
    _require_nameless(reason, findings)
    _confirm(findings, yes=yes)
    request = Request(named=named, actor=actor(), reason=reason)
    database = open_to_change(place)
    done = _erased(database, request, len(findings.person.event_ids), silent=as_json)
    states = linefiles.complete(database, place)
    _tell(done, remains=not vacuuming.beside_daemons(place, database), as_json=as_json)
    for error in (each.error for each in states if each.error):
        click.echo(f"note: with a copy, the person may come back. {error}", err=True)
    for file in put_aside(file_of(place)):
        click.echo(f"note: the person is still in {file}, the old database file", err=True)


def _named(user_ref: str | None, reference: str | None, event_id: int | None) -> Named | None:
    named = [
        Named.user(user_ref) if user_ref is not None else None,
        Named.reference(reference) if reference is not None else None,
        Named.event(event_id) if event_id is not None else None,
    ]
    chosen = [each for each in named if each is not None]
    if len(chosen) > 1:
        raise click.UsageError("Give only one of --user-ref, --reference and --event.")
    if chosen and not chosen[0].name:
        raise click.UsageError("The name is empty.")
    return chosen[0] if chosen else None


def _require_nameless(reason: str | None, findings: Findings) -> None:
    """Refuse a reason that would keep a name for ever."""
    for name in findings.names.all:
        if reason is not None and names_in(name, reason):
            raise click.UsageError(
                "--reason has a name of the person, which would be kept. Leave it out: give a"
                " ticket's number, for example."
            )


def _confirm(findings: Findings, *, yes: bool) -> None:
    if findings.hold_ids or yes:
        return
    if not sys.stdin.isatty():
        raise click.UsageError(
            "It can't be undone, and there is no terminal to ask for confirmation: add --yes."
        )
    events = counted(len(findings.person.event_ids), "event")
    if findings.person.nameless_ids:
        click.echo(_nameless(findings.person.nameless_ids), err=True)
    if findings.person.other_ids:
        click.echo(_others(findings.person.other_ids), err=True)
    question = f"Delete every personal value in {events}? It can't be undone."
    click.confirm(question, abort=True, err=True)


def _erased(database: Database, request: Request, total: int, *, silent: bool) -> Done:
    erased = 0
    with progress(silent=silent) as shown:
        task = shown.add_task("erasing", total=total)

        def show(done: Done) -> None:
            nonlocal erased
            erased = len(done.keys) - done.left
            shown.update(task, completed=erased, total=len(done.keys))

        try:
            return erasing.erase(database, request, show)
        except KeyboardInterrupt:
            events = counted(erased, "event")
            raise PremblydError(
                f"Interrupted: {events} erased. Run the same command again to continue."
            ) from None


def _tell(done: Done, *, remains: bool, as_json: bool) -> None:
    events = counted(len(done.keys), "event")
    cancelled = counted(done.cancelled, "delivery", "deliveries")
    exact = {
        "erasure_id": done.id,
        "at_ms": done.at_ms,
        "event_ids": sorted(done.keys),
        "erased": {table: count for table, count in done.rows.items() if count},
        "cancelled": done.cancelled,
        "other_ids": list(done.other_ids),
        "bytes_may_remain": remains,
    }
    words = f"Erased {events} (erasure {done.id}); cancelled {cancelled}."
    print_told(exact, words, as_json=as_json)
    if done.other_ids:
        click.echo(_others(done.other_ids), err=True)
    if remains:
        click.echo(REMAINS, err=True)


def _numbers(ids: Sequence[int]) -> str:
    more = f" and {len(ids) - SHOWN} more" if len(ids) > SHOWN else ""
    return f"{', '.join(map(str, ids[:SHOWN]))}{more}"


def _nameless(ids: Sequence[int]) -> str:
    name = "names" if len(ids) == 1 else "name"
    return (
        f"{len(ids)} of them {name} nobody ({_numbers(ids)}): found by a reference alone, which a"
        " forged webhook may have put beside this user_ref. Check with `premblyd show` whom they"
        " are about."
    )


def _others(ids: Sequence[int]) -> str:
    return (
        f"Not erased, because they name another user_ref: {counted(len(ids), 'event')} with the"
        f" same names ({_numbers(ids)}). Look at each; `premblyd person erase --event N` erases"
        " one."
    )


def _print_findings(findings: Findings, *, as_json: bool) -> None:
    person = findings.person
    rows = {table: count for table, count in findings.rows.items() if count}
    if as_json:
        print_json(
            {
                "would_erase": rows,
                "event_ids": list(person.event_ids),
                "would_cancel": findings.waiting,
                "other_ids": list(person.other_ids),
                "hold_ids": findings.hold_ids,
                "earlier": [asdict(each) for each in findings.earlier],
                "nameless_ids": list(person.nameless_ids),
            }
        )
        return
    print_table(("table", "rows"), list(rows.items()), empty="Nothing is stored about it.")
    if person.event_ids:
        click.echo(f"Events: {_numbers(person.event_ids)}.")
    if person.nameless_ids:
        click.echo(_nameless(person.nameless_ids))
    if findings.waiting:
        click.echo(f"Would cancel {counted(findings.waiting, 'delivery', 'deliveries')}.")
    if person.other_ids:
        click.echo(_others(person.other_ids))
    for number in findings.hold_ids:
        click.echo(f"Hold {number}: nothing is erased until it ends.")


def _tell_nothing(findings: Findings, *, as_json: bool) -> None:
    """Say that all of it was erased before. Raise NotFoundError when there never was any."""
    if not findings.earlier:
        if findings.person.other_ids:
            raise PremblydError(_others(findings.person.other_ids))
        raise NotFoundError("Nothing is stored that could be erased.")
    last = findings.earlier[0]
    at = times.for_people(last.at_ms)
    exact = {"already_erased": [asdict(each) for each in findings.earlier]}
    words = f"Already erased {at} UTC by {last.actor} (erasure {last.id})."
    print_told(exact, words, as_json=as_json)


def _list(config_path: Path, *, as_json: bool) -> None:
    rows: list[Any] = listing.erasures(open_to_read(database_of(config_path)))
    print_listed(ERASURES, rows, empty="Nothing was erased.", as_json=as_json)
