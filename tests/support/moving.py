"""A record with every odd value that a database can hold, and moving it."""

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
from peewee import ForeignKeyField, Model

from premblyd.features.postgresql import moving
from premblyd.features.postgresql.moving import MOVED, Row, TableMoved, Target, Watch, move
from premblyd.features.postgresql.settings import Server
from premblyd.ground.databases import DatabaseAddress
from premblyd.store.columns import ColumnType, columns

TABLES: dict[str, type[Model]] = {table._meta.table_name: table for table in MOVED}
LARGE = 2**63 - 1
WORDS = {  # of columns that take only these
    ("event", "kind"): "sdk",
    ("event", "outcome"): "verified",
    ("delivery", "state"): "succeeded",
    ("attempt", "outcome"): "failed",
    ("inquiry", "purpose"): "confirm",
    ("inquiry", "result"): "settled",
    ("awaited", "state"): "settled",
    ("host", "ended"): "lost",
}
PLAIN: dict[ColumnType, Any] = {
    ColumnType.NUMBER: 7,
    ColumnType.MOMENT: 7,
    ColumnType.TRUTH: 1,
    ColumnType.REAL: 0.1,
    ColumnType.TEXT: "text",
    ColumnType.JSON: "[]",
    ColumnType.BYTES: b"bytes",
}
ODD: dict[ColumnType, list[Any]] = {
    ColumnType.NUMBER: [0, -1, LARGE, -LARGE - 1],
    ColumnType.MOMENT: [0, -1, LARGE, -LARGE - 1],
    ColumnType.TRUTH: [0, 1],
    ColumnType.REAL: [0.0, -0.0, 1e308, 5e-324, float("inf"), float("-inf"), 1 / 3, 97.0],
    ColumnType.TEXT: ["", "\u2028", "Zoë \U0001f600", "a\\N\tb\r\n", "'\"%s;", "\x01\x7f"],
    ColumnType.JSON: ["", "\ufffe"],
    ColumnType.BYTES: [b"", bytes(range(256)), b"\0" * 70_000, b"\\x41"],
}
UNIQUE: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("event", "gone_event"), ("key",)),
    **dict.fromkeys(("verification_name", "alert", "erased_name"), ("name",)),
    **dict.fromkeys(("pause", "attempt_hour"), ("action",)),
    "once_run": ("once_key",),
    **dict.fromkeys(("removal", "sweep"), ("removed",)),
    "host": ("worker",),
    "event_hour": ("type",),
    "backup_folder": ("folder",),
}
NUMBERED = {"attempt": ("number",), "day": ("day_ms",)}
NUMBERED |= dict.fromkeys(("to_erase", "erased_event", "kept_from"), ("event_id",))
NUMBERED |= dict.fromkeys(("confirmation", "once_run", "ordered"), ("delivery_id",))
EMPTY_ALONE = {("delivery", "due_at_ms"), ("ordered", "waits_for_id"), ("awaited", "due_at_ms")}
# Of columns that take no others.
BOUNDED: dict[tuple[str, str], list[Any]] = {
    ("delivery", "attempt_count"): [0, 2**31 - 1],
    ("delivery", "attempts_left"): [0, 2**31 - 1],
}


def insert(path: Path, table: str, **values: Any) -> None:
    """Insert a row into a file, with plain values in all other columns."""
    insert_all(path, [(table, plain_row(TABLES[table]) | values)])


def insert_all(path: Path, new: Iterable[tuple[str, dict[str, Any]]]) -> None:
    """Insert rows into tables of a file."""
    with closing(sqlite3.connect(path)) as connection, connection:
        for table, row in new:
            marks = ", ".join("?" * len(row))
            text = f"INSERT INTO {table} ({', '.join(row)}) VALUES ({marks})"
            connection.execute(text, tuple(row.values()))


def plain_row(table: type[Model]) -> dict[str, Any]:
    """Return a row that the table takes; it refers to row 7 of others."""
    own = table._meta.table_name
    row = {
        column.column_name: WORDS.get((own, column.column_name), PLAIN[column.kind])
        for column in columns(table)
    }
    row |= dict.fromkeys(_references(table), 7)
    return row | {name: None for name in row if (own, name) in EMPTY_ALONE}


def _references(table: type[Model]) -> list[str]:
    return [each.column_name for each in columns(table) if isinstance(each, ForeignKeyField)]


def odd_rows() -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield rows for every table, which have each odd value in each column: ids from 7 on, and
    references to the last row of the other table."""
    for name, table in TABLES.items():
        if name == "record":  # it has one row, by which the database is known
            continue
        for number, values in enumerate(_odd_values(table), 7):
            row = plain_row(table)
            own: dict[str, Any] = {"id": number} if "id" in row else {}
            unique: dict[str, Any] = {each: f"{each} {number}" for each in UNIQUE.get(name, ())}
            unique |= dict.fromkeys(NUMBERED.get(name, ()), number)
            yield name, row | unique | values | own


def _odd_values(table: type[Model]) -> Iterator[dict[str, Any]]:
    name, references = table._meta.table_name, _references(table)
    yield {each: 8 for each in references if each not in NUMBERED.get(name, ())}
    for column in columns(table):
        place = name, column.column_name
        if column.column_name in ("id", *references) or place in WORDS or place in EMPTY_ALONE:
            continue
        for value in BOUNDED.get(place, ODD[column.kind]):
            yield {column.column_name: value}


def rows_of(place: DatabaseAddress) -> dict[str, list[Row]]:
    """Return all that a database holds."""
    if isinstance(place, Server):
        with psycopg.connect(place.url) as connection:
            target = Target(connection)
            found = {name: list(target.rows(table)) for name, table in TABLES.items()}
    else:
        with moving.opened_source(place) as file:
            found = {name: list(file.rows(table)) for name, table in TABLES.items()}
    return {name: sorted(rows, key=repr) for name, rows in found.items()}


def ignore(*_: object) -> None: ...


def move_record(source: Path, target: Server, watch: Watch = ignore) -> tuple[TableMoved, ...]:
    """Move what `source` holds."""
    return move(source, target, watch)
