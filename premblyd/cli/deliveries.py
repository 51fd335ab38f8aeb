"""premblyd deliveries"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from premblyd import times
from premblyd.cli.listing import list_options, print_list
from premblyd.cli.printing import Column, print_table
from premblyd.record.filters import DeliveryFilter

if TYPE_CHECKING:
    from premblyd.record.queries import DeliveryRow

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
@list_options(DeliveryFilter)
def deliveries(**asked: Any) -> None:
    """The newest come first."""
    print_list(DeliveryFilter, print_deliveries, **asked)


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
