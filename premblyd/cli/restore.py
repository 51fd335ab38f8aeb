"""premblyd restore, and what install.sh asks before and after an upgrade: copies of a SQLite
database. A server's record has its own."""

import contextlib
import os
import pwd
from collections.abc import Iterator
from pathlib import Path

import click

from premblyd import times
from premblyd.cli import config_option
from premblyd.cli.common import database_of, vault
from premblyd.databases import Server, is_postgresql
from premblyd.engines.sqlite import copies, opening
from premblyd.engines.sqlite.files import hold, real_path
from premblyd.errors import LacksRightsError, PremblydError
from premblyd.keep import restoring
from premblyd.keep.restoring import OtherRecordError, TakenOver
from premblyd.words import counted


@click.command()
@click.argument("copy", metavar="FILE", type=click.Path(path_type=Path))
@config_option
def restore(config_path: Path, copy: Path) -> None:
    """FILE is a copy of the database, such as premblyd.db.before-upgrade. It is checked, and put in
    the place of the database that the configuration names. What was there goes into a folder
    beside it, premblyd.db.replaced-TIME: nothing is deleted, and FILE stays.

    Who was erased since the copy was made is erased from it again, and holds and closings of that
    time are taken over, as far as the database that was there can be read. FILE has them still.

    The daemon must be stopped. A run that was interrupted goes on when it is run again.

    Exit status: 0 done, 1 not a good copy, and nothing was changed, 75 a daemon runs.
    """
    database = database_of(config_path)
    if isinstance(database, Server):
        raise PremblydError(
            "The record is in PostgreSQL, which has its own copies: `pg_restore` puts one back"
            " (docs/several-hosts.md)."
        )
    real = real_path(database)
    since = Since()
    with copies.opened(copy) as source:  # root's, if need be
        become_owner(real)
        try:
            with hold(real):
                restored = copies.put_in(real, source, since.take_over)
        except PermissionError as error:
            raise LacksRightsError(f"You may not write {error.filename or real.parent}.") from None
        except OSError as error:
            raise PremblydError(f"Can't use {real.parent}: {error.strerror}") from None
    last = times.for_people(restored.last_received_at_ms)
    until = f", the last of {last} UTC" if last else ""
    events = counted(restored.events, "event")
    click.echo(f"Put {copy} in the place of {real}: {events}{until}.")
    if restored.is_older:
        done = "It was migrated" if since.is_migrated else "The daemon migrates it when it starts"
        click.echo(f"An older premblyd wrote it. {done}.")
    for line in since.lines(copy):
        click.echo(line)
    if restored.aside is not None:
        click.echo(f"What was there is in {restored.aside}. Nothing was deleted.")


class Since:
    """What happened since the copy was made, as the database that it replaces knows it."""

    def __init__(self) -> None:
        self.is_migrated = False
        self._taken: TakenOver | None = None
        self._unknown: str | None = None

    def take_over(self, new: Path, old: Path | None) -> None:
        """Erase from the file that will be the database who was erased from the old one. Raise
        PremblydError when that can't be done: then nothing is put in its place."""
        if old is None:
            return
        try:
            with contextlib.closing(opening.connect_read_only(old).with_vault(vault())) as database:
                remembered = database.look(restoring.remember)
        except PremblydError as error:
            self._unknown = str(error)
            return
        if not remembered.is_worth_it:
            return
        try:
            self.is_migrated = copies.migrate(new)
            with contextlib.closing(opening.connect_operator(new).with_vault(vault())) as database:
                self._taken = restoring.take_over(database, remembered)
        except OtherRecordError as error:
            self._unknown = str(error)

    def lines(self, copy: Path) -> Iterator[str]:
        """Yield what there is to say of it."""
        if self._unknown is not None:
            yield (
                "Who was erased or held since it was made is not known"
                f" ({self._unknown.rstrip('.')}): erase and hold them again."
            )
        taken = self._taken
        if taken is None:
            return
        if taken.events or taken.erasures:
            events, erasures = counted(taken.events, "event"), counted(taken.erasures, "erasure")
            yield (
                "Erased from it again who was erased since it was made:"
                f" {events} of {erasures}. {copy} has them still: delete it."
            )
        for count, what in ((taken.holds, "hold"), (taken.closings, "closing")):
            if count:
                yield f"Took over what came since it was made: {counted(count, what)}."


def become_owner(real: Path) -> None:
    """Be the database's owner from here on, if this is root: what the service's user can write to
    may hold a link to somewhere else, and what is made here must be that user's."""
    if os.geteuid() != 0:
        return
    owner, group = _owner(real)
    if owner == 0:
        return
    groups = [group]
    with contextlib.suppress(KeyError):  # a number without a name has no groups of its own
        user = pwd.getpwuid(owner)
        group, groups = user.pw_gid, os.getgrouplist(user.pw_name, user.pw_gid)
    os.setgroups(groups)
    os.setresgid(group, group, group)
    os.setresuid(owner, owner, owner)


def _owner(real: Path) -> tuple[int, int]:
    for path in (real, real.parent):
        with contextlib.suppress(FileNotFoundError):
            found = path.stat()
            return found.st_uid, found.st_gid
    raise PremblydError(f"There is no folder {real.parent} to put the database in.")


@click.group(hidden=True)
def upgrading() -> None:
    """The database before and after an upgrade by install.sh, which runs these as its owner: root
    must not write where hooks could have left a link to somewhere else. Not for people, so `--help`
    hides it."""


@upgrading.command()
@config_option
def path(config_path: Path) -> None:
    """Print where the database is: a file's path, or a server's URL, which holds no password."""
    click.echo(database_of(config_path))


@upgrading.command()
@click.argument("database")
def fits(database: str) -> None:
    """Fail if a newer version has changed DATABASE so that this one can't work on it."""
    # A server's tells the daemon at its start: only that has the password.
    if not is_postgresql(database):
        opening.require_usable(Path(database))


@upgrading.command()
@click.argument("database")
def save(database: str) -> None:
    """Copy DATABASE before the new version migrates it."""
    if is_postgresql(database):
        click.echo(
            "The record is in PostgreSQL: no copy is made of it, so going back to the old version"
            " needs your own backup (docs/several-hosts.md)"
        )
        return
    copy = copies.save(Path(database))
    if copy is not None:
        click.echo(f"Copied the database to {copy}")


@upgrading.command("restore")
@click.argument("database")
def put_back(database: str) -> None:
    """Put the copy of DATABASE back, if the new version failed and has changed the schema."""
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
