"""Moving the record of a stopped daemon from its SQLite file to a PostgreSQL server, and proving
that it came over whole. All of it is one transaction of the server, so a move that was killed has
moved nothing.
"""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from peewee import Model

from premblyd.features.postgresql import movesource, movetarget
from premblyd.features.postgresql.movesource import Row, Source
from premblyd.features.postgresql.movetarget import RowRefusedError, Target
from premblyd.ground.databases import DatabaseAddress, Server
from premblyd.ground.errors import PremblydError
from premblyd.store.schema import TABLES

MOVED = tuple(table for table in TABLES if table.is_moved)
_MEND = "Correct them in a copy of the file, and move the copy."
TELL_EVERY = 1000  # rows
DIGEST_BYTES = 16

# Told what is done, with how many rows that is done, and how many there are.
Watch = Callable[[str, int, int | None], None]


class MoveError(PremblydError):
    """The record can't be brought over whole. Nothing was moved."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TableMoved:
    """A table that came over: how many rows, and a digest of all, in whatever order they come."""

    name: str
    rows: int
    digest: str


def move(source: DatabaseAddress, target: Server, watch: Watch) -> tuple[TableMoved, ...]:
    """Bring every row of `source` into `target`, and return what came over. Raise PremblydError
    when it can't be brought over whole; then `target` has no record, and `source` is as it was."""
    with movesource.opened(source) as file, movetarget.opened(target, MOVED) as server:
        record = [table for table in MOVED if table.is_record]
        if found := [_name(table) for table in record if server.has_rows(table)]:
            raise MoveError(
                f"{target} has a record already (rows in {', '.join(found)}). Name a database that"
                " is new, or empty."
            )
        if orphans := file.orphans():
            raise MoveError(
                f"{source} has rows that refer to rows which somebody has deleted:"
                f" {', '.join(orphans)}. {_MEND}"
            )
        count = sum(map(file.count, MOVED))
        server.begin()
        copying = _Rows("copying", count, watch)
        copied = tuple(_copy(file, server, table, copying) for table in MOVED)
        verifying = _Rows("verifying", count, watch)
        if wrong := [
            there.name
            for table, there in zip(MOVED, copied, strict=True)
            if _read(server, table, verifying) != there
        ]:
            raise MoveError(f"The copy differs from the original: {', '.join(wrong)}.")
        file.require_unchanged()
        server.finish(file.last_numbers())
    return copied


def _copy(file: Source, server: Target, table: type[Model], rows: "_Rows") -> TableMoved:
    try:
        server.put(table, rows.of(file.rows(table)))
    except RowRefusedError as error:
        row = next(file.rows(table, skip=error.number - 1))
        raise MoveError(f"{_name(table)} {row[0]} can't be moved: {error}. {_MEND}") from None
    return rows.moved(table)


def _read(server: Target, table: type[Model], rows: "_Rows") -> TableMoved:
    for _ in rows.of(server.rows(table)):
        pass
    return rows.moved(table)


class _Rows:
    """Rows that pass, table after table: their number and digest. `watch` is told of them."""

    def __init__(self, what: str, total: int, watch: Watch) -> None:
        self._what, self._total, self._watch = what, total, watch
        self._done = self._rows = self._sum = 0

    def of(self, rows: Iterator[Row]) -> Iterator[Row]:
        """Yield the rows of a table."""
        self._rows = self._sum = 0
        for row in rows:
            yield row
            self._rows += 1
            self._sum += int.from_bytes(digest(row))
            if self._rows % TELL_EVERY == 0:
                self._tell()
        self._tell()

    def moved(self, table: type[Model]) -> TableMoved:
        """Return what has passed of the last table."""
        self._done += self._rows
        whole = self._sum % (1 << 8 * DIGEST_BYTES)
        return TableMoved(name=_name(table), rows=self._rows, digest=f"{whole:032x}")

    def _tell(self) -> None:
        self._watch(self._what, self._done + self._rows, self._total)


def digest(row: Row) -> bytes:
    """Return the digest of a row: the same on both engines."""
    parts = tuple(_digest(value) if type(value) is bytes else value for value in row)
    return _digest(repr(parts).encode("utf-8", "surrogatepass"))


def _digest(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=DIGEST_BYTES).digest()


def _name(table: type[Model]) -> str:
    name: str = table._meta.table_name
    return name
