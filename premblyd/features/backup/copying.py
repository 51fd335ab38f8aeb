"""`record backup`: a copy into a folder. What has a copy's name there is whole, and was checked:
such as `premblyd-RECORDID-EVENTID-COUNT-DIGEST.db`.

The folder is open as a descriptor, and what is in it is reached by that: a link or a FIFO in it is
never opened, and nobody who may rename a folder above it leads elsewhere.
"""

import contextlib
import fcntl
import hashlib
import os
import re
import secrets
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import click

from premblyd.cli import config_option, json_option
from premblyd.cli.common import database_of, open_to_change
from premblyd.cli.printing import print_told, progress, showing
from premblyd.features.backup.tables import BackupFolder
from premblyd.features.backup.taking import Watch, become_owner, lacking_room
from premblyd.features.keeping.erasurelines import write_all
from premblyd.ground import databases
from premblyd.ground.databases import DatabaseAddress
from premblyd.ground.errors import PremblydError, StoreUnavailableError, TryAgainError
from premblyd.ground.words import counted, size
from premblyd.store.connections import backend
from premblyd.store.engine import Database, Statement, Transaction, insert, param, update
from premblyd.store.sqlite.connecting import cipher, connect, errors
from premblyd.store.sqlite.engine import SqliteBackend
from premblyd.store.sqlite.files import PART, real_path
from premblyd.store.sqlite.opening import plain

_MEET = insert(BackupFolder, "folder", if_unique=True)
_IS_IT = BackupFolder.folder == param("folder")
_FORGET = Statement(BackupFolder.delete().where(_IS_IT))


def note(database: Database, folder: str, **about: Any) -> None:
    """Note what became of an attempt: an `error`, or none and when the copy was made."""
    noting = update(BackupFolder, *about, where=_IS_IT)

    def write(transaction: Transaction) -> None:
        transaction.insert(_MEET, folder=folder)
        transaction.write(noting, folder=folder, **about)

    database.transact(write)


def forget_folder(database: Database, folder: str) -> None:
    """Forget a folder: no copy is awaited there any more."""
    database.transact(lambda transaction: transaction.write(_FORGET, folder=folder))


_NAME = re.compile(r"premblyd-([0-9a-f]{8})-([0-9]{12,19})-([0-9]{3,9})-([0-9a-f]{16})\.db")


@dataclass(frozen=True, slots=True, order=True)
class CopyName:
    """A copy: its newest event's number (0: none), and a count that tells copies with the same
    newest event apart. Copies of a record sort oldest first. `digest`: of the file, as it was made:
    SQLite does not see every change of one."""

    record_id: str
    event_id: int
    count: int
    digest: str

    def __str__(self) -> str:
        """Return the name of the file; names of a record sort as the copies do."""
        return f"premblyd-{self.record_id}-{self.event_id:012}-{self.count:03}-{self.digest}.db"


def parse(file_name: str) -> CopyName | None:
    """Return what a file's name says; None if it is no copy's."""
    found = _NAME.fullmatch(file_name)
    if found is None:
        return None
    name = CopyName(found[1], int(found[2]), int(found[3]), found[4])
    return name if str(name) == file_name else None


def digest_of(descriptor: int) -> str:
    """Return the digest of an open file, from its beginning."""
    with open(descriptor, "rb", closefd=False) as file:
        file.seek(0)
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def copies_in(folder: Path | int, record_id: str | None = None) -> list[CopyName]:
    """Return the copies in a folder (a path, or a descriptor of it), of each record or of one,
    newest last. What is no regular file is none, whatever it is called. Raise OSError."""
    with os.scandir(folder) as entries:
        names = [
            name
            for entry in entries
            if (name := parse(entry.name)) is not None
            and record_id in (None, name.record_id)
            and stat.S_ISREG(entry.stat(follow_symlinks=False).st_mode)
        ]
    return sorted(names)


ON_SERVER = (
    "The record is on a PostgreSQL server: copy it with pg_dump, and put it back with pg_restore,"
    " then `premblyd record restore --erase-again`."
)
PAGES = 256  # of a portion
PAUSE_S = 0.005  # between two portions: the disk is the daemon's as well
# So many wait for the disk at most: a commit of the daemon's may have to wait for all of them.
SYNCED_PAGES = 16 * PAGES
_NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
# Nothing but the file itself; and it is synced at the end.
_ALONE = "PRAGMA locking_mode = exclusive; PRAGMA journal_mode = memory; PRAGMA synchronous = off"
_IDENTITY = """SELECT record_id, coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'event'), 0)
FROM record"""


class CopyError(TryAgainError):
    """A copy can't be made, by its folder or its disk."""


def source_at(place: DatabaseAddress) -> SqliteBackend:
    """Return the database to be copied, and become its owner. Raise PremblydError when it is on a
    server."""
    source = backend(place)
    if not isinstance(source, SqliteBackend):
        raise PremblydError(ON_SERVER)
    become_owner(source.path)
    return source


@contextlib.contextmanager
def opened(folder: Path) -> Iterator[int]:
    """Give a folder's descriptor; no other backup works there meanwhile. Raise CopyError for what
    fails there."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise CopyError(f"Another backup is writing to {folder}.") from None
            except OSError:
                pass  # NFS locks no folders: there the other one fails
            yield descriptor
        finally:
            os.close(descriptor)
    except OSError as error:
        raise CopyError(
            f"{folder} can't be used for a copy: {error.strerror}. It must be there, and the user"
            " whom the database belongs to must be able to write to it."
        ) from None


def back_up(source: SqliteBackend, folder: int, watch: Watch) -> tuple[CopyName, int]:
    """Copy a database into a folder; return the copy and its size in bytes. Raise CopyError when it
    can't be written, PremblydError when it is damaged, or the database can't be read."""
    status, sizes = os.fstat(folder), source.sizes()
    if status.st_uid not in (0, os.geteuid()) or status.st_mode & 0o022:
        raise PremblydError(
            "Others may write to this folder, and replace a copy: nothing was written. It should"
            " belong to the user whom the database belongs to, with mode 0700."
        )
    if told := lacking_room(folder, (sizes.database_bytes or 0) + (sizes.log_bytes or 0)):
        raise CopyError(f"The disk is too small for a copy: {told}.")
    _remove_parts(folder)  # of backups that were killed
    name = f"{PART}{secrets.token_hex(8)}"
    part = os.open(name, _NEW, 0o600, dir_fd=folder)
    try:
        found = _copy(source, f"file:/proc/self/fd/{folder}/{name}?mode=rw", part, watch)
        os.fsync(part)
        taken = [each for each in map(parse, os.listdir(folder)) if each]  # a FIFO's name, too
        same = [each.count for each in taken if (each.record_id, each.event_id) == found]
        copy = CopyName(*found, max(same, default=0) + 1, digest_of(part))
        os.rename(name, str(copy), src_dir_fd=folder, dst_dir_fd=folder)
        os.fsync(folder)
        return copy, os.fstat(part).st_size
    finally:
        os.close(part)
        _remove_parts(folder)


def send(source: SqliteBackend, watch: Watch) -> BinaryIO:
    """Return a copy in a file without a name: until it is whole, it has one beside the database."""
    beside = real_path(source.path).parent
    with opened(beside):
        for left in beside.glob(f"{PART}*"):  # by one that was killed
            shutil.rmtree(left, ignore_errors=True)
        with tempfile.TemporaryDirectory(prefix=PART, dir=beside) as folder:
            with opened(Path(folder)) as there:
                name, _ = back_up(source, there, watch)
            return Path(folder, str(name)).open("rb")


def keep_newest(folder: int, record_id: str, most: int) -> list[str]:
    """Delete the oldest copies of a record but `most`, at least 1, and return their names."""
    oldest = [str(each) for each in copies_in(folder, record_id)[:-most]]
    for name in oldest:
        os.unlink(name, dir_fd=folder)
    return oldest


def _copy(source: SqliteBackend, target: str, part: int, watch: Watch) -> tuple[str, int]:
    """Write a database, as it is now, into the empty file `target`, which is open as `part`, and
    look through it. Return the record's id and the number of the newest event that it ever had.

    All is of one moment: while its transaction reads, nothing that is written meanwhile makes the
    backup begin again. The price: until it ends, the log keeps all that is written, and grows.
    """

    def pace(_status: int, left: int, total: int) -> None:
        if (total - left) % SYNCED_PAGES == 0:
            os.fdatasync(part)
        watch("copying", total - left, total)
        time.sleep(PAUSE_S)

    key_path = source.key_path
    if key_path and os.path.lexists(databases.next_key(key_path)):  # which of them is it?
        raise CopyError("The key is being changed. `premblyd record encrypt` ends that.")
    keys = [next(cipher().keys(key_path))] if key_path else None
    try:
        with contextlib.closing(connect(target, keys, isolation_level=None)) as copy:
            copy.executescript(_ALONE)
            with contextlib.closing(source.connect_read_only()) as database:
                reading = database.connection()
                reading.execute("BEGIN")
                reading.execute("SELECT id FROM record").fetchone()  # from here on it reads
                reading.backup(copy, pages=PAGES, progress=pace)
            watch("checking", 0, None)
            [found] = copy.execute(_IDENTITY)
            copy.execute("PRAGMA journal_mode = memory")  # no WAL: the file says so from here on
            [(said,)] = copy.execute("PRAGMA integrity_check(1)")
    except errors("Error") as error:
        raise CopyError(f"The copy could not be made: {plain(error)}.") from None
    if said != "ok" or not os.fstat(part).st_size:  # empty: SQLite was led to another file
        raise PremblydError(
            f"The copy is damaged ({said}), and was deleted: the database is damaged, or the disk."
            " The copies from before are as they were."
        )
    return tuple(found)


def _remove_parts(folder: int) -> None:
    for name in os.listdir(folder):
        if name.startswith(PART):
            with contextlib.suppress(OSError):
                os.unlink(name, dir_fd=folder)


@click.command()
@click.argument("folder", metavar="DIR|-")
@click.option(
    "--keep",
    metavar="N",
    type=click.IntRange(1),
    help="Then delete the oldest copies of this record, but the newest N.",
)
@click.option("--forget", is_flag=True, help="Copy nothing, and expect no copies there any more.")
@config_option
@json_option
def backup(
    config_path: Path, *, folder: str, keep: int | None, forget: bool, as_json: bool
) -> None:
    """DIR must be there, and belong to the user whom the database belongs to. A copy has the
    record's id and the number of its newest event in its name, and has its name only once it is
    whole, checked and on the disk. It is encrypted if the record is.

    `-` writes a copy to standard output, to be piped into another program.

    Exit status 75: DIR is missing, its disk is full, or another backup is writing there.
    """
    place = database_of(config_path)
    source = source_at(place)
    if folder == "-":
        if os.isatty(1) or keep or forget or as_json:
            raise click.UsageError("`-` is for a pipe or a file, and takes no other options.")
        with progress(silent=False) as shown, send(source, showing(shown)) as copy:
            _pass_on(copy)
        return
    record, path = open_to_change(place), os.path.realpath(folder)
    if forget:
        forget_folder(record, path)
        told = f"No copies are expected in {path} any more."
        print_told({"folder": path, "forgotten": True}, told, as_json=as_json)
        return
    at_ms, deleted = record.now_ms(), []
    about: dict[str, Any] = {}
    try:
        with progress(silent=as_json) as shown, opened(Path(path)) as there:
            name, file_bytes = back_up(source, there, showing(shown))
            about = {"copied_at_ms": at_ms}
            write_all(record, Path(path))
            if keep is not None:
                deleted = keep_newest(there, name.record_id, keep)
    except PremblydError as error:
        with contextlib.suppress(StoreUnavailableError):  # it may be the database that fails
            note(record, path, **about, error=str(error))
        raise
    note(record, path, **about, error=None)
    gone = f" Deleted {counted(len(deleted), 'older copy', 'older copies')}." if deleted else ""
    told = f"Copied to {path}/{name}: {size(file_bytes)}.{gone}"
    exact = {"folder": path, "file": str(name), "file_bytes": file_bytes, "deleted": deleted}
    print_told(exact, told, as_json=as_json)


def _pass_on(copy: BinaryIO) -> None:
    """Write a copy to standard output. Not by Python's own, which takes a reader that leaves for
    one that has seen enough."""
    try:
        with open(1, "wb", closefd=False) as out:
            shutil.copyfileobj(copy, out)
    except OSError as error:
        raise PremblydError(f"The copy can't be written out: {error.strerror}.") from None
