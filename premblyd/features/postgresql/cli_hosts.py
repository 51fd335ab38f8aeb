"""premblyd hosts"""

from collections.abc import Sequence
from pathlib import Path

import click

from premblyd.cli import config_option
from premblyd.cli.caller import actor
from premblyd.cli.common import database_of, open_to_change, open_to_read, record_options
from premblyd.cli.printing import Column, print_listed
from premblyd.config.values import duration_text
from premblyd.features.postgresql import hostlist
from premblyd.features.postgresql.hostlist import known
from premblyd.ground.databases import file_of
from premblyd.ground.errors import PremblydError

COLUMNS = (
    Column("host", "name"),
    Column("state", kind="whole"),
    Column("running", rank=3, kind="whole"),
    Column("waiting", kind="whole"),
    Column("last seen (UTC)", "seen_at_ms", rank=1, kind="time"),
    Column("started (UTC)", "started_at_ms", rank=2, kind="time"),
    Column(
        "lost after",
        lambda host: host.lost_after_ms and duration_text(host.lost_after_ms),
        rank=4,
        kind="whole",
    ),
    Column("version", rank=5, kind="whole"),
)


@click.group(invoke_without_command=True)
@record_options
@click.pass_context
def hosts(ctx: click.Context, config_path: Path, *, database: str | None, as_json: bool) -> None:
    """Lists the hosts that are running, and those that stopped or were lost and may come back.
    WAITING: deliveries whose action no other host has.

    `premblyd hosts forget NAME` removes a host that will not come back.
    """
    if ctx.invoked_subcommand is not None:
        ctx.obj = config_path
        return
    place = database_of(config_path, database)
    record = open_to_read(place)
    found = known(record, record.now_ms()) if file_of(place) is None else []
    empty = "No hosts." if file_of(place) is None else f"{place} is a SQLite file, for one host."
    print_listed(COLUMNS, found, empty=empty, as_json=as_json)


@hosts.command()
@click.argument("name", nargs=-1, required=True)
@config_option
def forget(config_path: Path, name: Sequence[str]) -> None:
    """Remove hosts that will not come back. Deliveries whose action no other host has become dead;
    `replay` runs them again. This is recorded. A host that starts again is listed again."""
    database = open_to_change(database_of(config_path))
    for each in name:
        at_ms = database.now_ms()
        if database.transact(hostlist.forget(actor(), each, at_ms)):
            click.echo(f"Removed {each}: nothing waits for it any more.")
            continue
        if any(host.name == each for host in known(database, at_ms)):
            raise PremblydError(f"{each} is running: stop premblyd there, and wait a minute.")
        raise PremblydError(f"There is no host {each} to remove: `premblyd hosts` lists them.")
