"""Watching over the files of an open database: somebody may remove, replace or overwrite them.
Commits to a removed file succeed, and are lost; what is read of an overwritten one is of two
records.

Whether a file and the log beside it belong together is told by the edition: a number in the file's
header (`PRAGMA user_version`) that rises with each commit of a daemon, so the log has it first. A
log then belongs to a file whose number is that of its first page 1, the one before, or any up to
its last. A file that somebody put there has an older number, or one of another record. Of the
copies made since the last checkpoint, which have no older one, those page by page are as good;
those by VACUUM have another layout, and a schema's number that no log has yet.
"""

import os
import secrets
import sqlite3
import struct
import time
from dataclasses import dataclass
from pathlib import Path

from premblyd.engines.sqlite.files import Identity, beside, identity, real_path, size
from premblyd.errors import StoreUnavailableError

HEADER_BYTES = 100  # https://www.sqlite.org/fileformat.html
_SCHEMA, _USER = 40, 60  # where the header has the two numbers
_LOG_HEADER_BYTES, _FRAME_HEADER_BYTES = 32, 24
_COUNT = (1 << 31) - 1  # then they begin again


@dataclass(frozen=True, slots=True, order=True)
class Edition:
    """What a page 1 says. `number` 0: no version has numbered it yet."""

    number: int
    schema: int


def edition_of(page: bytes) -> Edition | None:
    """Return the edition that the beginning of a page 1 has; None when it is none."""
    if len(page) < HEADER_BYTES:
        return None
    (number,) = struct.unpack_from(">I", page, _USER)
    (schema,) = struct.unpack_from(">I", page, _SCHEMA)
    return Edition(number, schema)


def following(number: int) -> int:
    """Return the number of the next edition. The first is random, so that two records differ."""
    return (number or secrets.randbelow(_COUNT)) % _COUNT + 1


def is_between(number: int, lowest: int, highest: int) -> bool:
    """Return whether a number is one of those from `lowest` to `highest`, or all are 0."""
    if 0 in (number, lowest):
        return number == lowest
    return (number - lowest) % _COUNT <= (highest - lowest) % _COUNT


def belongs(file: Edition | None, first: Edition, last: Edition) -> bool:
    """Return whether a file's edition is one that goes with a log, whose first and last these are.
    A log that was begun before there were numbers goes with any."""
    if file is None or file.schema > last.schema:
        return False
    if first.number == 0:
        return True
    return is_between(file.number, (first.number - 2) % _COUNT + 1, last.number)


def is_foreign_log(real: Path) -> bool:
    """Return whether the log beside a file is certainly of another one. To be asked before anything
    in this process has the file open: this closes it, and thereby ends all its record locks."""
    try:
        with beside(real, "-wal").open("rb") as log, real.open("rb") as file:
            editions = _in_log(log.fileno())
            return bool(editions) and not belongs(
                edition_of(file.read(HEADER_BYTES)), editions[0], editions[-1]
            )
    except FileNotFoundError:
        return False


def _in_log(log: int) -> list[Edition]:
    """Return the editions that the frames of a log have for page 1, in their order."""
    header = os.pread(log, _LOG_HEADER_BYTES, 0)
    if len(header) < _LOG_HEADER_BYTES:
        return []
    page_bytes, salts = struct.unpack_from(">I", header, 8)[0], header[16:24]
    found = []
    place = _LOG_HEADER_BYTES
    while len(frame := os.pread(log, _FRAME_HEADER_BYTES + HEADER_BYTES, place)) > HEADER_BYTES:
        if frame[8:16] != salts:  # what is behind is left of an earlier round
            break
        if frame[:4] == b"\0\0\0\1" and (edition := edition_of(frame[_FRAME_HEADER_BYTES:])):
            found.append(edition)
        place += _FRAME_HEADER_BYTES + page_bytes
    return found


LOG_REMOVED = (
    "the database's -wal or -shm file was removed, and another program's reading delays saving it"
)
LOG_REPLACED = (
    "another program began a -wal file of its own beside the database; end it, move that file away"
)


class LogGuard:
    """Knows which files of a log a connection has open."""

    def __init__(self, path: Path) -> None:
        real = real_path(path)
        self._log_paths = (beside(real, "-wal"), beside(real, "-shm"))
        self._logs = self._log_identities()

    def remember_log(self) -> None:
        """Take the log that is there now to be that of a connection opened just now."""
        self._logs = self._log_identities()

    def is_own_log(self) -> bool:
        """Return whether the log beside the database is the connection's."""
        return identity(self._log_paths[0]) == self._logs[0]

    def log_was_removed(self) -> bool:
        """Return whether the connection's log is no longer the one beside the database."""
        return self._log_identities() != self._logs

    def save_log(self, connection: sqlite3.Connection) -> None:
        """Move all that is committed from a removed log into the database file: the log would be
        lost with this process. The connection is to be closed then, and a new one begins a new log.

        Raise StoreUnavailableError when it can't be saved yet.
        """
        busy, _, _ = connection.execute("PRAGMA wal_checkpoint(truncate)").fetchone()
        if busy:
            raise StoreUnavailableError(LOG_REMOVED)
        # What another program's own log holds is of an older state, and would spoil the database.
        if not self.is_own_log() and size(self._log_paths[0]) > 0:
            raise StoreUnavailableError(LOG_REPLACED)

    def _log_identities(self) -> tuple[Identity | None, ...]:
        return tuple(identity(path) for path in self._log_paths)


FILE_REPLACED = (
    "the database file was removed or replaced; put it back, or restart premblyd to go on with what"
    " is there now"
)
FILE_OVERWRITTEN = (
    "another program has overwritten the database file; stop premblyd, then put a copy in by"
    " `premblyd restore`"
)
MAX_LEAP = 1 << 24  # so many commits don't come between two of a daemon's
_LOOK_AGAIN_S = 0.01  # while another program writes a page, half of it may be seen


class FileGuard:
    """Knows the file that an engine has open, also by a descriptor of its own. That is closed after
    the engine's connection: to close it ends all record locks of this process on the file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._identity = identity(path)
        self.descriptor = -1
        self._seen: Edition | None = None  # what the file had when it was looked at last
        self._lowest = 0  # the number that it has at least
        self._highest = 0  # and at most
        self._numbered = 0  # in the transaction that is open
        self.is_overwritten = False

    @property
    def is_replaced(self) -> bool:
        """Whether the path no longer names the file."""
        return identity(self._path) != self._identity

    def open(self) -> None:
        """Open the file. Raise StoreUnavailableError when it can't be opened."""
        if self.descriptor >= 0:
            return
        try:
            self.descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            reason = f"unable to open the database file ({error.strerror})"
            raise StoreUnavailableError(reason) from None

    def require_same_file(self) -> None:
        """Raise StoreUnavailableError when the path no longer names the file."""
        if self.is_replaced:
            raise StoreUnavailableError(FILE_REPLACED)

    def require_own(self, connection: sqlite3.Connection) -> None:
        """Raise StoreUnavailableError when the path no longer names the file, or when that has not
        the content that came by this connection or, as a part of the same record, by another."""
        self.require_same_file()
        if not self.is_own(connection):
            raise StoreUnavailableError(FILE_OVERWRITTEN)

    def is_own(self, connection: sqlite3.Connection) -> bool:
        """Return whether the file has the record's content. Once it had not, it never has again:
        pages of it are lost."""
        if not self.is_overwritten and not self._looks_own(connection):
            time.sleep(_LOOK_AGAIN_S)
            self.is_overwritten = not self._looks_own(connection)
        return not self.is_overwritten

    def _looks_own(self, connection: sqlite3.Connection) -> bool:
        found = self._edition()
        if found == self._seen:
            return True
        highest = self._numbered or self._number(connection)
        if found is None or not is_between(found.number, self._lowest, highest):
            return False
        (schema,) = connection.execute("PRAGMA schema_version").fetchone()
        if found.schema > schema:
            return False
        self._seen = found
        return True

    def opened(self, connection: sqlite3.Connection) -> None:
        """Take note of the number that a new connection sees."""
        if self._seen is None and (found := self._edition()):
            self._seen, self._lowest = found, found.number
        (self._highest,) = connection.execute("PRAGMA user_version").fetchone()

    def number(self, connection: sqlite3.Connection) -> None:
        """Number the changes of the open transaction."""
        if self._lowest:
            self._numbered = following(self._number(connection))
            connection.execute(f"PRAGMA user_version = {self._numbered}")

    def _number(self, connection: sqlite3.Connection) -> int:
        """Return the record's number: a command that works on it may have raised it a little. Raise
        StoreUnavailableError when it is of another record."""
        (number,) = connection.execute("PRAGMA user_version").fetchone()
        if not is_between(number, self._highest, self._highest + MAX_LEAP):
            self.is_overwritten = True
            raise StoreUnavailableError(FILE_OVERWRITTEN)
        self._highest = int(number)
        return self._highest

    def committed(self) -> None:
        """Take note that what was numbered is in the log."""
        if self._numbered:
            self._highest, self._numbered = self._numbered, 0

    def rolled_back(self) -> None:
        """Take note that what was numbered is not in the log, as far as is known."""
        self._numbered = 0

    def checkpointed(self) -> None:
        """Take note that all of the log was brought into the file."""
        self._lowest = self._highest

    def close(self) -> None:
        if self.descriptor >= 0:
            os.close(self.descriptor)

    def _edition(self) -> Edition | None:
        return edition_of(os.pread(self.descriptor, HEADER_BYTES, 0))
