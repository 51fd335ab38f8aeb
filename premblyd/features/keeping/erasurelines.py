"""The lines of erasures: who was erased, by numbers and keyed digests, in files that outlast the
database: beside it, and in the folders of its copies. By them those who were erased after a copy
was made are erased again when it is put back. What a command could not write there, a daemon writes
as soon as it can.

A line is JSON, about one event or one name. A file only grows: a line of it may be all that is
known of an erasure.
"""

import functools
import itertools
import json
import os
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from peewee import SQL, Node, fn

from premblyd.feature import added
from premblyd.features.keeping import erasing, personrows
from premblyd.features.keeping.erased import which_erased
from premblyd.features.keeping.newfile import sync
from premblyd.features.keeping.personrows import Names
from premblyd.features.keeping.persons import FoundBy
from premblyd.features.keeping.tables import (
    ErasedEvent,
    ErasedName,
    Erasure,
    ErasureFile,
    Hold,
    ToErase,
)
from premblyd.features.names.tables import VerificationName
from premblyd.ground.databases import DatabaseAddress, file_of
from premblyd.ground.errors import PremblydError
from premblyd.store.engine import Database, Lookup, Statement, Transaction, param
from premblyd.store.states import RemovedParts
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


@dataclass(frozen=True, slots=True, kw_only=True)
class FileState:
    """A file with lines. `unknown`: lines that say more than the database knows; `error`: why it
    lacks erasures."""

    file: str
    unknown: int = 0
    error: str | None = None


def files_of(database: Database, place: DatabaseAddress) -> list[Path]:
    """Return the files that remember erasures of the database, its own first."""
    folders = database.look(
        lambda transaction: [row for each in _FOLDERS for row in transaction.rows(each)]
    )
    copies = [Path(folder) / NAME for (folder,) in folders] if file_of(place) else []
    return [own_file(place), *copies]


def complete(database: Database, place: DatabaseAddress) -> list[FileState]:
    """Write to each file what it lacks. Raise StoreUnreadableError when the database can't be
    read."""
    lines, record = all_lines(database), database.look(record_id)
    states = []
    for path in files_of(database, place):
        like = (file_of(place) or path.parent) if path == own_file(place) else None
        read, error = Read(), None
        try:
            read = write_missing(path, record, lines, like=like)
        except LineFileError as failed:
            error = str(failed) if lines else None
        more = database.look(functools.partial(unknown, read.lines))
        states.append(FileState(file=str(path), unknown=len(more), error=error))
    return states


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


@dataclass(frozen=True, slots=True, kw_only=True)
class AppliedAgain:
    """What was erased again: of how many erasures, how many events."""

    erasures: int = 0
    events: int = 0


def erase_again(database: Database, lines: Iterable[Line], now_ms: int) -> AppliedAgain:
    """Erase what these lines of its own record say, beside no daemon. No hold forbids it. Run again
    where it was interrupted. Raise TryAgainError while the database is moved."""
    new = database.look(functools.partial(unknown, union(lines)))
    erasures = set[int]()
    for _, group in itertools.groupby(new, key=lambda line: (line.at_ms, line.number)):
        for portion in erasing.in_portions(list(group)):
            begin = functools.partial(_begin, portion, now_ms)
            erasures.add(number := database.transact(begin, alone=True))
            while database.transact(functools.partial(erasing.go_on, number), alone=True):
                pass
    database.transact(lambda transaction: transaction.change(_ALL_KNOWN))
    events = sum(line.event_id > 0 for line in new)
    return AppliedAgain(erasures=len(erasures), events=events)


def unknown(lines: Sequence[Line], transaction: Transaction) -> list[Line]:
    """Return the lines of which this database knows nothing: it is a copy from before. An event has
    both the number and the key: numbers come again."""
    whole = set(transaction.look_up(_WHOLE, [line.event_id for line in lines if line.event_id]))
    names = [line.key for line in lines if not line.event_id]
    known = {name for (name,) in transaction.look_up(_KNOWN_NAMES, names)}
    return [
        line
        for line in lines
        if ((line.event_id, line.key) in whole if line.event_id else line.key not in known)
    ]


def _begin(lines: Sequence[Line], now_ms: int, transaction: Transaction) -> int:
    """Do for some lines of an erasure all but to empty their events, which are left to it; return
    its number here."""
    first = lines[0]
    about = {"at_ms": first.at_ms, "found_by": first.found_by, "actor": first.actor}
    number = transaction.number(_KNOWN, **about) or transaction.insert(
        erasing.BEGIN, **about, reason=None, subject=None, events=0, cancelled=0
    )
    event_ids = [line.event_id for line in lines if line.event_id]
    erasing.remember(number or 0, [each.key for each in lines if not each.event_id], transaction)
    erasing.take(number or 0, event_ids, now_ms, transaction)
    rows = personrows.eventless(transaction, _names(first.found_by, event_ids, transaction))
    # It had ended before its person was erased.
    transaction.change_each(_END_HOLDS, rows["hold"], ended_at_ms=now_ms)
    personrows.erase_eventless(transaction, rows)
    return number or 0


def _names(found_by: str, event_ids: Sequence[int], transaction: Transaction) -> Names:
    """Return by which names a person stands in rows about no event: of all that are in such rows,
    and in the person's events, their digests tell which."""
    says = transaction.look_up(_SAYS, event_ids)
    users = {user for user, *_ in says if user and found_by == FoundBy.USER_REF}
    found = {name for _, *names in says for name in names}
    for statement in _EVENTLESS:
        found.update(*transaction.rows(statement))
    erased = frozenset(which_erased(transaction, {name for name in found if name}))
    return Names(frozenset(users), erased, erased)


_RECORD = Statement(Record.select(Record.record_id).where(Record.id == 1))
_KEY = Event.select(Event.key).where(Event.id == ErasedEvent.event_id)
_EVENTS = _said_of(ErasedEvent, ErasedEvent.event_id, _KEY)
_NAMES = _said_of(ErasedName, SQL("0"), ErasedName.name)
COPIES = tuple(added("tables", "COPIES"))
_FOLDERS = [
    Statement(each.select(each.folder).where(each.copied_at_ms.is_null(False))) for each in COPIES
]
_WHOLE = Lookup(
    Event.select(Event.id, Event.key).where(
        fn.COALESCE(Event.removed_parts, "") != RemovedParts.ERASED
    ),
    Event.id,
)
_KNOWN_NAMES = Lookup(ErasedName.select(ErasedName.name), ErasedName.name)
_KNOWN = Statement(
    Erasure.select(Erasure.id).where(
        Erasure.at_ms == param("at_ms"),
        Erasure.found_by == param("found_by"),
        Erasure.actor == param("actor"),
    )
)
_SAYS = Lookup(Event.select(Event.user_ref, Event.reference, Event.session_id), Event.id)
_EVENTLESS = (
    Statement(VerificationName.select(VerificationName.name, VerificationName.verification)),
    *personrows.NAMES_OF_NOTHING,
    Statement(Hold.select(Hold.reference)),
)
_END_HOLDS = Lookup(Hold.update(ended_at_ms=param("ended_at_ms")), Hold.id)
_ALL_KNOWN = Statement(ErasureFile.update(unknown=0))
