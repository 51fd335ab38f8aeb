"""premblyd unsettled"""

from itertools import chain
from pathlib import Path
from typing import Any

import click

from premblyd.cli.caller import actor
from premblyd.cli.common import database_of, open_to_change, settings_if_valid
from premblyd.cli.lists import Shown, list_options, list_rows
from premblyd.cli.printing import Column, print_told
from premblyd.config.keys import value_of
from premblyd.features.asking import listing
from premblyd.features.asking.listing import DISMISSED, AwaitedFilter
from premblyd.ground.words import counted
from premblyd.record import operating
from premblyd.record.events import find_event_id
from premblyd.record.listing import filters_of
from premblyd.record.operating import Operator

SHOWN = Shown(
    "No unsettled verifications.",
    (
        Column("id", kind="whole"),
        Column("event", "event_id", kind="whole"),
        Column("state", kind="whole"),
        Column("asked", "ask_count", kind="whole"),
        Column("due (UTC)", "due_at_ms", kind="time"),
        Column("settled by", "settled_by_id", kind="whole"),
        Column("error", "last_error"),
        Column("reference"),
        Column("created (UTC)", "created_at_ms", kind="time"),
    ),
)


@click.command()
@click.option(
    "--dismiss",
    metavar="EVENT",
    help="Dismiss this event (a number or a key), or `all`: `status` stops listing it.",
)
@list_options(AwaitedFilter)
def unsettled(*, dismiss: str | None, **asked: Any) -> None:
    """Newest first. If the configuration has `pending`, Prembly is asked about each that waits."""
    if dismiss is not None:
        _dismiss(dismiss, **asked)
        return
    names = [each.field for each in filters_of(AwaitedFilter)]
    rows = list_rows(AwaitedFilter, shown=SHOWN, **asked)
    is_whole = not any(asked[name] for name in names)
    if not asked["as_json"] and (
        any(row.due_at_ms is not None for row in rows) or (not rows and is_whole)
    ):
        settings = settings_if_valid(asked["config_path"], asked["database"])
        if settings and value_of("pending", settings) is None:
            click.echo("note: The configuration has no `pending`: Prembly is not asked.", err=True)


def _dismiss(
    event: str, *, config_path: Path, database: str | None, as_json: bool, **_: Any
) -> None:
    record = open_to_change(database_of(config_path, database))
    if event == "all":
        event_ids = sorted({*chain(*listing.undismissed_ids(record).values())})
    else:
        event_ids = [find_event_id(record, event)]
    changes = Operator(actor=actor()).record_events(DISMISSED, event_ids, record.now_ms())
    count = sum(operating.transact_all(record, changes))
    print_told({"dismissed": count}, f"Dismissed {counted(count, 'event')}.", as_json=as_json)
