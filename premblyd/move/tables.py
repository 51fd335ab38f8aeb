"""What is moved: every table of the models, so that a new one needs no line here."""

from dataclasses import dataclass
from typing import Any

from peewee import ForeignKeyField, Model

from premblyd.model import tables
from premblyd.model.columns import Column, columns

Row = tuple[Any, ...]
Key = tuple[Any, ...]

# Who is signed in to the console signs in again.
_NOT_MOVED = (tables.ConsoleLink, tables.ConsoleSession)
# What a daemon leaves in a database although no webhook ever came: it is in nobody's way.
_WORTHLESS_ALONE = (
    tables.Heartbeat,
    tables.Host,
    tables.SchemaFloor,
    tables.Downtime,
    tables.AlertSent,
    tables.AlertFailure,
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
