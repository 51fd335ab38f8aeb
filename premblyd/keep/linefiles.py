"""Keeps the files with erasures' lines complete: beside the database, and in the folders of its
copies. What a command could not write there, a daemon writes as soon as it can."""

import asyncio
import functools
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from peewee import Select, fn

from premblyd import loops
from premblyd.databases import DatabaseAddress, file_of
from premblyd.engines.connections import connect_read_only
from premblyd.engines.engine import BulkInsert, Database, Row, Statement, Transaction, param
from premblyd.engines.writer import Step, Writer
from premblyd.keep.erasingagain import count_unknown
from premblyd.keep.erasurelines import (
    NAME,
    STATE_FOLDER,
    Line,
    LineFileError,
    all_lines,
    append,
    missing,
    own_file,
    read_lines,
    record_id,
)
from premblyd.model.keeptables import BackupFolder, ErasedName, Erasure, ErasureFile, ToErase
from premblyd.times import Clock

FIRST_S = 10.0  # after the start: what came meanwhile goes first
REST_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class FileState:
    """A file with lines. `missing`: erasures of which it lacks something, because of `error`;
    `unknown`: erasures in it that the database lacks."""

    file: str
    missing: int = 0
    unknown: int = 0
    error: str | None = None

    @property
    def is_well(self) -> bool:
        return not self.missing and not self.unknown


def complete(database: Database, place: DatabaseAddress) -> list[FileState]:
    """Write to each file what it lacks. Raise StoreUnreadableError when the database can't be
    read."""
    lines, record = all_lines(database), database.look(record_id)
    own = own_file(place)
    states = [FileState(file=str(STATE_FOLDER / NAME), missing=len(lines), error=_NO_FOLDER)]
    if own is not None:
        # Made for who has the database, whoever erases.
        states = [_complete(database, lines, own, record, like=file_of(place) or own.parent)]
    for folder in database.look(_folders) if file_of(place) else ():
        states.append(_complete(database, lines, Path(folder) / NAME, record))
    return states


def _complete(
    database: Database, lines: list[Line], path: Path, record: str, *, like: Path | None = None
) -> FileState:
    """Write to a file what it lacks; without `like`, only to one of this record: where a disk is
    not mounted, there is an empty folder, and nobody would find what is written there."""
    left, unknown = lines, 0
    try:
        read = read_lines(path, record)
        if like is None and not read.is_own:
            raise LineFileError(f"{path} is not there, or of another record. Is its disk mounted?")
        unknown, left = count_unknown(database, read.lines), missing(lines, read.lines)
        if left:
            append(path, record, left, like=like)
    except LineFileError as error:
        return FileState(file=str(path), missing=len(left), unknown=unknown, error=str(error))
    return FileState(file=str(path), unknown=unknown)


class LineKeeper:
    """Completes the files now and then, where something has changed, and keeps what is wrong with
    them for `status`."""

    def __init__(self, writer: Writer, place: DatabaseAddress, clock: Clock, host: str) -> None:
        self._writer = writer
        self._place = place
        self._clock = clock
        self._host = host
        self._seen: object = None
        self._told: list[FileState] | None = None

    async def run(self) -> None:
        """Keep them complete until the daemon ends."""
        await loops.repeat(self.round, REST_S, first_s=FIRST_S, failed="erasure.lines_failed")

    async def round(self) -> float:
        """Complete them, if the record or a file is not as it was; return the seconds until the
        next round."""
        known = await self._writer.call(_look, Step.EVIDENCE)
        states = await asyncio.to_thread(self._completed, known)
        wrong = [each for each in states or () if not each.is_well]
        if states is not None and wrong != self._told:
            keep = functools.partial(_keep, self._host, wrong, self._clock.now_ms())
            await self._writer.call(keep, Step.EVIDENCE)
            self._told = wrong
        return REST_S

    def _completed(self, known: tuple[Row, list[str]]) -> list[FileState] | None:
        """Return how the files are now; None: as at the last round. In a thread: disks may hang."""
        if self._seen is not None and self._seen == (known, self._looks_of_files(known[1])):
            return None
        with closing(connect_read_only(self._place)) as database:
            states = complete(database, self._place)
        are_complete = not any(each.missing for each in states)
        self._seen = (known, self._looks_of_files(known[1])) if are_complete else None
        return states

    def _looks_of_files(self, folders: list[str]) -> list[tuple[int, ...] | None]:
        paths = [own_file(self._place), *(Path(folder) / NAME for folder in folders)]
        return [_look_of(path) for path in paths if path is not None]


def _look_of(path: Path) -> tuple[int, ...] | None:
    """Return by what a file is known to be as it was; None: it is not there."""
    try:
        found = path.lstat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def _look(transaction: Transaction) -> tuple[Row, list[str]]:
    """Return what is another one after each erasure, and the folders of copies."""
    return transaction.row(_NEWEST) or (), _folders(transaction)


def _folders(transaction: Transaction) -> list[str]:
    return [folder for (folder,) in transaction.rows(_FOLDERS)]


def _keep(host: str, wrong: list[FileState], now_ms: int, transaction: Transaction) -> None:
    since_ms: dict[str, int] = dict(transaction.rows(_KEPT, host=host))
    transaction.change(_FORGET, host=host)
    rows = [
        (host, each.file, since_ms.get(each.file, now_ms), each.missing, each.unknown, each.error)
        for each in wrong
    ]
    transaction.insert_many(_KEEP, rows)


_NO_FOLDER = "there is no folder that lasts: let STATE_DIRECTORY name one, for its service."
_NEWEST = Statement(
    Select(
        None,
        (
            Erasure.select(fn.MAX(Erasure.id)),
            ErasedName.select(fn.MAX(ErasedName.id)),
            ToErase.select(fn.COUNT(ToErase.id)),
        ),
    )
)
_FOLDERS = Statement(
    BackupFolder.select(BackupFolder.folder)
    .where(BackupFolder.copied_at_ms.is_null(False))
    .order_by(BackupFolder.folder)
)
_IS_OF_HOST = ErasureFile.host == param("host")
_KEPT = Statement(ErasureFile.select(ErasureFile.file, ErasureFile.at_ms).where(_IS_OF_HOST))
_FORGET = Statement(ErasureFile.delete().where(_IS_OF_HOST))
_KEEP = BulkInsert(ErasureFile, "host", "file", "at_ms", "missing", "unknown", "error")
