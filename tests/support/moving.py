"""A record with every odd value that a database can hold, and moving it."""

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from premblyd.databases import DatabaseAddress
from premblyd.model.columns import ColumnType
from premblyd.move import moving
from premblyd.move.moving import MoveStep, StepListener, TableMoved, move
from premblyd.move.rows import Fitting, Row, Table, moved_tables

TABLES = {table.name: table for table in moved_tables()}
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
    ("console_link", "role"): "look",
    ("console_session", "role"): "look",
    ("schema_floor", "migration"): "0005_hosts",
    ("event_key", "data_key"): "",  # any other must be here, for a command to move what it wraps
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
UNIQUE = {
    "event": ("key",),
    "host": ("worker",),
    "verification_name": ("name",),
    "alert_failure": ("name",),
    "alert_sent": ("name",),
    "event_hour": ("type",),
    "pause": ("action",),
    "attempt_hour": ("action",),
    "delivery": ("once_key",),
    "erased_name": ("name",),
    "removal": ("removed",),
    "sweep": ("removed",),
    "put_off": ("removed",),
    "gone_event": ("key",),
    "gone_once": ("once_key",),
}
NUMBERED = {"attempt": ("number",), "to_erase": ("event_id",)}
EMPTY_ALONE = {("delivery", "due_at_ms"), ("delivery", "waits_for_id"), ("awaited", "due_at_ms")}
# Of columns that take no others.
BOUNDED: dict[tuple[str, str], list[Any]] = {
    ("delivery", "attempt_count"): [0, 2**31 - 1],
    ("delivery", "attempts_left"): [0, 2**31 - 1],
    ("delivery", "order_place"): [1, LARGE],
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


def plain_row(table: Table) -> dict[str, Any]:
    """Return a row that the table takes; it refers to row 7 of others."""
    row = {
        column.column_name: WORDS.get((table.name, column.column_name), PLAIN[column.kind])
        for column in table.columns
    }
    row |= {reference.column: 7 for reference in table.references}
    return row | {name: None for name in row if (table.name, name) in EMPTY_ALONE}


def odd_rows() -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield rows for every table, which have each odd value in each column: ids from 7 on, and
    references to the last row of the other table."""
    for table in TABLES.values():
        for number, values in enumerate(_odd_values(table), 7):
            own: dict[str, Any] = {"id": number} if "id" in table.names else {}
            unique: dict[str, Any] = {
                name: f"{name} {number}" for name in UNIQUE.get(table.name, ())
            }
            unique |= dict.fromkeys(NUMBERED.get(table.name, ()), number)
            yield table.name, plain_row(table) | unique | values | own


def _odd_values(table: Table) -> Iterator[dict[str, Any]]:
    yield dict.fromkeys((reference.column for reference in table.references), 8)
    for column in table.columns:
        if column.column_name in {"id", *(each.column for each in table.references)}:
            continue
        if (table.name, column.column_name) in WORDS | dict.fromkeys(EMPTY_ALONE):
            continue
        for value in BOUNDED.get((table.name, column.column_name), ODD[column.kind]):
            yield {column.column_name: value}


def rows_of(place: DatabaseAddress) -> dict[str, list[Row]]:
    """Return all that a database holds, as both engines can hold it."""
    with moving.source(place) as side:
        return {
            name: list(map(Fitting(table).fit, side.rows(table))) for name, table in TABLES.items()
        }


def ignore(step: MoveStep) -> None:
    del step


def move_record(
    source: DatabaseAddress,
    target: DatabaseAddress,
    *,
    restart: bool = False,
    watch: StepListener = ignore,
) -> tuple[TableMoved, ...]:
    """Move what `source` holds."""
    with moving.source(source) as old, moving.target(target) as new:
        return move(old, new, watch=watch, restart=restart)
