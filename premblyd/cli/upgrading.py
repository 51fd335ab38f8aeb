"""premblyd upgrading: what install.sh asks of the program. Not for people, so `--help` hides it."""

from pathlib import Path

import click

from premblyd.cli.common import config_option
from premblyd.databases import is_postgresql


@click.group(hidden=True)
def upgrading() -> None:
    """The database before and after an upgrade by install.sh, which runs these as its owner: root
    must not write where hooks could have left a link to somewhere else."""


@upgrading.command()
@config_option
def path(config_path: Path) -> None:
    """Print where the database is: a file's path, or a server's URL, which holds no password."""
    from premblyd.cli.database import database_of

    click.echo(database_of(config_path))


@upgrading.command()
@click.argument("database")
def fits(database: str) -> None:
    """Fail if a newer version has changed DATABASE so that this one can't work on it."""
    from premblyd.engines.sqlite import opening

    # A server's tells the daemon at its start: only that has the password.
    if not is_postgresql(database):
        opening.require_usable(Path(database))


@upgrading.command()
@click.argument("database")
def save(database: str) -> None:
    """Copy DATABASE before the new version migrates it."""
    from premblyd.engines.sqlite import copies

    if is_postgresql(database):
        click.echo(
            "The record is in PostgreSQL: no copy is made of it, so going back to the old version"
            " needs your own backup (docs/several-hosts.md)"
        )
        return
    copy = copies.save(Path(database))
    if copy is not None:
        click.echo(f"Copied the database to {copy}")


@upgrading.command()
@click.argument("database")
def restore(database: str) -> None:
    """Put the copy of DATABASE back, if the new version failed and has changed the schema."""
    from premblyd.engines.sqlite import copies

    if is_postgresql(database):
        return
    restoration = copies.restore(Path(database))
    if restoration is None:
        return
    events, attempts = restoration.events, restoration.attempts
    if restoration.is_put_back:
        click.echo("Put the copy of the database back")
        click.echo(
            f"The database with {events} events and {attempts} attempts of the failed version is in"
            f" {restoration.aside}"
        )
    elif events:
        click.echo(f"The new version stored {events} more events: the database stays")
