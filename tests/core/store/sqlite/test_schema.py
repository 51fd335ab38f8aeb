"""The schema that is made of the models, and what people see of it."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from peewee import SQL

from premblyd.features.asking import awaited
from premblyd.features.asking.tables import Inquiry
from premblyd.features.turns import once, order
from premblyd.features.turns.tables import Ordered
from premblyd.store import schema, tables
from premblyd.store.columns import Table
from premblyd.store.engine import Statement
from premblyd.store.sqlite.transaction import compiled
from premblyd.store.tables import Delivery, Event, OperatorAction
from tests.support.database import reading
from tests.support.rows import for_each
from tests.support.store import NOW_MS, Store

COLUMN_NAMES = "SELECT name FROM pragma_table_info(?)"


def test_the_printed_schema_is_the_one_that_the_models_make() -> None:
    """`python -m premblyd.store.schema` prints it anew."""
    assert Path(schema.__file__).with_suffix(".sql").read_text() == schema.script()


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
        (Ordered, Ordered.waits_for_id.is_null(False), "ordered_waits"),
        (OperatorAction, tables.IS_WHOLE, "operator_action_whole"),
        (Event, Event.reference_key.is_null(False), "event_reference_key"),
        (Inquiry, Inquiry.result == SQL("'contradicted'"), "inquiry_contradicted"),
    ],
)
def test_what_is_rare_is_found_without_a_look_at_the_others(
    made: sqlite3.Connection, table: type[Table], condition: Any, index: str
) -> None:
    found = compiled(Statement(table.select(table.id).where(condition)))
    plans = made.execute(f"EXPLAIN QUERY PLAN {found.text}", found.bind({})).fetchall()
    assert f"INDEX {index}" in str(plans)


# What is not settled, on SQLite: it takes a text for a number, and plans by its own rules.


def plan(path: Path, statement: Statement, **values: Any) -> str:
    """Return how SQLite finds the rows of a statement."""
    text = compiled(statement)
    with reading(path) as connection:
        steps = connection.execute(f"EXPLAIN QUERY PLAN {text.text}", text.bind(values)).fetchall()
    return " ".join(step[-1] for step in steps)


def test_events_that_were_missed_are_found_by_their_index(path: Path) -> None:
    """Without it, a start would read all events of three days."""


def test_what_is_due_is_found_in_the_order_in_which_it_is_asked_for(path: Path) -> None:
    """Whoever invents references makes it long: it is not sorted for each question."""
    steps = plan(path, awaited._DUE, now_ms=1, limit=9)
    assert "awaited_turn" in steps
    assert "B-TREE" not in steps


def test_what_succeeded_earlier_is_found_by_its_reference(path: Path) -> None:
    """And not among all that ever succeeded, or all events of an outcome."""
    names = ("action", "reference", "plain", "outcome", "type", "id")
    steps = plan(path, once._EARLIER, **dict.fromkeys(names, "x"))
    for index in ("event_reference ", "event_reference_key ", "delivery_event "):
        assert index in steps
    assert "delivery_state" not in steps
    assert "event_outcome" not in steps


def test_the_end_of_a_line_is_found_by_its_index(path: Path) -> None:
    """However many wait: it is looked for by each webhook."""
    steps = plan(path, order._LAST, order_key="x", action="x", before=1)
    assert "ordered_line " in steps
    assert "B-TREE" not in steps
