"""Moving the record of a stopped daemon from one database to another, and proving that it came
over whole.

Rows are copied in the order of their keys. What was copied is noted in the same transaction, so a
run that was killed goes on behind it.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from premblyd.databases import DatabaseAddress
from premblyd.engines.connections import backend
from premblyd.errors import CannotStartError, PremblydError
from premblyd.model import schema
from premblyd.move import sqlite
from premblyd.move.rows import (
    Fitting,
    Row,
    Table,
    UnfitRowError,
    digest,
    moved_tables,
    name_of,
    size_of,
)
from premblyd.move.sides import RowsRefusedError, Side

# In one transaction: few fsyncs, and memory for few bodies.
ROWS_AT_ONCE = 5_000
BYTES_AT_ONCE = 8 << 20
MAX_NAMED = 10
AGAIN = "Run it with --restart to begin again; it empties the new database first."


class NotEmptyError(PremblydError):
    """The database that was to be filled has a record of its own. Name a new one."""

    def __init__(self, name: str, counts: Mapping[str, int]) -> None:
        rows = ", ".join(f"{table} {count:,}" for table, count in counts.items() if count)
        super().__init__(
            f"{name} has a record already (rows: {rows}). Name a database that is new, or empty."
        )


class OtherSourceError(PremblydError):
    """The database that was to be filled has a part of another record, or of an older state of
    this one."""


class DifferentRowsError(PremblydError):
    """What was copied is not what the old database has now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MoveStep:
    """How far it is: for whoever watches."""

    is_verifying: bool
    table: str
    done: int
    total: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TableMoved:
    """A table that came over: its rows, their digest, and how many texts of which columns have
    U+FFFD now for what PostgreSQL can't hold."""

    name: str
    rows: int
    digest: str
    replaced: dict[str, int]


StepListener = Callable[[MoveStep], None]


def source(place: DatabaseAddress) -> AbstractContextManager[Side]:
    """Open a database to be moved to another, and keep daemons out meanwhile. Raise
    AlreadyRunningError when one works on it, PremblydError when it can't be read."""
    side: AbstractContextManager[Side] = _of_engine(place).source(place)
    return side


def target(place: DatabaseAddress) -> AbstractContextManager[Side]:
    """Open a database, made or migrated if need be, to be filled from another. Raise
    AlreadyRunningError when a daemon works on it, PremblydError when it can't be used."""
    side: AbstractContextManager[Side] = _of_engine(place).target(place)
    return side


def _of_engine(place: DatabaseAddress) -> Any:
    """Return the module of a database's engine. Raise CannotStartError when what that needs is not
    installed."""
    if isinstance(place, Path):
        return sqlite
    backend(place)
    from premblyd.move import postgresql

    return postgresql


def move(
    source: Side, target: Side, *, watch: StepListener, restart: bool
) -> tuple[TableMoved, ...]:
    """Bring every row of `source` into `target`, and return what came over.

    Raise PremblydError when it can't be brought over whole; then no daemon starts on `target`, and
    `source` is as it was.
    """
    work = _Move(source, target, watch)
    work.begin(restart=restart)
    if not work.is_over:
        for table in work.tables:
            work.copy(table)
    moved = tuple(work.verify(table) for table in work.tables)
    last_numbers = {table.name: source.last_number(table) for table in work.tables}
    source.require_unchanged()
    if not work.is_over:
        target.finish({name: last for name, last in last_numbers.items() if last})
    return moved


@dataclass(slots=True)
class _Move:
    source: Side
    target: Side
    watch: StepListener
    tables: tuple[Table, ...] = field(default_factory=moved_tables)
    is_over: bool = False  # an earlier run was killed when all was done
    _notes: dict[str, str] = field(default_factory=dict)
    _totals: dict[str, int] = field(default_factory=dict)

    def begin(self, *, restart: bool) -> None:
        """Mark the target as being filled, or read how far an earlier run has come."""
        for side in (self.source, self.target):
            schema.require_own(side.database, side.name, may_be_half_moved=True)
        identity = self._identity()
        notes = self.target.notes()
        self._totals = {table.name: self.source.count(table) for table in self.tables}
        if notes is None and (found := self._found()):
            self.is_over = found == self._totals  # and is verified
            if not self.is_over:
                raise NotEmptyError(self.target.name, found)
        elif notes is None or restart:
            self._require_no_orphans()
            self.target.begin(self.tables, {"source": identity})
        elif notes.get("source") != identity:
            raise OtherSourceError(
                f"{self.target.name} has a part of another database, or of an older state of"
                f" {self.source.name}, which has changed since. {AGAIN}"
            )
        else:
            self._notes = notes

    def _found(self) -> dict[str, int]:
        """Return how many rows the target's tables have; {} if none are worth anything: a daemon
        was tried on it, and took no webhook."""
        counts = {table.name: self.target.count(table) for table in self.tables}
        is_record = any(counts[table.name] for table in self.tables if not table.is_worthless_alone)
        return counts if is_record else {}

    def copy(self, table: Table) -> None:
        """Copy the rows that are not there yet."""
        noted = self._notes.get(f"after {table.name}")
        done = int(self._notes.get(f"rows {table.name}", 0))
        fitting = Fitting(table)
        rows = map(
            fitting.fit, self.source.rows(table, tuple(json.loads(noted)) if noted else None)
        )
        self._tell(table, done, is_verifying=False)
        for chunk in chunks(rows):
            self._put(table, chunk, done)
            done += len(chunk)
            self._tell(table, done, is_verifying=False)

    def _put(self, table: Table, rows: list[Row], done: int) -> None:
        notes = {
            f"after {table.name}": json.dumps(table.key_of(rows[-1])),
            f"rows {table.name}": str(done + len(rows)),
        }
        try:
            self.target.put(table, rows, notes)
        except RowsRefusedError as error:
            if len(rows) == 1:
                raise UnfitRowError(table, rows[0], str(error)) from None
            for number, row in enumerate(rows):
                self._put(table, [row], done + number)

    def verify(self, table: Table) -> TableMoved:
        """Read a table from both sides, and compare each row's digest. Raise DifferentRowsError
        when they are not the same."""
        fitting = Fitting(table)
        comparison = Comparison(table)
        pairs = side_by_side(
            table,
            map(fitting.fit, self.source.rows(table)),
            map(Fitting(table).fit, self.target.rows(table)),
        )
        self._tell(table, 0, is_verifying=True)
        for old, new in pairs:
            comparison.add(old, new)
            if comparison.rows % ROWS_AT_ONCE == 0:
                self._tell(table, comparison.rows, is_verifying=True)
        comparison.require_same()
        self._tell(table, comparison.rows, is_verifying=True)
        return TableMoved(
            name=table.name,
            rows=comparison.rows,
            digest=comparison.digest,
            replaced=dict(fitting.replaced),
        )

    def _identity(self) -> str:
        """Return what tells a database, in its present state, from any other: the last row of each
        table, and the last numbers."""
        rows = [self.source.last_row(table) for table in self.tables]
        whole = hashlib.blake2b(digest_size=16)
        for table, row in zip(self.tables, rows, strict=True):
            last = digest(Fitting(table).fit(row)).hex() if row is not None else None
            whole.update(json.dumps([table.name, last, self.source.last_number(table)]).encode())
        return whole.hexdigest()

    def _require_no_orphans(self) -> None:
        """Raise before anything is copied: PostgreSQL would refuse these rows after hours."""
        found = [
            f"{table.name} {id_} ({reference.column})"
            for table in self.tables
            for reference in table.references
            for id_ in self.source.orphans(table, reference)
        ]
        if found:
            raise CannotStartError(
                f"{self.source.name} has rows that refer to rows which somebody has deleted:"
                f" {', '.join(found[:MAX_NAMED])}. Mend them in a copy of the database, and move"
                " the copy: the page on moving says how."
            )

    def _tell(self, table: Table, done: int, *, is_verifying: bool) -> None:
        total = self._totals[table.name]
        self.watch(MoveStep(is_verifying=is_verifying, table=table.name, done=done, total=total))


def chunks(rows: Iterator[Row]) -> Iterator[list[Row]]:
    """Yield rows for one transaction each."""
    chunk: list[Row] = []
    size = 0
    for row in rows:
        chunk.append(row)
        size += size_of(row)
        if len(chunk) == ROWS_AT_ONCE or size >= BYTES_AT_ONCE:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def side_by_side(
    table: Table, old: Iterator[Row], new: Iterator[Row]
) -> Iterator[tuple[Row | None, Row | None]]:
    """Yield the rows of two databases that have the same key together; None: one has none. Both
    come in the order of their keys."""
    left, right = next(old, None), next(new, None)
    while left is not None or right is not None:
        if right is None or (left is not None and table.key_of(left) < table.key_of(right)):
            yield left, None
            left = next(old, None)
        elif left is None or table.key_of(right) < table.key_of(left):
            yield None, right
            right = next(new, None)
        else:
            yield left, right
            left, right = next(old, None), next(new, None)


class Comparison:
    """Compares the rows of a table one by one."""

    def __init__(self, table: Table) -> None:
        self.rows = 0  # that are the same
        self._table = table
        self._whole = hashlib.blake2b(digest_size=16)
        self._different: Counter[str] = Counter()
        self._named: list[str] = []

    def add(self, old: Row | None, new: Row | None) -> None:
        """Compare a row with the one of the same key."""
        if old is not None and new is not None:
            of_old = digest(old)
            if of_old == digest(new):
                self.rows += 1
                self._whole.update(of_old)
            else:
                self._note("different", old)
        elif old is not None:
            self._note("missing", old)
        elif new is not None:
            self._note("not in the old database", new)

    @property
    def digest(self) -> str:
        """The digest of all rows."""
        return self._whole.hexdigest()

    def require_same(self) -> None:
        """Raise DifferentRowsError when a row was not the same."""
        if not self._different:
            return
        counts = ", ".join(f"{count:,} {what}" for what, count in self._different.items())
        raise DifferentRowsError(
            f"{self._table.name}: rows are not the same ({counts}): {', '.join(self._named)}."
            f" Somebody may have changed the old database, or the new one. {AGAIN}"
        )

    def _note(self, what: str, row: Row) -> None:
        self._different[what] += 1
        if len(self._named) < MAX_NAMED:
            self._named.append(name_of(self._table, row))
