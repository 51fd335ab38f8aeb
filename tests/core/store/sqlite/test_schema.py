"""The schema that is made of the models, and what people see of it."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from premblyd.store import tables
from premblyd.store.columns import Table
from premblyd.store.engine import Statement
from premblyd.store.sqlite.transaction import compiled
from premblyd.store.tables import Delivery, Event, OperatorAction
from tests.support.rows import for_each
from tests.support.store import NOW_MS, Store

COLUMN_NAMES = "SELECT name FROM pragma_table_info(?)"


@pytest.fixture(name="made")
def open_made(path: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(path)) as connection:
        yield connection


def test_the_body_is_the_last_column_of_an_event(made: sqlite3.Connection) -> None:
    """SQLite walks a photo's megabytes to reach what stands behind it."""
    assert made.execute(COLUMN_NAMES, ("event",)).fetchall()[-1] == ("body",)


def test_views_show_iso_times_and_nothing_secret(store: Store) -> None:
    store.add("crm", received_at_ms=NOW_MS + 7)
    store.add("crm", received_at_ms=NOW_MS + 1999)
    [event] = store.rows("SELECT received_at, last_duplicate_at, * FROM event_log")
    assert event[:2] == ("2023-11-14T22:13:20.007Z", "2023-11-14T22:13:21.999Z")
    [delivery] = store.rows("SELECT created_at, due_at, finished_at, * FROM delivery_log")
    assert delivery[:3] == ("2023-11-14T22:13:20.007Z", "2023-11-14T22:13:20.007Z", None)
    assert ("ref-1" in event, "ref-1" in delivery) == (True, True)
    assert "hush" not in str((event, delivery))
    hidden = {"event": {"token", "headers", "session_id", "body"}, "delivery": set[str]()}
    for table, left_out in hidden.items():
        columns = [
            {column.removesuffix("_ms") for (column,) in store.rows(COLUMN_NAMES, name)}
            for name in (table, f"{table}_log")
        ]
        assert columns[0] - columns[1] == left_out


@for_each(
    ("table", "condition", "index"),
    [
        (Event, tables.IS_DOUBTED, "event_doubted"),
        (Delivery, tables.IS_HELD, "delivery_held"),
        (OperatorAction, tables.IS_WHOLE, "operator_action_whole"),
        (Event, Event.reference_key.is_null(False), "event_reference_key"),
    ],
)
def test_what_is_rare_is_found_without_a_look_at_the_others(
    made: sqlite3.Connection, table: type[Table], condition: Any, index: str
) -> None:
    found = compiled(Statement(table.select(table.id).where(condition)))
    plans = made.execute(f"EXPLAIN QUERY PLAN {found.text}", found.bind({})).fetchall()
    assert f"INDEX {index}" in str(plans)
