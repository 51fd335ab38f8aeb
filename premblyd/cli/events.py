"""premblyd events"""

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from premblyd import times
from premblyd.cli.database import database_of
from premblyd.cli.listing import chosen_by, list_options, note_unknown, print_list
from premblyd.cli.printing import Column, print_table
from premblyd.record.filters import EventFilter

if TYPE_CHECKING:
    from premblyd.record.queries import EventRow

COLUMNS = (
    Column(name="id", kind="whole"),
    Column(name="at (UTC)", kind="time"),
    Column(name="type", rank=5, kind="reference"),
    Column(name="code", rank=2, kind="reference"),
    Column(name="outcome", rank=1, kind="whole"),
    Column(name="reference", rank=3, kind="reference"),
    Column(name="duplicates", rank=5, kind="whole"),
    Column(name="user ref", rank=6, kind="reference"),
    Column(name="kind", rank=7, kind="whole"),
    Column(name="endpoint", rank=8, kind="reference"),
    Column(name="handled", rank=4, kind="whole"),
)


@click.command()
@click.option("--follow", is_flag=True, help="Go on: show new ones as they come. Ctrl-C ends it.")
@list_options(EventFilter)
def events(*, follow: bool, **asked: Any) -> None:
    """The newest come first. Payloads are not shown: see `premblyd show`.

    With --follow the newest come last, and --json prints a line for each event.
    """
    if not follow:
        print_list(EventFilter, print_events, **asked)
        return
    _follow(**asked)


def _follow(
    *,
    config_path: Path,
    database: str | None,
    limit: int,
    wide: bool,  # a line for each event has all
    as_json: bool,
    **asked: Any,
) -> None:
    from premblyd.cli import following
    from premblyd.engines.connections import connect_read_only

    if asked["until_ms"] is not None:
        raise click.UsageError("--follow has no end: leave out --until.")
    place = database_of(config_path, database)
    with closing(connect_read_only(place)) as record:  # it is opened anew with each look
        chosen = chosen_by(EventFilter, record, asked)
        note_unknown(record, config_path, database, asked)
    following.follow(place, chosen, limit=limit, as_json=as_json)


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
                row.handled,
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
