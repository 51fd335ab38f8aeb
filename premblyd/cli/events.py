"""premblyd events"""

import re
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from premblyd import times
from premblyd.cli.common import TypePattern, When, WhenType, time_of, until_end
from premblyd.cli.database import database_of
from premblyd.cli.listing import list_options, note
from premblyd.cli.printing import Column, print_json, print_table

if TYPE_CHECKING:
    from premblyd.engines.connections import Database
    from premblyd.record.rows import EventRow

OUTCOMES = ("verified", "not_verified", "pending", "unknown")
COLUMNS = (
    Column(name="id", kind="whole"),
    Column(name="at (UTC)", kind="time"),
    Column(name="type", rank=4, kind="reference"),
    Column(name="code", rank=2, kind="reference"),
    Column(name="outcome", rank=1, kind="whole"),
    Column(name="reference", rank=3, kind="reference"),
    Column(name="duplicates", rank=5, kind="whole"),
    Column(name="user ref", rank=6, kind="reference"),
    Column(name="kind", rank=7, kind="whole"),
    Column(name="endpoint", rank=8, kind="reference"),
)


class Key(click.ParamType[str]):
    """An event's key or its beginning, as the log has it: hex digits."""

    name = "KEY"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        key = str(value).lower()
        if not re.fullmatch(r"[0-9a-f]{1,32}", key):
            self.fail(f"{value!r} is no key: 32 hex digits, or how they begin")
        return key


@click.command()
@click.option("--type", "type_", type=TypePattern(), help="Only this type, or transaction.*")
@click.option("--code", help="Only this response code; `missing` for events without one.")
@click.option("--outcome", type=click.Choice(OUTCOMES), help="Only this outcome.")
@click.option(
    "--doubted",
    is_flag=True,
    help="Only those that say VERIFIED, and something that does not fit.",
)
@click.option(
    "--contradicted", is_flag=True, help="Only those that Prembly, asked to confirm, contradicted."
)
@click.option("--reference", help="Only this reference of Prembly.")
@click.option("--user-ref", help="Only this reference of a person (user_ref).")
@click.option("--key", type=Key(), help="Only the event with this key; its beginning will do.")
@click.option("--since", type=WhenType(), help="Only received at or after: 2026-01-31, 12h.")
@click.option("--until", type=WhenType(), help="Only received before.")
@click.option("--follow", is_flag=True, help="Go on: show new ones as they come. Ctrl-C ends it.")
@list_options
def events(
    config_path: Path,
    *,
    database: str | None,
    type_: str | None,
    code: str | None,
    outcome: str | None,
    doubted: bool,
    contradicted: bool,
    reference: str | None,
    user_ref: str | None,
    key: str | None,
    since: When | None,
    until: When | None,
    follow: bool,
    limit: int,
    wide: bool,
    as_json: bool,
) -> None:
    """The newest come first. Payloads are not shown: see `premblyd show`.

    With --follow the newest come last, and --json prints a line for each event.
    """
    from premblyd.cli import following
    from premblyd.engines.connections import connect_read_only
    from premblyd.record import reading
    from premblyd.record.choosing import EventFilter
    from premblyd.record.reading import Page

    if follow and until is not None:
        raise click.UsageError("--follow has no end: leave out --until.")
    path = database_of(config_path, database)
    record = until_end(connect_read_only(path))
    chosen = EventFilter(
        type=type_,
        code=code,
        outcome=outcome,
        reference=reference,
        user_ref=user_ref,
        key=key,
        since_ms=time_of(since, record),
        until_ms=time_of(until, record),
        is_doubted=doubted,
        contradicted=contradicted,
    )
    if follow:
        _note_unknown(record, type_, code)
        record.close()  # it is opened anew with each look
        following.follow(path, chosen, limit=limit, as_json=as_json)
        return
    rows = reading.events(record, chosen, Page(limit=limit))
    if as_json:
        print_json([asdict(row) for row in rows])
    else:
        print_events(rows, wide=wide, hint="--wide shows all.")
    if not rows:
        _note_unknown(record, type_, code)


def _note_unknown(record: "Database", type_: str | None, code: str | None) -> None:
    from premblyd.record import unknowns

    note(
        None if type_ is None else unknowns.of_type(record, type_),
        None if code is None else unknowns.of_code(record, code),
    )


def print_events(rows: "Sequence[EventRow]", *, hint: str, wide: bool = False) -> None:
    """Print a list of events for people."""
    print_table(
        COLUMNS,
        [
            (
                row.id,
                times.for_people(row.received_at_ms),
                row.type,
                row.response_code,
                _outcome(row),
                row.reference,
                row.duplicate_count or "",
                row.user_ref,
                row.kind,
                row.endpoint,
            )
            for row in rows
        ],
        empty="No events.",
        wide=wide,
        hint=hint,
    )


def _outcome(row: "EventRow") -> str:
    """Return what an event says of the person, beside what speaks against it."""
    if row.contradicted:
        return f"contradicted (said {row.outcome})"
    return f"{row.outcome} ({row.doubt})" if row.doubt else row.outcome
