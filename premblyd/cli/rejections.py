"""premblyd rejections"""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from premblyd import times
from premblyd.cli.common import When, WhenType, time_of, until_end
from premblyd.cli.database import database_of
from premblyd.cli.listing import list_options, note
from premblyd.cli.printing import Column, print_json, print_table

if TYPE_CHECKING:
    from premblyd.record.rows import RejectionRow

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
@click.option("--reason", help="Only refused for this reason, such as 'wrong signature'.")
@click.option("--ip", help="Only from this address.")
@click.option("--since", type=WhenType(), help="Only refused at or after: 2026-01-31, 12h.")
@list_options
def rejections(
    config_path: Path,
    *,
    database: str | None,
    reason: str | None,
    ip: str | None,
    since: When | None,
    limit: int,
    wide: bool,
    as_json: bool,
) -> None:
    """The newest come first. They are kept as evidence, the newest 10,000, without their bodies."""
    from premblyd.engines.connections import connect_read_only
    from premblyd.record import reading, unknowns
    from premblyd.record.choosing import RejectionFilter
    from premblyd.record.reading import Page

    record = until_end(connect_read_only(database_of(config_path, database)))
    chosen = RejectionFilter(reason=reason, remote_ip=ip, since_ms=time_of(since, record))
    rows = reading.rejections(record, chosen, Page(limit=limit))
    if as_json:
        print_json([asdict(row) for row in rows])
    else:
        print_rejections(rows, wide=wide, hint="--wide shows all.")
    if not rows and reason is not None:
        note(unknowns.of_reason(record, reason))


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
