"""premblyd hosts and premblyd record move"""

import contextlib
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from premblyd.cli import config_option, json_option
from premblyd.cli.caller import actor
from premblyd.cli.common import database_of, open_to_change, open_to_read, record_options
from premblyd.cli.printing import Column, print_json, print_listed, progress, showing
from premblyd.config.secrets import MAX_SECRET_BYTES, UnusableFileError, read_bounded
from premblyd.config.values import duration_text
from premblyd.feature import installed
from premblyd.features.postgresql import shown
from premblyd.features.postgresql.settings import Server, holds_password, is_postgresql
from premblyd.features.postgresql.shown import known
from premblyd.ground.databases import file_of
from premblyd.ground.errors import PremblydError
from premblyd.ground.words import counted
from premblyd.store.connections import backend, connect_read_only, translated

if TYPE_CHECKING:
    from premblyd.features.postgresql.moving import TableMoved


COLUMNS = (
    Column("host", "name"),
    Column("state", kind="whole"),
    Column("running", kind="whole"),
    Column("waiting", kind="whole"),
    Column("last seen (UTC)", "seen_at_ms", kind="time"),
    Column("started (UTC)", "started_at_ms", kind="time"),
    Column(
        "lost after",
        lambda host: host.lost_after_ms and duration_text(host.lost_after_ms),
        kind="whole",
    ),
    Column("version", kind="whole"),
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
        if database.transact(shown.forget(actor(), each, at_ms)):
            click.echo(f"Removed {each}: nothing waits for it any more.")
            continue
        if any(host.name == each for host in known(database, at_ms)):
            raise PremblydError(f"{each} is running: stop premblyd there, and wait a minute.")
        raise PremblydError(f"There is no host {each} to remove: `premblyd hosts` lists them.")


NAMED = ("event", "delivery", "attempt")
PLURALS = {"delivery": "deliveries"}


@click.command()
@click.argument("database", metavar="DATABASE")
@click.option(
    "--password-file",
    type=click.Path(path_type=Path),
    help="This file has the server's password.",
)
@config_option
@json_option
def move(config_path: Path, *, database: str, password_file: Path | None, as_json: bool) -> None:
    """DATABASE is a new one: postgresql://user@host/name. The record is moved there from the SQLite
    file that the configuration names, which stays as it is. There is no way back.

    The daemon must be stopped. A move that was interrupted has moved nothing.

    Exit status 75: a daemon runs, a database can't be reached, or it was interrupted.
    """
    target = _target(database, password_file)
    source = database_of(config_path)
    if isinstance(source, Server):
        raise PremblydError(
            "The record is already on a PostgreSQL server. Stop the daemons, and copy it with"
            " PostgreSQL's own pg_dump and pg_restore."
        )
    backend(target)  # says what is not installed
    from premblyd.features.postgresql import moving

    began_s = time.monotonic()
    with contextlib.closing(connect_read_only(source)) as record:
        names = [name for (name,) in record.execute_sql("SELECT feature FROM schema_part")]
    if left := ", ".join(sorted({*names} - {*installed()})):
        click.echo(f"Not moved: the tables of {left}, which is not installed.", err=True)
    with progress(silent=as_json) as shown, translated():
        moved = moving.move(source, target, showing(shown))
    took_s = time.monotonic() - began_s
    if as_json:
        print_json(
            {
                "from": str(source),
                "to": str(target),
                "took_s": round(took_s, 1),
                "tables": [
                    {"table": table.name, "rows": table.rows, "digest": table.digest}
                    for table in moved
                ],
            }
        )
    else:
        _print(config_path, str(source), target, moved, took_s)


def _target(text: str, password_file: Path | None) -> Server:
    """Return the database to move to. Raise click.BadParameter for none, and for a URL that has a
    password: every user sees it in the list of processes."""
    if not is_postgresql(text):
        raise click.BadParameter("should be postgresql://user@host/name.", param_hint="DATABASE")
    if holds_password(text):
        raise click.BadParameter(
            "leave the password out: --password-file has it, or libpq takes it from PGPASSWORD or"
            " ~/.pgpass.",
            param_hint="DATABASE",
        )
    return Server(text, _password(password_file) if password_file else None)


def _password(path: Path) -> str:
    try:
        return read_bounded(path, MAX_SECRET_BYTES).decode().removesuffix("\n")
    except (OSError, UnicodeDecodeError, UnusableFileError) as error:
        reason = (error.strerror or "") if isinstance(error, OSError) else "it is not text"
        text = f"{path} can't be read: {reason}."
        raise click.BadParameter(text, param_hint="--password-file") from None


def _print(
    config_path: Path, source: str, target: Server, moved: "Sequence[TableMoved]", took_s: float
) -> None:
    rows = {table.name: table.rows for table in moved}
    others = sum(count for name, count in rows.items() if name not in NAMED)
    counts = [counted(rows[name], name, PLURALS.get(name, f"{name}s")) for name in NAMED]
    click.echo(
        f"Moved and verified: {', '.join(counts)}, {counted(others, 'other row')},"
        f" in {took_s:,.0f} s."
    )
    click.echo(f"{source} was not changed.")
    click.echo(f"Now write this into {config_path}, and start the daemon:\n")
    url = str(target)
    if target.password is not None:
        url = f"{{url: '{target}', password: {{file: database-password}}}}"
    click.echo(f"  database: {url}\n")
    asking = "premblyd reconcile --store"
    click.echo(f"Then fetch the webhooks that came in the meantime: {asking}")
