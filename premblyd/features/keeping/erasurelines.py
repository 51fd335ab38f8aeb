"""The lines of erasures: who was erased, by numbers and keyed digests, in files that outlast the
database. By them those who were erased after a copy was made are erased again when it is put back.

A line is JSON, about one event or one name. A file only grows: a line of it may be all that is
known of an erasure.
"""

import itertools
import json
import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from peewee import SQL, Node, fn

from premblyd.features.keeping.tables import ErasedEvent, ErasedName, Erasure, ToErase
from premblyd.ground.databases import DatabaseAddress, file_of
from premblyd.ground.errors import PremblydError
from premblyd.ground.newfile import sync
from premblyd.store.engine import Database, Statement, Transaction
from premblyd.store.tables import Event, Record

NAME = "erased.jsonl"  # in a folder of copies
STATE_FOLDER = "/var/lib/premblyd"
MAX_LINE_BYTES = 4096
MAX_FILE_BYTES = 1 << 30
_MODE = 0o640  # as the database's


class LineFileError(PremblydError):
    """A file of lines can't be read or written, or is none."""


class Line(NamedTuple):
    """That an erasure emptied an event, or has a name kept away. No name is in it, and nothing made
    of a `user_ref`. The oldest erasure is the lowest, and its names come before its events."""

    at_ms: int
    number: int  # of the erasure
    event_id: int  # 0: of a name
    key: str  # of the event; of a name, a keyed digest of the reference or session
    found_by: str
    actor: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    """What a file has of a record; nothing, if there is none. `is_own`: it says of itself that it
    is of this record."""

    lines: tuple[Line, ...] = ()
    is_own: bool = False


def own_file(place: DatabaseAddress) -> Path:
    """Return the file of a database: beside it. Of one on a server, it is this host's, in the
    folder of the service's state."""
    if (path := file_of(place)) is not None:
        return path.with_name(f"{path.name}.{NAME}")
    return Path(os.environ.get("STATE_DIRECTORY", STATE_FOLDER).partition(":")[0]) / NAME


def record_id(transaction: Transaction) -> str:
    """Return by what the lines of this record are known."""
    [[found]] = transaction.rows(_RECORD)
    return str(found)


def all_lines(database: Database) -> list[Line]:
    """Return the lines of all erasures that have ended, as the database knows them. Raise
    StoreUnreadableError when it can't be read."""
    return database.look(_lines)


def _lines(transaction: Transaction) -> list[Line]:
    return sorted(Line(*row) for each in (_NAMES, _EVENTS) for row in transaction.rows(each))


def union(*groups: Iterable[Line]) -> list[Line]:
    """Return all of these lines, each once, those of the oldest erasure first."""
    return sorted(set(itertools.chain(*groups)))


def read_lines(path: Path, record: str) -> Read:
    """Return the lines of a record in a file. Raise LineFileError when it can't be read."""
    try:
        with _opened(path, os.O_RDONLY) as file:
            texts = iter(lambda: file.readline(MAX_LINE_BYTES), b"")
            said = [_parsed(text) for text in texts if text.strip()]
    except FileNotFoundError:
        return Read()
    except OSError as error:
        raise LineFileError(f"{path} can't be read: {error.strerror}.") from None
    own = [line for owner, line in said if owner == record]
    return Read(lines=tuple(line for line in own if line is not None), is_own=bool(own))


def write_all(database: Database, folder: Path) -> None:
    """Have all lines that the database knows in a folder of copies. Raise LineFileError when they
    can't be written."""
    write_missing(folder / NAME, database.look(record_id), all_lines(database), like=folder)


def write_missing(
    path: Path, record: str, lines: Iterable[Line], *, like: Path | None = None
) -> Read:
    """Have these lines on the disk in a file, behind what it had; return that. With `like` the file
    is made, for the owner of that; without, it must be there and of this record: an empty folder
    may be that of a disk that is not mounted. Raise LineFileError when it can't be."""
    read = read_lines(path, record)
    if like is None and not read.is_own:
        raise LineFileError(f"{path} is missing, or of another record. Is its disk mounted?")
    known = {(line.event_id, line.key) for line in read.lines}
    left = [line._asdict() for line in lines if (line.event_id, line.key) not in known]
    if not left and read.is_own:
        return read
    said = "".join(f"{json.dumps({'record': record, **each})}\n" for each in ({}, *left))
    flags = os.O_RDWR | os.O_APPEND | (os.O_CREAT if like is not None else 0)
    try:
        with _opened(path, flags) as file:
            end = file.seek(0, os.SEEK_END)
            if end and os.pread(file.fileno(), 1, end - 1) != b"\n":
                said = f"\n{said}"  # a line that was torn must not take the next one with it
            if not end and like is not None and os.geteuid() == 0:
                os.fchown(file.fileno(), like.stat().st_uid, like.stat().st_gid)
            file.write(said.encode())
            file.flush()
            os.fsync(file.fileno())
        sync(path.parent)
    except OSError as error:
        raise LineFileError(f"{path} can't be written: {error.strerror}.") from None
    return read


def _opened(path: Path, flags: int) -> BinaryIO:
    """Open a file, and nothing else: no link is followed, no pipe is waited for."""
    flags |= os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    descriptor = os.open(path, flags, _MODE)
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode) or found.st_size > MAX_FILE_BYTES:
        os.close(descriptor)
        raise LineFileError(f"{path} is no file with lines of erasures.")
    return os.fdopen(descriptor, "r+b" if flags & os.O_RDWR else "rb")


def _parsed(text: bytes) -> tuple[str | None, Line | None]:
    """Return of which record a line is, and what it says: None if no more than that. Of what is no
    line, return None twice."""
    try:
        said = json.loads(text)
        record = str(said.pop("record"))
        line = Line(**said) if said else None
        if line is not None:
            _require_storable(line)
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
        return None, None
    return record, line


def _require_storable(values: tuple[Any, ...]) -> None:
    """Raise ValueError when not every database takes the values of a line."""
    numbers, texts = values[:3], values[3:]
    are_numbers = all(type(each) is int and 0 <= each < 1 << 63 for each in numbers)
    if not are_numbers or b"\0" in "".join(texts).encode():  # nor half of a pair
        raise ValueError


def _said_of(table: Any, event_id: Node, key: Node) -> Statement:
    """Return the statement that finds the lines of a table."""
    is_left = fn.EXISTS(ToErase.select(ToErase.id).where(ToErase.erasure_id == Erasure.id))
    said = (Erasure.at_ms, Erasure.id, event_id, key, Erasure.found_by, Erasure.actor)
    found = table.select(*said).join(Erasure, on=table.erasure_id == Erasure.id)
    return Statement(found.where(~is_left))


_RECORD = Statement(Record.select(Record.record_id).where(Record.id == 1))
_KEY = Event.select(Event.key).where(Event.id == ErasedEvent.event_id)
_EVENTS = _said_of(ErasedEvent, ErasedEvent.event_id, _KEY)
_NAMES = _said_of(ErasedName, SQL("0"), ErasedName.name)
