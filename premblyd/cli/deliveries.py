"""premblyd deliveries"""

from pathlib import Path

import click

from premblyd.cli.common import config_option, json_option, until_end
from premblyd.cli.printing import iso, print_json, print_table

STATES = ("pending", "running", "succeeded", "dead", "cancelled")


@click.command()
@click.option("--state", type=click.Choice(STATES), help="Only this state.")
@click.option("--action", help="Only this action.")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1), help="At most.")
@config_option
@json_option
def deliveries(
    config_path: Path, *, state: str | None, action: str | None, limit: int, as_json: bool
) -> None:
    """The newest come first."""
    from premblyd import config
    from premblyd.store import audit, database

    settings = config.load(config_path, look_up_secrets=False)
    rows = audit.deliveries(
        until_end(database.connect_read_only(settings.database_path)),
        state=state,
        action=action,
        limit=limit,
    )
    if as_json:
        print_json(rows)
        return
    print_table(
        ("id", "event", "action", "state", "attempts", "due (UTC)", "code", "reference", "error"),
        [
            (
                *(row["id"], row["event_id"], row["action"], row["state"], row["attempt_count"]),
                *(iso(row["due_at_ms"]), row["response_code"], row["reference"]),
                row["last_error"],
            )
            for row in rows
        ],
        empty="No deliveries.",
    )
