"""premblyd deliveries"""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from premblyd import times
from premblyd.cli.common import TypePattern, When, WhenType, time_of, until_end
from premblyd.cli.database import database_of, settings_if_valid
from premblyd.cli.listing import list_options, note
from premblyd.cli.printing import Column, print_json, print_table

if TYPE_CHECKING:
    from premblyd.record.rows import DeliveryRow

STATES = ("pending", "running", "succeeded", "dead", "cancelled", "skipped")
COLUMNS = (
    Column(name="id", kind="whole"),
    Column(name="event", kind="whole"),
    Column(name="action", rank=1, kind="reference"),
    Column(name="state", kind="whole"),
    Column(name="begun", rank=5, kind="whole"),  # questions to Prembly alone count too
    Column(name="due (UTC)", rank=4, kind="time"),
    Column(name="error", rank=3, kind="words"),
    Column(name="reference", rank=2, kind="reference"),
    Column(name="code", rank=6, kind="reference"),
    Column(name="type", rank=7, kind="reference"),
)


@click.command()
@click.option("--state", type=click.Choice(STATES), help="Only this state.")
@click.option("--action", help="Only this action.")
@click.option("--type", "type_", type=TypePattern(), help="Only of this type, or transaction.*")
@click.option("--event", help="Only of this event: its number or key.")
@click.option("--waiting", "is_waiting", is_flag=True, help="Only what waits for another (order).")
@click.option(
    "--contradicted", is_flag=True, help="Only of events that Prembly, asked, contradicted."
)
@click.option("--since", type=WhenType(), help="Only of events received since.")
@list_options
def deliveries(
    config_path: Path,
    *,
    database: str | None,
    state: str | None,
    action: str | None,
    type_: str | None,
    event: str | None,
    is_waiting: bool,
    contradicted: bool,
    since: When | None,
    limit: int,
    wide: bool,
    as_json: bool,
) -> None:
    """The newest come first."""
    from premblyd.engines.connections import connect_read_only
    from premblyd.record import reading, unknowns
    from premblyd.record.choosing import DeliveryFilter
    from premblyd.record.reading import Page

    record = until_end(connect_read_only(database_of(config_path, database)))
    event_id = None if event is None else reading.find_event_id(record, event)
    chosen = DeliveryFilter(
        state=state,
        action=action,
        type=type_,
        event_id=event_id,
        is_waiting=is_waiting,
        contradicted=contradicted,
        since_ms=time_of(since, record),
    )
    rows = reading.deliveries(record, chosen, Page(limit=limit))
    if as_json:
        print_json([asdict(row) for row in rows])
    else:
        print_deliveries(rows, wide=wide, hint="--wide shows all.")
    if not rows and action is not None:
        note(unknowns.of_action(record, settings_if_valid(config_path, database), action))
    if not rows and type_ is not None:
        note(unknowns.of_type(record, type_))


def print_deliveries(rows: "Sequence[DeliveryRow]", *, hint: str, wide: bool = False) -> None:
    """Print a list of deliveries for people."""
    print_table(
        COLUMNS,
        [
            (
                row.id,
                row.event_id,
                row.action,
                row.state,
                row.attempt_count,
                times.for_people(None if row.state == "running" else row.due_at_ms),
                _why(row),
                row.reference,
                row.response_code,
                row.type,
            )
            for row in rows
        ],
        empty="No deliveries.",
        wide=wide,
        hint=hint,
    )


def _why(row: "DeliveryRow") -> str | None:
    """Return why the delivery has not succeeded, as far as that is known."""
    if row.ran_instead_id is not None:
        return f"delivery {row.ran_instead_id} (event {row.ran_instead_event_id}) ran instead"
    if row.state == "pending" and row.waits_for_id is not None:
        return f"waits for delivery {row.waits_for_id}"
    error: str | None = row.last_error
    return error
