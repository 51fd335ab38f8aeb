"""SQLite as a backend of the store: a file, which one daemon has for itself."""

import contextlib
import errno
import os
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from peewee import Database

from premblyd.engines.engine import Inspection, Sizes
from premblyd.engines.sqlite import lock, opening
from premblyd.engines.sqlite.engine import SqliteEngine
from premblyd.engines.sqlite.files import beside, real_path, restrict
from premblyd.errors import CannotStartError, PremblydError

# What trying again does not mend: somebody must change a path or a right.
_LASTING = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.ENAMETOOLONG)


@dataclass(frozen=True, slots=True)
class SqliteBackend:
    """See engines.engine.Backend."""

    path: Path
    is_shared = False

    @contextlib.contextmanager
    def hold(self) -> Iterator[None]:
        with contextlib.ExitStack() as held:
            folder = self.path.parent
            try:
                folder.mkdir(mode=0o750, parents=True, exist_ok=True)
                opening.require_whole(self.path)
                restrict(self.path)  # so that there is a file to lock
                held.enter_context(lock.hold(self.path))
            except OSError as error:
                kind = CannotStartError if error.errno in _LASTING else PremblydError
                raise kind(f"Can't use {folder} for the database: {error.strerror}") from None
            yield

    def prepare(self) -> list[str]:
        return opening.prepare(self.path)

    def inspect(self) -> Inspection:
        return Inspection()  # what can go wrong with a file shows when it is used

    def engine(self) -> SqliteEngine:
        return SqliteEngine(self.path)

    def connect_read_only(self) -> Database:
        return opening.connect_read_only(self.path)

    def connect_operator(self) -> Database:
        return opening.connect_operator(self.path)

    def interrupter(self, database: Database) -> Callable[[], None]:
        connection: sqlite3.Connection = database.connection()

        def interrupt() -> None:
            with contextlib.suppress(sqlite3.ProgrammingError):  # it was closed meanwhile
                connection.interrupt()

        return interrupt

    def beacon(self) -> None:
        return None

    def sizes(self) -> Sizes:
        real = real_path(self.path)
        return Sizes(
            database_bytes=_size(real),
            log_bytes=_size(beside(real, "-wal")),
            free_bytes=_free(real),
        )


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _free(path: Path) -> int:
    try:
        disk = os.statvfs(path.parent)
    except OSError:
        return 0
    return disk.f_bavail * disk.f_frsize
