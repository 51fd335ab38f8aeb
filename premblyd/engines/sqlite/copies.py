"""Copies of a database: the one that install.sh makes before an upgrade, and puts back when the new
version fails, the one that is made before a migration, and one that an operator puts in its place.

Nobody else has the database open meanwhile: who calls holds its lock. When a copy is put in, the
database's files go into a folder beside it, all together: nothing is deleted. A run that was killed
leaves the folder `….restoring`, and the next one goes on from there:

- the database is there: it was not touched yet, or all is done but the folder's name;
- it is not there: some of its files are in the folder, and no daemon starts.
"""

import contextlib
import dataclasses
import errno
import os
import sqlite3
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO

from peewee import PeeweeException, SqliteDatabase

from premblyd import agefiles
from premblyd.agefiles import Identity
from premblyd.engines.sqlite import opening, withoutkeys
from premblyd.engines.sqlite.files import (
    MODE,
    SUFFIXES,
    beside,
    clone,
    hold,
    is_held,
    move_into,
    real_path,
    restoring_folder,
    size,
    unused_aside,
    write_copy,
    write_new,
)
from premblyd.engines.sqlite.guards import is_foreign_log
from premblyd.engines.sqlite.opening import MAGIC, plain
from premblyd.errors import AlreadyRunningError, LacksRightsError, PremblydError, SchemaError
from premblyd.model.history import History
from premblyd.newfile import sync

_LACKS_KEYS = f"""SELECT EXISTS (SELECT 1 FROM {withoutkeys.TABLE}
WHERE wrapped = zeroblob(length(wrapped)))"""  # noqa: S608


class BadCopyError(PremblydError):
    """The copy can't be put in; nothing was changed. Use another one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """What was put in, and where the files are that were there."""

    events: int
    last_received_at_ms: int | None
    is_older: bool  # the next start migrates it
    aside: Path | None


@dataclass(frozen=True, slots=True)
class Copy:
    """A copy that is open for reading, with the log beside it if there is one. It is read byte by
    byte: SQLite itself would change the files in order to read them."""

    path: Path
    file: BinaryIO
    log: BinaryIO | None
    identity: Identity | None = None  # what opens it, if it is sealed

    def write(self, path: Path) -> None:
        """Write it to a new file, in clear. Raise CannotOpenError when it can't be opened."""
        if self.identity is not None:
            write_new(path, partial(self.identity.open, self.file))
            return
        write_copy(self.file, path)
        if self.log is not None:
            write_copy(self.log, beside(path, "-wal"))


@contextlib.contextmanager
def opened(path: Path, identity: Path | None = None) -> Iterator[Copy]:
    """Open a copy; a sealed one, by the identity in a file. Raise BadCopyError when it can't be
    one, CannotOpenError when the identity can't, AlreadyRunningError when a daemon works on it."""
    with contextlib.ExitStack() as files:
        file = files.enter_context(_open(path))
        if file is None:
            raise BadCopyError(f"There is no file {path}.")
        if file.read(len(agefiles.MAGIC)) == agefiles.MAGIC:
            if identity is None:
                raise BadCopyError(
                    f"{path} is sealed by age: --identity FILE, with the key that opens it."
                )
            yield Copy(path, file, None, agefiles.read_identity(identity))
            return
        file.seek(0)
        if file.read(len(MAGIC)) != MAGIC:
            raise BadCopyError(f"{path} is no SQLite database.")
        if is_held(file.fileno()):
            raise AlreadyRunningError(
                f"A daemon works on {path}, so its file alone is no copy. Make one with VACUUM INTO"
                " (docs/database.md)."
            )
        if (journal := files.enter_context(_open(beside(path, "-journal")))) and journal.read(1):
            raise BadCopyError(f"{path} was not finished: {journal.name} is there. Copy again.")
        yield Copy(path, file, files.enter_context(_open(beside(path, "-wal"))))


def put_in(
    real: Path, copy: Copy, make_ready: Callable[[Path, Path | None], object] = lambda *_: None
) -> Restored:
    """Put a copy in the place of the database `real`, or of none. `make_ready` is called before
    that, with the file that will be there, on which nobody works, and the one that it replaces, if
    there is one. Raise BadCopyError when the copy is not good, PremblydError when the disk does not
    allow it."""
    if real.exists() and os.path.samestat(real.stat(), os.fstat(copy.file.fileno())):
        raise BadCopyError(f"{copy.path} is the database itself. Name a copy of it.")
    with _explained(f"{copy.path} could not be put in, and nothing was changed"):
        folder = _begun(real)
        new = folder / "new"
        try:
            _remove(new)
            copy.write(new)
            restored = _checked(new, copy.path)
            make_ready(new, _replaced(real, folder))
            _resemble(new, real, folder)
        except BaseException:
            _remove(new)
            with contextlib.suppress(OSError):  # an earlier run has moved files there
                folder.rmdir()
            raise
    with _explained(f"Putting {copy.path} in was interrupted; run the same again, it goes on"):
        move_into(folder, real)
        sync(folder, real.parent)
        new.rename(real)
        sync(folder, real.parent)
        aside = _ended(folder, real)
        sync(real.parent)
        return dataclasses.replace(restored, aside=aside)


def migrate(new: Path) -> bool:
    """Migrate a copy before it is put in its place. Return whether an older premblyd wrote it."""
    applied = opening.prepare(new)
    for copy in new.parent.glob(f"{new.name}.before-*"):  # made of it before
        copy.unlink()
    return bool(applied)


def lacks_keys(new: Path) -> bool:
    """Return whether a copy, on which nobody works, has rows of events' keys without these."""
    database = SqliteDatabase(f"{new.absolute().as_uri()}?mode=rw", uri=True)
    with contextlib.closing(database):
        if not database.table_exists(withoutkeys.TABLE):
            return False
        [(found,)] = database.execute_sql(_LACKS_KEYS).fetchall()
        return bool(found)


def _begun(real: Path) -> Path:
    """Return the folder for this run: also that of an earlier one that was killed, if the
    database's place is empty since."""
    folder = restoring_folder(real)
    present = [file for suffix in SUFFIXES if (file := beside(real, suffix)).exists()]
    if _has_files(folder, real) and (
        real in present or any((folder / file.name).exists() for file in present)
    ):
        _ended(folder, real)
    folder.mkdir(mode=0o750, exist_ok=True)
    return folder


def _ended(folder: Path, real: Path) -> Path | None:
    """Give the folder its lasting name and return that; None: nothing was there to be kept."""
    _remove(folder / "new")
    if not _has_files(folder, real):
        folder.rmdir()
        return None
    aside = unused_aside(real)
    folder.rename(aside)
    return aside


def _has_files(folder: Path, real: Path) -> bool:
    return any((folder / beside(real, suffix).name).exists() for suffix in SUFFIXES)


def _replaced(real: Path, folder: Path) -> Path | None:
    """Return where the database is that is replaced: in the folder, if an earlier run was
    interrupted."""
    return next((old for old in (real, folder / real.name) if size(old)), None)


def _resemble(new: Path, real: Path, folder: Path) -> None:
    """Let those read the new file who might read the one that it replaces, and nobody else."""
    for old in (real, folder / real.name):
        with contextlib.suppress(FileNotFoundError):
            found = old.stat()
            with contextlib.suppress(PermissionError):  # not a group of this user's
                os.chown(new, -1, found.st_gid)
            new.chmod(stat.S_IMODE(found.st_mode) & MODE)
            return
    new.chmod(MODE)


def _checked(new: Path, named: Path) -> Restored:
    """Look whether `new`, a copy of the file that somebody named, is a whole record. Raise
    BadCopyError when it is not."""
    if is_foreign_log(new):
        raise BadCopyError(
            f"{named}-wal belongs to another file than {named}. Nothing was changed."
        )
    database = SqliteDatabase(f"{new.absolute().as_uri()}?mode=rw", uri=True)
    try:
        with contextlib.closing(database):
            return _looked_through(database, named)
    except SchemaError as error:  # half moved
        raise BadCopyError(f"{named} can't be used. {error}") from None
    except (sqlite3.Error, PeeweeException) as error:
        raise BadCopyError(
            f"{named} is no good copy: {plain(error)}. Nothing was changed."
        ) from None


def _looked_through(database: SqliteDatabase, named: Path) -> Restored:
    database.execute_sql("PRAGMA journal_mode = delete")  # what its log holds goes into the file
    (found,) = database.execute_sql("PRAGMA integrity_check(1)").fetchone()
    if found != "ok":
        raise BadCopyError(f"{named} is damaged ({found}). Nothing was changed.")
    history = History(database)
    if not history.applied or not database.table_exists("event"):
        raise BadCopyError(f"{named} is no record of premblyd's. Nothing was changed.")
    if newer := history.newer:
        raise BadCopyError(
            f"{named} was written by a newer premblyd (it knows {', '.join(newer)}). Install that"
            " version, or name an older copy. Nothing was changed."
        )
    events, last = database.execute_sql(
        "SELECT count(*), max(received_at_ms) FROM event"
    ).fetchone()
    is_older = bool(history.pending)
    return Restored(events=events, last_received_at_ms=last, is_older=is_older, aside=None)


def _open(path: Path) -> contextlib.AbstractContextManager[BinaryIO | None]:
    """Open a file if there is one. Raise BadCopyError for what is no file, LacksRightsError when it
    may not be read.

    No link is followed: root reads here, from where the service's user may write, and puts what it
    has read where that user may read it."""
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK  # it may be a FIFO
    try:
        descriptor = os.open(path, flags)
    except FileNotFoundError:
        return contextlib.nullcontext()
    except PermissionError:
        raise LacksRightsError(f"You may not read {path}.") from None
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise BadCopyError(
                f"{path} is a link, which is not followed: name the file that it leads to."
            ) from None
        raise BadCopyError(f"{path} can't be read: {error.strerror}.") from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise BadCopyError(f"{path} is no file.")
    return open(descriptor, "rb")


def _remove(new: Path) -> None:
    for suffix in SUFFIXES:
        beside(new, suffix).unlink(missing_ok=True)


@contextlib.contextmanager
def _explained(what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise PremblydError(f"{what}: {error.strerror}.") from None


class CopyError(PremblydError):
    """The database could not be copied or put back; what was there is as it was."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Restoration:
    """What became of a database after a failed upgrade.

    `events` and `attempts`: what the failed version has added. Where the copy was put back, they
    are only in the folder `aside`.
    """

    is_put_back: bool
    events: int
    attempts: int
    aside: Path | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Contents:
    """A database's schema, and the numbers of its last event and attempt."""

    schema: list[tuple[str, str | None]]
    event: int
    attempt: int


def saved_copy(database: Path) -> Path:
    """Return where the copy of a database is put before an upgrade."""
    return beside(database, ".before-upgrade")


def save(database: Path) -> Path | None:
    """Copy the database and return the copy; None when there is no database yet, and then no copy
    of an earlier one either. Raise CopyError when it can't be copied."""
    copy = saved_copy(database)
    with _as_copy_error("copied"):
        if database.exists():
            clone(database, copy)
            return copy
        copy.unlink(missing_ok=True)
        return None


def restore(database: Path) -> Restoration | None:
    """Put the copy back if the failed version has changed the schema; None when there is no copy.
    Raise CopyError when it can't be put back.

    With the same schema the database stays: what the failed version has done and recorded is true.
    Else the database is put aside with that version's own events and attempts: it has answered
    their webhooks with 200, and they are nowhere else.
    """
    copy = saved_copy(database)
    with _as_copy_error("put back"):
        if not copy.exists():
            return None
        with hold(database):
            now, before = _contents(database), _contents(copy)
            aside = None
            if now.schema != before.schema:
                with opened(copy) as source:
                    aside = put_in(real_path(database), source).aside
    return Restoration(
        is_put_back=now.schema != before.schema,
        events=max(0, now.event - before.event),
        attempts=max(0, now.attempt - before.attempt),
        aside=aside,
    )


def _contents(database: Path) -> _Contents:
    with contextlib.closing(sqlite3.connect(database)) as connection:
        schema = connection.execute("SELECT name, sql FROM sqlite_master").fetchall()
        return _Contents(
            schema=sorted(schema, key=str),
            event=_last_number(connection, "event"),
            attempt=_last_number(connection, "attempt"),
        )


def _last_number(connection: sqlite3.Connection, table: str) -> int:
    try:
        (number,) = connection.execute(f"SELECT max(id) FROM {table}").fetchone()  # noqa: S608
    except sqlite3.OperationalError:  # the failed version has removed it
        return 0
    return number or 0


@contextlib.contextmanager
def _as_copy_error(done: str) -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        raise CopyError(f"The database could not be {done}: {error}") from None
