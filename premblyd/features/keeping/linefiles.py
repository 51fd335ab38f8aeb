"""Keeps the files with erasures' lines complete: beside the database, and in the folders of its
copies. What a command could not write there, a daemon writes as soon as it can."""

import asyncio
import functools
from contextlib import closing
from dataclasses import astuple, dataclass
from pathlib import Path

from peewee import Select, fn

from premblyd.feature import added
from premblyd.features.keeping import erasingagain
from premblyd.features.keeping.erasurelines import (
    NAME,
    LineFileError,
    Read,
    all_lines,
    own_file,
    record_id,
    write_missing,
)
from premblyd.features.keeping.tables import Erasure, ErasureFile, ToErase
from premblyd.ground import loops
from premblyd.ground.databases import DatabaseAddress, file_of
from premblyd.store.connections import connect_read_only
from premblyd.store.engine import BulkInsert, Database, Row, Statement, Transaction, param
from premblyd.store.writer import Step, Writer

FIRST_S = 10.0  # after the start: what came meanwhile goes first
REST_S = 60.0


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
        unknown = database.look(functools.partial(erasingagain.unknown, read.lines))
        states.append(FileState(file=str(path), unknown=len(unknown), error=error))
    return states


class LineKeeper:
    """Completes the files for as long as a daemon runs, and keeps for `status` how they are."""

    def __init__(self, writer: Writer, place: DatabaseAddress, host: str) -> None:
        self._writer = writer
        self._place = place
        self._host = host
        self._seen: Row | None = None

    async def run(self) -> None:
        """Keep them complete until the daemon ends."""
        await loops.repeat(self.round, REST_S, first_s=FIRST_S, failed="erasure.lines_failed")

    async def round(self) -> float:
        """Complete them at the start, after an erasure and a copy, and where it failed before;
        return the seconds until the next round."""
        newest = await self._writer.call(lambda each: each.row(_NEWEST), Step.EVIDENCE)
        if newest != self._seen:
            states = await asyncio.to_thread(self._complete)  # a disk may hang
            await self._writer.call(functools.partial(self._keep, states), Step.EVIDENCE)
            self._seen = None if any(each.error for each in states) else newest
        return REST_S

    def _complete(self) -> list[FileState]:
        with closing(connect_read_only(self._place)) as database:
            return complete(database, self._place)

    def _keep(self, states: list[FileState], transaction: Transaction) -> None:
        transaction.change(_FORGET, host=self._host)
        transaction.insert_many(_KEEP, [(self._host, *astuple(each)) for each in states])


_COPIES = tuple(added("tables", "COPIES"))
_FOLDERS = [
    Statement(each.select(each.folder).where(each.copied_at_ms.is_null(False))) for each in _COPIES
]
_NEWEST = Statement(
    Select(
        None,
        (
            Erasure.select(fn.MAX(Erasure.id)),
            ToErase.select(fn.COUNT(ToErase.id)),
            *(each.select(fn.MAX(each.copied_at_ms)) for each in _COPIES),
        ),
    )
)
_FORGET = Statement(ErasureFile.delete().where(ErasureFile.host == param("host")))
_KEEP = BulkInsert(ErasureFile, "host", "file", "unknown", "error")
