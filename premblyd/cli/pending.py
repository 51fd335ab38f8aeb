"""premblyd pending"""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from premblyd import times
from premblyd.cli.common import When, WhenType, time_of, until_end
from premblyd.cli.database import database_of
from premblyd.cli.listing import list_options
from premblyd.cli.printing import Column, print_json, print_table

if TYPE_CHECKING:
    from premblyd.record.rows import AwaitedRow

STATES = ("waiting", "settled", "given_up")
COLUMNS = (
    Column(name="id", kind="whole"),
    Column(name="event", kind="whole"),
    Column(name="state", kind="whole"),
    Column(name="asked", rank=3, kind="whole"),
    Column(name="next (UTC)", rank=2, kind="time"),
    Column(name="settled by", rank=4, kind="whole"),
    Column(name="why", rank=1, kind="words"),
    Column(name="reference", rank=5, kind="reference"),
    Column(name="since (UTC)", rank=6, kind="time"),
)


@click.command()
@click.option("--state", type=click.Choice(STATES), help="Only this state.")
@click.option("--reference", help="Only with this reference.")
@click.option("--since", type=WhenType(), help="Only those that began since.")
@list_options
def pending(
    config_path: Path,
    *,
    database: str | None,
    state: str | None,
    reference: str | None,
    since: When | None,
    limit: int,
    wide: bool,
    as_json: bool,
) -> None:
    """The newest come first. Prembly is asked about each that waits, if the configuration has
    `pending`."""
    from premblyd.engines.connections import connect_read_only
    from premblyd.record import asking
    from premblyd.record.asking import AwaitedFilter
    from premblyd.record.reading import Page

    record = until_end(connect_read_only(database_of(config_path, database)))
    chosen = AwaitedFilter(state=state, reference=reference, since_ms=time_of(since, record))
    rows = asking.awaited(record, chosen, Page(limit=limit))
    if as_json:
        print_json([asdict(row) for row in rows])
        return
    print_awaited(rows, wide=wide, hint="--wide shows all.")


def print_awaited(rows: "Sequence[AwaitedRow]", *, hint: str, wide: bool = False) -> None:
    """Print a list of what was or is awaited for people."""
    print_table(
        COLUMNS,
        [
            (
                row.id,
                row.event_id,
                row.state,
                row.ask_count,
                times.for_people(row.due_at_ms),
                row.settled_by_id,
                row.last_error,
                row.reference,
                times.for_people(row.created_at_ms),
            )
            for row in rows
        ],
        empty="Nothing is pending.",
        wide=wide,
        hint=hint,
    )
