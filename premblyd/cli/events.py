"""premblyd events"""

from pathlib import Path

import click

from premblyd.cli.common import When, config_option, json_option, until_end
from premblyd.cli.printing import iso, print_json, print_table

OUTCOMES = ("verified", "not_verified", "pending", "unknown")


@click.command()
@click.option("--code", help="Only this response code; `missing` for events without one.")
@click.option("--outcome", type=click.Choice(OUTCOMES), help="Only this outcome.")
@click.option("--reference", help="Only this Prembly reference.")
@click.option("--user-ref", help="Only this user reference.")
@click.option("--since", "since_ms", type=When(), help="Received at or after: 2026-01-31, 12h.")
@click.option("--until", "until_ms", type=When(), help="Received before.")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1), help="At most.")
@config_option
@json_option
def events(
    config_path: Path,
    *,
    code: str | None,
    outcome: str | None,
    reference: str | None,
    user_ref: str | None,
    since_ms: int | None,
    until_ms: int | None,
    limit: int,
    as_json: bool,
) -> None:
    """The newest come first. Payloads are not shown: see `premblyd show`."""
    from premblyd import config
    from premblyd.store import audit, database

    settings = config.load(config_path, look_up_secrets=False)
    wanted = audit.EventFilter(
        code=code,
        outcome=outcome,
        reference=reference,
        user_ref=user_ref,
        since_ms=since_ms,
        until_ms=until_ms,
    )
    rows = audit.events(
        until_end(database.connect_read_only(settings.database_path)), wanted, limit
    )
    if as_json:
        print_json(rows)
        return
    print_table(
        ("id", "at (UTC)", "endpoint", "kind", "code", "outcome", "reference", "duplicates"),
        [
            (
                *(row["id"], iso(row["received_at_ms"]), row["endpoint"], row["kind"]),
                *(row["response_code"], row["outcome"], row["reference"]),
                row["duplicate_count"] or "",
            )
            for row in rows
        ],
        empty="No events.",
    )
