"""premblyd pending"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from premblyd import times
from premblyd.cli.listing import list_options, print_list
from premblyd.cli.printing import Column, print_table
from premblyd.record.filters import AwaitedFilter

if TYPE_CHECKING:
    from premblyd.record.queries import AwaitedRow

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
@list_options(AwaitedFilter)
def pending(**asked: Any) -> None:
    """The newest come first. Prembly is asked about each that waits, if the configuration has
    `pending`."""
    print_list(AwaitedFilter, print_awaited, **asked)


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
        empty="Nothing pending is listed.",
        wide=wide,
        hint=hint,
    )
