"""premblyd move"""

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import click

from premblyd.cli import caller, config_option, json_option
from premblyd.cli.common import database_of
from premblyd.cli.printing import console, print_json, progress
from premblyd.config.secrets import MAX_SECRET_BYTES, UnusableFileError, read_bounded
from premblyd.config.values import sqlite_path
from premblyd.databases import DatabaseAddress, Server, file_of, holds_password, is_postgresql
from premblyd.engines.connections import translated
from premblyd.errors import PremblydError
from premblyd.move import moving
from premblyd.move.moving import MoveStep, TableMoved
from premblyd.words import counted

NAMED = ("event", "delivery", "attempt")
PLURALS = {"delivery": "deliveries"}
LINE_EVERY_S = 10.0  # where no terminal shows a bar


@click.command()
@click.argument("database", metavar="DATABASE")
@click.option(
    "--password-file",
    type=click.Path(path_type=Path),
    help="The server's password stands in this file.",
)
@click.option("--restart", is_flag=True, help="Empty what an earlier run brought, and begin again.")
@config_option
@json_option
def move(
    config_path: Path,
    *,
    database: str,
    password_file: Path | None,
    restart: bool,
    as_json: bool,
) -> None:
    """DATABASE is a new one: postgresql://user@host/name, or sqlite:///PATH. The record is moved
    there from the database that the configuration names, which stays as it is.

    The daemon must be stopped. A run that was interrupted goes on when it is run again.

    Exit status 75: a daemon runs, a database can't be reached, or it was interrupted.
    """
    target = _target(database, password_file)
    source = database_of(config_path)
    _require_two_engines(source, target)
    began_s = time.monotonic()
    with (
        _watching(silent=as_json) as watch,
        translated(),
        moving.source(source) as old,
        moving.target(target) as new,
    ):
        moved = moving.move(old, new, watch=watch, restart=restart)
    took_s = time.monotonic() - began_s
    if as_json:
        print_json(
            {
                "from": str(source),
                "to": str(target),
                "took_s": round(took_s, 1),
                "tables": [
                    {"table" if name == "name" else name: value for name, value in row.items()}
                    for row in map(dataclasses.asdict, moved)
                ],
            }
        )
    else:
        _print(config_path, source, target, moved, took_s)


def _target(text: str, password_file: Path | None) -> DatabaseAddress:
    """Return the database to move to. Raise click.BadParameter for none, and for a URL that has a
    password: every user sees it in the list of processes."""
    if not is_postgresql(text):
        try:
            return sqlite_path(text, Path.cwd())
        except ValueError:
            raise click.BadParameter(
                "should be postgresql://user@host/name or sqlite:///PATH.", param_hint="DATABASE"
            ) from None
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
        reason = (error.strerror or "") if isinstance(error, OSError) else "it is no text"
        text = f"{path} can't be read: {reason}."
        raise click.BadParameter(text, param_hint="--password-file") from None


def _require_two_engines(source: DatabaseAddress, target: DatabaseAddress) -> None:
    if isinstance(source, Path) and isinstance(target, Path):
        raise PremblydError(
            f"The record is in a SQLite file already, {source}. Stop the daemon and copy the file."
        )
    if isinstance(source, Server) and isinstance(target, Server):
        raise PremblydError(
            "The record is on a PostgreSQL server already. Stop the daemons, and copy it with"
            " PostgreSQL's own pg_dump and pg_restore."
        )


@contextlib.contextmanager
def _watching(*, silent: bool) -> Iterator[Callable[[MoveStep], None]]:
    """Show how far it is: by a bar on a terminal, else by a line now and then."""
    if silent:
        yield lambda _: None
    elif not console(stderr=True).is_terminal:
        yield _Lines()
    else:
        with progress(silent=False) as shown:
            task = shown.add_task("")

            def show(step: MoveStep) -> None:
                total = step.total or None
                shown.update(task, description=_doing(step), completed=step.done, total=total)

            yield show


class _Lines:
    """Prints a line for each table, and for a long one now and then."""

    def __init__(self) -> None:
        self._last_s = time.monotonic()

    def __call__(self, step: MoveStep) -> None:
        now_s = time.monotonic()
        is_whole = step.done == step.total and step.total > 0
        if is_whole or now_s - self._last_s >= LINE_EVERY_S:
            click.echo(f"{_doing(step)}: {step.done:,} of {step.total:,}", err=True)
            self._last_s = now_s


def _doing(step: MoveStep) -> str:
    return f"{'verifying' if step.is_verifying else 'copying'} {step.table}"


def _print(
    config_path: Path,
    source: DatabaseAddress,
    target: DatabaseAddress,
    moved: Sequence[TableMoved],
    took_s: float,
) -> None:
    rows = {table.name: table.rows for table in moved}
    others = sum(count for name, count in rows.items() if name not in NAMED)
    counts = [counted(rows[name], name, PLURALS.get(name, f"{name}s")) for name in NAMED]
    click.echo(
        f"Moved and verified: {', '.join(counts)}, {counted(others, 'other row')},"
        f" in {took_s:,.0f} s."
    )
    for table in moved:
        for column, count in table.replaced.items():
            texts = counted(count, "text has", "texts have")
            click.echo(
                f"{table.name}.{column}: {texts} U+FFFD now where PostgreSQL can't hold what was"
                " there (NUL, or bytes that are no UTF-8)."
            )
    click.echo(f"{source} is as it was.")
    click.echo(f"Now let {config_path} say, and then start the daemon:\n")
    click.echo(f"  database: {_as_configured(target)}\n")
    asking = caller.command_as_called("premblyd reconcile --store")
    click.echo(f"Then ask for what came meanwhile: {asking}")


def _as_configured(place: DatabaseAddress) -> str:
    path = file_of(place)
    if path is not None:
        return f"sqlite:///{path}"
    if isinstance(place, Server) and place.password is not None:
        return f"{{url: '{place}', password: {{file: database-password}}}}"
    return str(place)
