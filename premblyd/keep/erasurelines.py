"""The lines of erasures: who was erased, by numbers and keyed digests, in files that outlast the
database. By them those who were erased after a copy was made are erased again when it is put back.

A line is JSON. A file only grows: a line of it may be all that is known of an erasure.
"""

import itertools
import json
import os
import stat
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

from peewee import fn

from premblyd.databases import DatabaseAddress, file_of
from premblyd.engines.engine import Database, Statement, Transaction
from premblyd.errors import PremblydError
from premblyd.keep.persons import FoundBy
from premblyd.model.keeptables import ErasedName, Erasure, ToErase
from premblyd.model.tables import Event, Record
from premblyd.newfile import sync

NAME = "erased.jsonl"  # in a folder of copies
STATE_FOLDER = Path("/var/lib/premblyd")
MOST_IN_LINE = 500  # events, and names
MAX_LINE_BYTES = 256 << 10
MAX_FILE_BYTES = 1 << 30
MAX_NUMBER = 2**63 - 1
_MODE = 0o640  # as the database's


class LineFileError(PremblydError):
    """A file of lines can't be read or written, or is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """An erasure, or a part of it. No name stands in it, and nothing made of a `user_ref`."""

    record: str
    number: int
    at_ms: int
    found_by: str
    actor: str
    events: tuple[tuple[int, str], ...] = ()  # that it emptied: number and key
    names: tuple[str, ...] = ()  # keyed digests of references and sessions

    @property
    def erasure(self) -> tuple[Any, ...]:
        """Which one it is: after a database was put back, numbers come again."""
        return self.at_ms, self.found_by, self.actor


@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    """What a file has; nothing, if there is none. `torn`: lines that can't be read; `foreign`:
    those of other records; `is_own`: it says of itself that it is of this record."""

    lines: tuple[Line, ...] = ()
    torn: int = 0
    foreign: int = 0
    is_own: bool = False


def own_file(place: DatabaseAddress) -> Path | None:
    """Return the file of a database: beside it. Of one on a server, it is this host's, in the
    folder of the service's state; None: there is none that this process may write."""
    path = file_of(place)
    if path is not None:
        return path.with_name(f"{path.name}.{NAME}")
    folder = Path(os.environ.get("STATE_DIRECTORY", "").partition(":")[0] or STATE_FOLDER)
    return folder / NAME if os.access(folder, os.W_OK | os.X_OK) else None


def record_id(transaction: Transaction) -> str:
    """Return by what the lines of this record are known."""
    [[found]] = transaction.rows(_RECORD)
    return str(found)


def all_lines(database: Database) -> list[Line]:
    """Return a line for each erasure that has ended, as the database knows it. Raise
    StoreUnreadableError when it can't be read."""
    return database.look(_lines)


def _lines(transaction: Transaction) -> list[Line]:
    record = record_id(transaction)
    events: dict[int, list[tuple[int, str]]] = defaultdict(list)
    for erasure_id, number, key in transaction.rows(_EVENTS):
        events[erasure_id].append((number, key))
    names: dict[int, list[str]] = defaultdict(list)
    for erasure_id, name in transaction.rows(_NAMES):
        names[erasure_id].append(name)
    return [
        Line(
            record=record,
            number=number,
            at_ms=at_ms,
            found_by=found_by,
            actor=actor,
            events=tuple(events[number]),
            names=tuple(names[number]),
        )
        for number, at_ms, found_by, actor in transaction.rows(_ENDED)
    ]


def union(*groups: Iterable[Line]) -> list[Line]:
    """Return one line for each erasure with all that any of these say of it, the oldest first."""
    gathered: dict[tuple[Any, ...], list[Line]] = defaultdict(list)
    for line in itertools.chain(*groups):
        gathered[line.erasure].append(line)
    whole = [
        replace(
            min(lines, key=lambda line: line.number),
            events=tuple(sorted({event for line in lines for event in line.events})),
            names=tuple(sorted({name for line in lines for name in line.names})),
        )
        for lines in gathered.values()
    ]
    return sorted(whole, key=lambda line: (line.at_ms, line.number))


def missing(lines: Iterable[Line], known: Sequence[Line]) -> list[Line]:
    """Return what of `lines` the `known` ones do not say."""
    erasures = {line.erasure for line in known}
    events = {event for line in known for event in line.events}
    names = {name for line in known for name in line.names}
    left = [
        replace(
            line,
            events=tuple(each for each in line.events if each not in events),
            names=tuple(each for each in line.names if each not in names),
        )
        for line in lines
    ]
    return [line for line in left if line.events or line.names or line.erasure not in erasures]


def highest_event(lines: Iterable[Line]) -> int:
    """Return the highest number of an event; 0: they have none."""
    return max((number for line in lines for number, _ in line.events), default=0)


def read_lines(path: Path, record: str) -> Read:
    """Return the lines of a record in a file. Raise LineFileError when it can't be read."""
    lines, torn, foreign, is_own = [], 0, 0, False
    try:
        with _opened(path, os.O_RDONLY) as file:
            while text := file.readline(MAX_LINE_BYTES):
                found = _parsed(text)
                if found is None:
                    torn += bool(text.strip())
                elif found["record"] != record:
                    foreign += 1
                else:
                    is_own = True
                    lines += [Line(**found)] if len(found) > 1 else []
    except FileNotFoundError:
        return Read()
    except OSError as error:
        raise LineFileError(f"{path} can't be read: {error.strerror}.") from None
    return Read(lines=tuple(lines), torn=torn, foreign=foreign, is_own=is_own)


def append(path: Path, record: str, lines: Iterable[Line], *, like: Path | None = None) -> None:
    """Write lines behind those of a file, and have them on the disk. Only with `like` it is made
    if it is not there: for the owner of that. Raise LineFileError when it can't be."""
    is_new = not os.path.lexists(path)
    flags = os.O_RDWR | os.O_APPEND | (os.O_CREAT if like is not None else 0)
    texts = [json.dumps({"record": record})] if is_new else []
    texts += [json.dumps(asdict(part)) for line in lines for part in _parts(line)]
    try:
        with _opened(path, flags) as file:
            if is_new and like is not None and os.geteuid() == 0:
                owner = like.stat()
                os.fchown(file.fileno(), owner.st_uid, owner.st_gid)
            end = os.fstat(file.fileno()).st_size
            is_torn = end > 0 and os.pread(file.fileno(), 1, end - 1) != b"\n"
            rest = memoryview("".join(["\n" * is_torn, *(f"{text}\n" for text in texts)]).encode())
            while rest:
                rest = rest[os.write(file.fileno(), rest) :]
            os.fsync(file.fileno())
        if is_new:
            sync(path.parent)
    except OSError as error:
        raise LineFileError(f"{path} can't be written: {error.strerror}.") from None


def write_all(database: Database, folder: Path) -> None:
    """Have all lines that the database knows in a folder of copies. Raise LineFileError when they
    can't be written."""
    record, path = database.look(record_id), folder / NAME
    append(path, record, missing(all_lines(database), read_lines(path, record).lines), like=folder)


def _opened(path: Path, flags: int) -> BinaryIO:
    """Open a file, and nothing else: no link is followed, no pipe is waited for."""
    flags |= os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    descriptor = os.open(path, flags, _MODE)
    file = os.fdopen(descriptor, "rb")
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode) or found.st_size > MAX_FILE_BYTES:
        file.close()
        raise LineFileError(f"{path} is no file with lines of erasures.")
    return file


def _parts(line: Line) -> Iterator[Line]:
    """Yield a line as several that are short enough to be read."""
    for start in range(0, max(len(line.events), len(line.names), 1), MOST_IN_LINE):
        own = slice(start, start + MOST_IN_LINE)
        yield replace(line, events=line.events[own], names=line.names[own])


def _parsed(text: bytes) -> dict[str, Any] | None:
    """Return what a line says; None for what is none."""
    try:
        found: dict[str, Any] = json.loads(text)
        if found.keys() == {"record"} and _is_text(found["record"]):
            return found
        found["events"] = tuple((number, key) for number, key in found["events"])
        found["names"] = tuple(found["names"])
        line = Line(**found)
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
        return None
    numbers = [line.number, line.at_ms, *(number for number, _ in line.events)]
    texts = [line.record, line.actor, *line.names, *(key for _, key in line.events)]
    are_numbers = all(type(each) is int and 0 <= each <= MAX_NUMBER for each in numbers)
    is_line = are_numbers and all(map(_is_text, texts)) and line.found_by in list(FoundBy)
    return found if is_line else None


def _is_text(value: Any) -> bool:
    """Return whether a database takes it: no NUL, no half of a pair."""
    return isinstance(value, str) and value.isprintable()


_RECORD = Statement(Record.select(Record.record_id).where(Record.id == 1))
_IS_LEFT = fn.EXISTS(ToErase.select(ToErase.id).where(ToErase.erasure_id == Erasure.id))
_ENDED = Statement(
    Erasure.select(Erasure.id, Erasure.at_ms, Erasure.found_by, Erasure.actor)
    .where(~_IS_LEFT)
    .order_by(Erasure.id)
)
_EVENTS = Statement(
    Event.select(Event.erasure_id, Event.id, Event.key)
    .where(Event.erasure_id.is_null(False))
    .order_by(Event.id)
)
_NAMES = Statement(
    ErasedName.select(ErasedName.erasure_id, ErasedName.name).order_by(ErasedName.id)
)
