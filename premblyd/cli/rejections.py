"""premblyd rejections"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from premblyd import times
from premblyd.cli.listing import list_options, print_list
from premblyd.cli.printing import Column, print_table
from premblyd.record.filters import RejectionFilter

if TYPE_CHECKING:
    from premblyd.record.queries import RejectionRow

COLUMNS = (
    Column(name="id", rank=4, kind="whole"),
    Column(name="at (UTC)", kind="time"),
    Column(name="from", rank=1, kind="whole"),
    Column(name="reason"),
    Column(name="endpoint", rank=2, kind="reference"),
    Column(name="bytes", rank=3, kind="whole"),
    Column(name="sha256 of the body", rank=6, kind="reference"),
)


@click.command()
@list_options(RejectionFilter)
def rejections(**asked: Any) -> None:
    """The newest come first. They are kept as evidence, the newest 10,000, without their bodies."""
    print_list(RejectionFilter, print_rejections, **asked)


def print_rejections(rows: "Sequence[RejectionRow]", *, hint: str, wide: bool = False) -> None:
    """Print a list of rejections for people."""
    print_table(
        COLUMNS,
        [
            (
                row.id,
                times.for_people(row.at_ms),
                row.remote_ip,
                row.reason,
                row.endpoint,
                row.body_bytes,
                row.body_sha256,
            )
            for row in rows
        ],
        empty="No rejections.",
        wide=wide,
        hint=hint,
    )
