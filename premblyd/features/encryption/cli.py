"""premblyd record encrypt: encrypts the database of a stopped daemon, or gives it another key. It
writes a file beside it, which takes its place at last: see features/backup/replacing.py.

The database's own file is opened by SQLite alone: to close it otherwise would end SQLite's locks.
"""

import contextlib
import itertools
import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import click

from premblyd.cli import config_option, json_option
from premblyd.cli.common import database_of
from premblyd.cli.printing import print_told, progress, showing
from premblyd.features.backup.replacing import keep_others_out, put_in_place
from premblyd.features.backup.taking import Watch, as_owner, lacking_room, what_is_wrong, write
from premblyd.features.encryption import cipher, keys
from premblyd.features.keeping import newfile
from premblyd.ground import databases, times
from premblyd.ground.databases import EncryptedFile, is_plain
from premblyd.ground.errors import (
    CannotStartError,
    LacksRightsError,
    PremblydError,
    StoreUnreadableError,
)
from premblyd.store.connections import translated
from premblyd.store.sqlite.connecting import NotOpenedError, connect
from premblyd.store.sqlite.files import (
    NEW,
    beside,
    hold,
    real_path,
    remove,
    restrict,
    size,
)
from premblyd.store.sqlite.opening import BUSY_TIMEOUT_S, not_opened, require_readable


@dataclass(frozen=True, slots=True, kw_only=True)
class Encrypted:
    """What was done. `finished`: a change of the key that had been interrupted. `dropped`: a next
    key that opened nothing. `aside`: the file of before, which is plain if `was_plain`; `old_key`:
    the key of before. What was not done is None."""

    finished: bool = False
    dropped: Path | None = None
    aside: Path | None = None
    was_plain: bool = False
    old_key: Path | None = None


def encrypt_record(
    place: EncryptedFile, new_key: Path | None, now_ms: int, watch: Watch
) -> Encrypted:
    """Encrypt a plain database with its key, or an encrypted one with the key in the file
    `new_key`, and finish first what was interrupted.

    Raise PremblydError when that can't be, AlreadyRunningError while a daemon works: then nothing
    was changed. Wherever it is killed, one whole database is there, and its key or the next one
    opens it.
    """
    real, key_path = real_path(place.path), place.key_path
    next_key = databases.next_key(key_path)
    require_readable(place.path)
    key = keys.read_key(key_path)
    wanted = None if new_key is None else keys.read_key(new_key)
    finished, dropped, aside, old_key = False, None, None, None
    with contextlib.ExitStack() as held, _in_words():
        with as_owner(place.path):
            held.enter_context(hold(real))
            was_plain = is_plain(real) is True
        if was_plain and wanted is not None:
            raise PremblydError(
                f"{real} is not encrypted yet. Leave --new-key out: it is encrypted with the key"
                f" in {key_path}."
            )
        opened_by = None if was_plain else opening_key(real, key_path)
        if os.path.lexists(next_key):
            if finished := opened_by not in (None, key):
                old_key, key = _exchange(key_path), opened_by or key
            else:
                next_key.unlink()
                newfile.sync(key_path.parent)
                dropped = next_key
        if was_plain or wanted not in (None, key):
            if wanted is not None:
                _require_exchangeable(place)
            with as_owner(place.path):
                new = held.enter_context(write_encrypted(real, opened_by, wanted or key, watch))
            if wanted is not None:
                _put_next(key_path, wanted)
            with as_owner(place.path):
                aside = put_in_place(new, real, now_ms, is_alone=True)
            if wanted is not None:
                old_key = _exchange(key_path)
    return Encrypted(
        finished=finished, dropped=dropped, aside=aside, was_plain=was_plain, old_key=old_key
    )


def opening_key(path: Path, key_path: Path) -> str:
    """Return the key that opens the database: that in the file, or the next one. Raise
    CannotStartError, in words, when none does."""
    for key in keys.keys_in(key_path):
        with contextlib.suppress(NotOpenedError), translated(StoreUnreadableError):
            uri = f"{real_path(path).as_uri()}?mode=ro"
            connect(uri, [key], timeout=BUSY_TIMEOUT_S).close()
            return key
    raise not_opened(path, key_path)


@contextlib.contextmanager
def _in_words() -> Iterator[None]:
    """Say in words what fails. The database is whole then, by one of its keys."""
    try:
        with translated():
            yield
    except OSError as error:
        raise PremblydError(f"Can't use {error.filename}: {error.strerror}.") from None


def _require_exchangeable(place: EncryptedFile) -> None:
    """Raise PremblydError where the key's file can't be replaced together with the database."""
    may_read, key_path = False, place.key_path
    with as_owner(place.path), contextlib.suppress(LacksRightsError):
        may_read = bool(keys.read_key(key_path))
    if not may_read or not os.access(key_path.parent, os.W_OK, effective_ids=True):
        name = key_path.name.removeprefix("credentials_")  # of what systemd passes on
        raise LacksRightsError(
            f"{key_path} can't be replaced together with the database. {UNCHANGED} As root, put a"
            f" copy of it beside the configuration, as {name}, mode 0600, of the user whom the"
            " database belongs to; run this again; move the new key to where the old one was."
        )


def _put_next(key_path: Path, key: str) -> None:
    """Write the next key, for those who may read the key."""
    status = key_path.stat()
    with newfile.new_file(databases.next_key(key_path)) as file:
        if os.geteuid() == 0:
            os.fchown(file.fileno(), status.st_uid, status.st_gid)
        os.fchmod(file.fileno(), status.st_mode & 0o640)
        file.write(f"{key}\n".encode())


def _exchange(key_path: Path) -> Path:
    """Have the next key be the key; return where the old one is kept: copies of before need it."""
    for number in itertools.count(1):
        kept = key_path.with_name(f"{key_path.name}.old-{number}")
        with contextlib.suppress(FileExistsError):
            kept.hardlink_to(key_path)
        if kept.samefile(key_path):  # or it was kept by one that was killed
            break
    newfile.sync(key_path.parent)
    databases.next_key(key_path).rename(key_path)
    newfile.sync(key_path.parent)
    return kept


UNCHANGED = "Nothing was changed."


@contextmanager
def write_encrypted(real: Path, key: str | None, new_key: str, watch: Watch) -> Iterator[Path]:
    """Write what is in a database that no daemon has into a new file beside it, by a new key. Give
    where: everybody else is kept out of the database until this ends. `key`: of the database; None:
    it is plain. Raise PremblydError when the disk is too small, or the new one is damaged, an error
    of SQLite's when somebody else has it open."""
    new = beside(real, NEW)
    remove(new)  # what a killed one has left
    restrict(real)
    if told := lacking_room(real.parent, size(real) + size(beside(real, "-wal"))):
        raise PremblydError(f"The disk of {real} is too small: {told}. {UNCHANGED}")
    os.close(os.open(new, os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
    source_uri, uri = f"{real.as_uri()}?mode=rw", f"{new.as_uri()}?mode=rw"
    try:
        # By SQLCipher, a plain one too: else it could not be encrypted.
        keyed = (
            connect(source_uri, [key])
            if key
            else cipher.connect(source_uri, None, isolation_level=None)
        )
        with closing(keyed) as source:
            keep_others_out(source)
            write(source, new, new_key, watch, is_plain=key is None)
            with closing(connect(uri, [new_key])) as target:
                watch("checking", 0, None)
                if found := what_is_wrong(target):
                    raise PremblydError(f"The new file is not whole ({found}). {UNCHANGED}")
            yield new
    finally:
        remove(new)


@click.command()
@click.option(
    "--new-key",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Change the key: this file has the new one, 64 hex digits.",
)
@config_option
@json_option
def encrypt(config_path: Path, *, new_key: Path | None, as_json: bool) -> None:
    """The configuration names the key: `encryption: {key: {file: database.key}}`. Without the key
    the record is lost, and so are its copies: keep a copy of it elsewhere.

    The daemon must be stopped. What was interrupted is finished by the same command. The old file
    is kept beside the new one until you delete it, and so is an old key.

    Exit status 75: a daemon runs, or another command has the database open.
    """
    place = database_of(config_path)
    if not isinstance(place, EncryptedFile):
        raise CannotStartError(
            f"{config_path} names no key. `premblyd init --encryption {config_path.parent}` makes"
            " one, and says what to write there. Put a PostgreSQL server on an encrypted volume."
        )
    with progress(silent=as_json) as shown:
        done = encrypt_record(place, new_key, times.now_ms(), showing(shown))
    paths = {"removed_key": done.dropped, "old_file": done.aside, "old_key": done.old_key}
    exact = {name: path and str(path) for name, path in paths.items()}
    told = "\n".join(_told(place, done))
    print_told({"finished": done.finished, **exact}, told, as_json=as_json)


def _told(place: EncryptedFile, done: Encrypted) -> Iterator[str]:
    if done.dropped:
        yield f"Removed {done.dropped}: it does not open {place}."
    if done.finished:
        yield "Finished the change of the key that was interrupted."
    if done.aside is None:
        yield f"{place} is encrypted with the key in {place.key_path}."
    elif done.was_plain:
        yield f"Encrypted {place} with the key in {place.key_path}. Without that key it is lost."
        yield (
            f"{done.aside} is the old file, NOT encrypted: anybody who gets it can read it, as"
            f" the copies of until now. When premblyd runs again, delete it: shred -u {done.aside}"
        )
    else:
        yield f"Changed the key of {place}. {done.aside} is the old file, with the old key."
    if done.old_key:
        yield f"{done.old_key} is the old key. Copies of until now need it: keep it with care."
        yield "Keep a copy of the new key too, in another place than the copies."
