"""What is moved: every table of the models, so that a new one needs no line here; and its rows as
both engines can hold them, with their digests.

SQLite keeps in a column whatever somebody put there by hand; PostgreSQL takes only what its type
allows, and has no NUL in a text.
"""

import hashlib
import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from peewee import ForeignKeyField, Model

from premblyd.engines.engine import UNREADABLE
from premblyd.errors import PremblydError
from premblyd.model import tables
from premblyd.model.columns import Column, ColumnType, columns

Row = tuple[Any, ...]
Key = tuple[Any, ...]

# Who is signed in to the console signs in again; what a daemon says of its worker processes, the
# next one finds anew.
_NOT_MOVED = (tables.ConsoleToken, tables.Halt)
# What a daemon leaves in a database although no webhook ever came: it is in nobody's way.
_WORTHLESS_ALONE = (
    tables.Record,
    tables.Host,
    tables.Downtime,
    tables.Alert,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """A column that holds the id of a row of `table`."""

    column: str
    table: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table, and its primary key: the columns by whose order its rows are read."""

    name: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    key_places: tuple[int, ...]  # of the key in a row
    references: tuple[Reference, ...]
    is_worthless_alone: bool

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(column.column_name for column in self.columns)

    def key_of(self, row: Row) -> Key:
        """Return a row's primary key."""
        return tuple([row[place] for place in self.key_places])


def moved_tables() -> tuple[Table, ...]:
    """Return every table that is moved."""
    return tuple(_table(model) for model in tables.TABLES if model not in _NOT_MOVED)


def _table(model: type[Model]) -> Table:
    meta: Any = model._meta
    names = [field.column_name for field in meta.sorted_fields]
    key = tuple(field.column_name for field in meta.get_primary_keys())
    return Table(
        name=meta.table_name,
        columns=tuple(columns(model)),
        key=key,
        key_places=tuple(names.index(name) for name in key),
        references=tuple(
            Reference(column=field.column_name, table=field.rel_model._meta.table_name)
            for field in meta.sorted_fields
            if isinstance(field, ForeignKeyField)
        ),
        is_worthless_alone=model in _WORTHLESS_ALONE,
    )


DIGEST_BYTES = 16


class UnfitRowError(PremblydError):
    """A row that the other engine can't hold. Mend it in a copy of the old database, and move that
    one."""

    def __init__(self, table: Table, row: Row, reason: str) -> None:
        super().__init__(
            f"{name_of(table, row)} can't be moved: {reason}. Mend the row in a copy of the"
            " database, and move the copy: the page on moving says how."
        )


def name_of(table: Table, row: Row) -> str:
    """Return which row it is: by its id, or for a table of counts by its hour."""
    return f"{table.name} {table.key_of(row)[0]}"


class Fitting:
    """Makes the rows of a table, as either engine returns them, the same Python values."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self._fits = tuple(_FIT[column.kind] for column in table.columns)
        self.replaced: Counter[str] = Counter()  # texts of each column that had to be changed

    def fit(self, row: Row) -> Row:
        """Return the row's values. Raise UnfitRowError for one that not both engines can hold."""
        fitted = tuple(
            # A list: half the time of a generator, for what is done with each value of a record.
            [
                None if value is None else fit(value)
                for value, fit in zip(row, self._fits, strict=True)
            ]
        )
        if fitted != row:
            self._look_at(row, fitted)
        return fitted

    def _look_at(self, row: Row, fitted: Row) -> None:
        """Count the texts that had to be changed. Raise UnfitRowError for what does not fit."""
        for column, before, after in zip(self._table.columns, row, fitted, strict=True):
            if after is None and before is not None:
                reason = f"its {column.column_name} should be a {column.kind}"
                raise UnfitRowError(self._table, row, reason)
            if before != after:
                self.replaced[column.column_name] += 1


def _whole(value: Any) -> int | None:
    return value if type(value) is int else None


def _truth(value: Any) -> bool | None:
    if type(value) is bool:
        return value
    return bool(value) if type(value) is int and value in (0, 1) else None


def _real(value: Any) -> float | None:
    is_number = type(value) is float and not math.isnan(value)  # SQLite has no NaN
    return value if is_number else None


def _text(value: Any) -> str | None:
    """Return the text, with U+FFFD for what PostgreSQL can't hold: NUL, and bytes that are no
    UTF-8 (they come as lone surrogates)."""
    if not isinstance(value, str):
        return None
    text: str = value.replace("\0", UNREADABLE) if "\0" in value else value
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return text


def _bytes(value: Any) -> bytes | None:
    return value if type(value) is bytes else None


_FIT: dict[ColumnType, Callable[[Any], Any]] = {
    ColumnType.NUMBER: _whole,
    ColumnType.MOMENT: _whole,
    ColumnType.TRUTH: _truth,
    ColumnType.REAL: _real,
    ColumnType.TEXT: _text,
    ColumnType.JSON: _text,
    ColumnType.BYTES: _bytes,
}


def digest(row: Row) -> bytes:
    """Return the digest of a row that was fitted: the same on both engines."""
    parts = tuple(_digest(value) if type(value) is bytes else value for value in row)
    return _digest(repr(parts).encode())


def _digest(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=DIGEST_BYTES).digest()


def size_of(row: Row) -> int:
    """Return about how many bytes a row has."""
    return sum(len(value) for value in row if type(value) is bytes or type(value) is str)
