"""premblyd upgrading: what install.sh asks of the program. Not for people, so `--help` hides it."""

from pathlib import Path

import click

from premblyd.cli.common import config_option


@click.group(hidden=True)
def upgrading() -> None:
    """The database before and after an upgrade by install.sh, which runs these as its owner: root
    must not write where hooks could have left a link to somewhere else."""


@upgrading.command()
@config_option
def path(config_path: Path) -> None:
    """Print where the database is."""
    from premblyd.cli.database import database_of

    click.echo(database_of(config_path))


@upgrading.command()
@click.argument("database", type=click.Path(path_type=Path))
def save(database: Path) -> None:
    """Copy DATABASE before the new version migrates it."""
    from premblyd.store.sqlite import copies

    copy = copies.save(database)
    if copy is not None:
        click.echo(f"Copied the database to {copy}")


@upgrading.command()
@click.argument("database", type=click.Path(path_type=Path))
def restore(database: Path) -> None:
    """Put the copy of DATABASE back, if the new version failed and has changed the schema."""
    from premblyd.store.sqlite import copies

    restoration = copies.restore(database)
    if restoration is None:
        return
    events, attempts = restoration.events, restoration.attempts
    if restoration.is_put_back:
        if restoration.aside is not None:
            click.echo(
                f"{events} events and {attempts} attempts of the failed version are only in"
                f" {restoration.aside}"
            )
        click.echo("Put the copy of the database back")
    elif events:
        click.echo(f"The new version stored {events} more events: the database stays")
