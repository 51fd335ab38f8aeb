"""premblyd restore, and what install.sh asks before and after an upgrade: copies of a SQLite
database. Of a server's record it says how they are put back."""

import contextlib
import os
import pwd
import shlex
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import click

from premblyd import agefiles, times
from premblyd.backup import folder, keys
from premblyd.cli import config_option
from premblyd.cli.caller import actor
from premblyd.cli.common import database_of, open_to_change, settings_if_valid, vault
from premblyd.databases import DatabaseAddress, Server, is_postgresql
from premblyd.engines.connections import backend
from premblyd.engines.sqlite import copies, opening
from premblyd.engines.sqlite.files import hold, real_path
from premblyd.errors import LacksRightsError, PremblydError
from premblyd.keep import keycopies, restoring
from premblyd.keep.keycopies import KeptKeys, PutBack
from premblyd.keep.restoring import OtherRecordError, Remembered, TakenOver
from premblyd.words import counted


@click.command()
@click.argument("source", metavar="DIR|FILE", type=click.Path(path_type=Path))
@click.option("--copy", "name", metavar="NAME", help="Of DIR, this copy (default: the newest).")
@click.option(
    "--identity",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="The key that opens what was sealed by age, as `age-keygen` writes it.",
)
@click.option(
    "--keys",
    "place",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="Where the keys' copy is (default: `backup: {keys: …}` of the configuration).",
)
@click.option(
    "--only-keys", is_flag=True, help="Give the database, a dump that was put back, its keys."
)
@config_option
def restore(
    config_path: Path,
    *,
    source: Path,
    name: str | None,
    identity: Path | None,
    place: Path | None,
    only_keys: bool,
) -> None:
    """DIR is where `premblyd backup` puts its copies, FILE a copy of the database, such as
    premblyd.db.before-upgrade. It is opened, checked, and put in the place of the database that the
    configuration names. What was there goes into a folder beside it, premblyd.db.replaced-TIME:
    nothing is deleted, and the copy stays.

    Who was erased since the copy was made is erased from it again, and holds and closings of that
    time are taken over, as far as the database that was there can be read. The copy has them still.

    A copy that was made with `encryption` has no keys of events: it gets them from the keys' copy,
    by any data key that the configuration names. An event whose key is gone from there was erased,
    and is erased from what is put in.

    The daemon must be stopped. A run that was interrupted goes on when it is run again. For a
    record on PostgreSQL it says what to run.

    Exit status: 0 done, 1 not a good copy, and nothing was changed, 75 a daemon runs.
    """
    database = database_of(config_path)
    keys_copy = KeysCopy(_place_of_keys(config_path, place), identity)
    if only_keys:
        _give_keys(database, keys_copy)
        return
    copy = _chosen(source, name, backend(database).copy_suffix)
    if isinstance(database, Server):
        raise PremblydError(_by_hand(copy, database))
    real = real_path(database)
    since = Since(keys_copy)
    with copies.opened(copy, identity) as found:  # root's, if need be
        keys_copy.read()  # as long as this is root
        become_owner(real)
        try:
            with hold(real):
                restored = copies.put_in(real, found, since.take_over)
        except PermissionError as error:
            raise LacksRightsError(f"You may not write {error.filename or real.parent}.") from None
        except OSError as error:
            if not real.parent.exists():
                raise NoFolderError(real.parent) from None
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


def _chosen(source: Path, name: str | None, suffix: str) -> Path:
    """Return the copy that is meant."""
    if source.is_dir():
        return folder.chosen(source, suffix, name).path
    if name is not None:
        raise click.UsageError(f"--copy names a copy in a folder: {source} is none.")
    return source


def _by_hand(copy: Path, server: Server) -> str:
    """Return how a copy of a server's record is put back, which premblyd leaves to people: the
    server may be shared, and what is in a database now is nowhere else."""
    if not copy.name.removesuffix(folder.SEALED).endswith(".dump"):
        return (
            f"The record is in PostgreSQL, and {copy} is no dump of one: `pg_restore` puts one back"
            " that `backup` or `pg_dump` made (docs/backup.md)."
        )
    parts = urlsplit(server.url)
    new = f"{parts.path.strip('/') or parts.username or 'premblyd'}_restored"
    query = f"?{parts.query}" if parts.query else ""
    url = shlex.quote(f"{parts.scheme}://{parts.netloc}/{new}{query}")
    old, source = shlex.quote(server.url), shlex.quote(str(copy))
    create = f"createdb --template=template0 --encoding=UTF8 --maintenance-db={old} {new}"
    put = f"pg_restore --exit-on-error --single-transaction --dbname={url}"
    is_sealed = copy.name.endswith(folder.SEALED)
    piped = f"age --decrypt -i KEY {source} | {put}" if is_sealed else f"{put} {source}"
    return (
        "The record is in PostgreSQL: premblyd puts nothing in its place. Stop all daemons, then,"
        f" as who may make databases:\n  {create}\n  {piped}\n"
        f"Let `database:` name {new} on every host"
        f"{_KEYS_BY_HAND.format(source=shlex.quote(str(copy.parent)))}"
        ", and start the daemons. Then erase again whom"
        " you have erased since (`premblyd erase --list` on the database of before), and fetch"
        " what came since: `premblyd reconcile --store`."
    )


def _place_of_keys(config_path: Path, named: Path | None) -> Path | None:
    if named is not None:
        return named
    settings = settings_if_valid(config_path)
    return settings.backup.keys if settings and settings.backup else None


def _give_keys(database: DatabaseAddress, keys_copy: "KeysCopy") -> None:
    """Give a dump that was put back its keys, and erase from it who was erased since."""
    if not isinstance(database, Server):
        raise click.UsageError("--only-keys is for a record on PostgreSQL: leave it out.")
    keys_copy.read()
    kept = keys_copy.required()
    record = open_to_change(database)
    put_back = keycopies.put_back(record, kept, rows_are_there=False)
    taken = restoring.take_over(record, kept.remembered)
    keycopies.erase_lost(record, put_back, actor())
    erased = counted(taken.events + put_back.erased, "event")
    click.echo(f"The keys' copy opens {counted(put_back.opened, 'event')}. Erased {erased}.")


_KEYS_BY_HAND = (
    "; with `encryption`, give it its keys (`premblyd restore {source} --only-keys --identity"
    " KEY`), which erases whose keys are gone"
)


class NoFolderError(PremblydError):
    """The folder of the database is not there, as on a new machine."""

    def __init__(self, folder: Path) -> None:
        super().__init__(
            f"There is no folder {folder} to put the database in: make it, and let it belong to the"
            " daemon's user."
        )


class KeysCopy:
    """The keys' copy. It is read before it is known whether it is needed."""

    def __init__(self, place: Path | None, identity: Path | None) -> None:
        self._place = place
        self._identity = identity
        self._kept: KeptKeys | None = None
        self._problem: PremblydError | None = None

    def read(self) -> None:
        """Read it, if that can be done."""
        if self._place is None:
            self._problem = keys.NoKeysError(
                "The copy has no events' keys, and nobody says where their copy is: --keys DIR."
            )
        elif self._identity is None:
            self._problem = keys.NoKeysError(
                "The copy has no events' keys, and their copy is sealed by age: --identity FILE."
            )
        else:
            try:
                self._kept = keys.read(self._place, agefiles.read_identity(self._identity))
            except PremblydError as error:
                self._problem = error

    def required(self) -> KeptKeys:
        """Return it. Raise what is in the way."""
        if self._problem is not None:
            raise self._problem
        if self._kept is None:
            raise keys.NoKeysError("The keys' copy was not read.")
        return self._kept


class Since:
    """What happened since the copy was made, as the database that it replaces knows it, and the
    keys' copy."""

    def __init__(self, keys_copy: KeysCopy) -> None:
        self.is_migrated = False
        self._keys_copy = keys_copy
        self._put_back: PutBack | None = None
        self._taken: TakenOver | None = None
        self._unknown: str | None = None
        self._since = "it was made"

    def take_over(self, new: Path, old: Path | None) -> None:
        """Erase from the file that will be the database who was erased from the old one. Raise
        PremblydError when that can't be done: then nothing is put in its place."""
        kept = self._keys_copy.required() if copies.lacks_keys(new) else None
        remembered = self._remembered(old)
        if kept is not None and remembered is None:
            remembered = kept.remembered
            made = times.for_people(kept.made_at_ms)
            self._since = f"{made} UTC, when the keys' copy was made,"
        if kept is None and (remembered is None or not remembered.is_worth_it):
            return
        self.is_migrated = copies.migrate(new)
        with contextlib.closing(opening.connect_operator(new).with_vault(vault())) as database:
            if kept is not None:
                self._put_back = keycopies.put_back(database, kept, rows_are_there=True)
            if remembered is not None and remembered.is_worth_it:
                try:
                    self._taken = restoring.take_over(database, remembered)
                except OtherRecordError as error:
                    self._unknown = str(error)
            if self._put_back is not None:
                keycopies.erase_lost(database, self._put_back, actor())

    def _remembered(self, old: Path | None) -> Remembered | None:
        """Return what the database knows that is replaced; None, and why, if that can't be told."""
        if old is None:
            self._unknown = "there was no database that it replaces"
            return None
        try:
            with contextlib.closing(opening.connect_read_only(old).with_vault(vault())) as database:
                return database.look(restoring.remember)
        except PremblydError as error:
            self._unknown = str(error)
            return None

    def lines(self, copy: Path) -> Iterator[str]:
        """Yield what there is to say of it."""
        if self._unknown is not None:
            yield (
                f"Who was erased or held since {self._since} is not known"
                f" ({self._unknown.rstrip('.')}): erase and hold them again."
            )
        put_back = self._put_back
        if put_back is not None:
            yield f"The keys' copy opens of it {counted(put_back.opened, 'event')}."
        if put_back is not None and put_back.erased:
            yield (
                "Erased from it, since their keys are gone from there:"
                f" {counted(put_back.erased, 'event')}."
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
    raise NoFolderError(real.parent)


@click.group(hidden=True)
def upgrading() -> None:
    """The database before and after an upgrade by install.sh or the Debian package, which run these
    as its owner: root must not write where hooks could have left a link to somewhere else. Not for
    people, so `--help` hides it."""


@upgrading.command()
@config_option
def path(config_path: Path) -> None:
    """Print where the database is: a file's path, or a server's URL, which holds no password."""
    click.echo(database_of(config_path))


@upgrading.command()
@click.argument("database")
@click.option("--known", help="The migrations that another version knows, by commas.")
def fits(database: str, known: str | None) -> None:
    """Fail if a newer version has changed DATABASE so that this one, or the one that knows --known,
    can't work on it."""
    # A server's tells the daemon at its start: only that has the password.
    if not is_postgresql(database):
        opening.require_usable(Path(database), known.split(",") if known else None)


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
