"""The schema: that the models say what the migrations make, and what people see of it."""

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from enum import StrEnum
from pathlib import Path
from typing import Any

import pytest
from peewee import SQL, SqliteDatabase

from premblyd.engines.engine import Statement
from premblyd.engines.sqlite import opening
from premblyd.engines.sqlite.transaction import compiled
from premblyd.model import history, states, tables
from premblyd.model.history import History
from premblyd.model.table import Table
from premblyd.model.tables import Awaited, Delivery, Event, Inquiry, OperatorAction
from premblyd.prembly.payload import Kind, Outcome
from tests.support.database import rows
from tests.support.rows import for_each
from tests.support.store import NOW_MS, Store

MODELS = list(tables.TABLES)
NAMES = [model._meta.table_name for model in MODELS]
TABLES = "SELECT name FROM sqlite_master WHERE type = 'table'"
COLUMN_NAMES = "SELECT name FROM pragma_table_info(?)"
COLUMNS = """
SELECT name, type, "notnull" AND NOT pk, dflt_value, pk FROM pragma_table_info(?) ORDER BY cid
"""
FOREIGN_KEYS = 'SELECT "from", "table", "to", on_delete FROM pragma_foreign_key_list(?)'


@pytest.fixture(scope="module")
def of_models() -> Iterator[sqlite3.Connection]:
    """A database that Peewee made of the models alone."""
    with closing(SqliteDatabase(":memory:")) as database, database.bind_ctx(MODELS):
        database.create_tables(MODELS)
        yield database.connection()


@pytest.fixture
def migrated(path: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(path)) as connection:
        yield connection


@for_each("table", NAMES)
def test_the_models_are_the_migrated_schema(
    of_models: sqlite3.Connection, migrated: sqlite3.Connection, table: str
) -> None:
    for about in (COLUMNS, FOREIGN_KEYS):
        said, made = (
            connection.execute(about, (table,)).fetchall() for connection in (of_models, migrated)
        )
        assert said == made


def test_the_body_is_the_last_column_of_an_event(migrated: sqlite3.Connection) -> None:
    """SQLite walks a photo's megabytes to reach what stands behind it."""
    columns = migrated.execute(COLUMN_NAMES, ("event",)).fetchall()
    assert columns[-1] == ("body",)


def test_every_table_has_a_model(path: Path) -> None:
    found = {name for (name,) in rows(path, TABLES)}
    assert found == {*NAMES, "schema_migration", "sqlite_sequence"}


@for_each(
    ("table", "column", "words"),
    [
        ("event", "kind", Kind),
        ("event", "outcome", Outcome),
        ("delivery", "state", states.State),
        ("attempt", "outcome", states.AttemptOutcome),
        ("inquiry", "purpose", tables.Purpose),
        ("inquiry", "result", tables.InquiryResult),
        ("awaited", "state", states.AwaitedState),
    ],
)
def test_a_table_takes_the_programs_words(
    path: Path, table: str, column: str, words: type[StrEnum]
) -> None:
    [(sql,)] = rows(path, "SELECT sql FROM sqlite_master WHERE name = ?", table)
    [allowed] = re.findall(rf"CHECK \({column} IN \((.*?)\)\)", sql, re.DOTALL)
    assert re.findall(r"\w+", allowed) == list(words)


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
    hidden["event"] |= {"erasure_id", "erased_name", "closed_at", "session_digest"}
    hidden["event"] |= {"sealed_reference", "sealed_user_ref"}
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
        (Delivery, tables.WAITS_FOR_ANOTHER, "delivery_waits"),
        (OperatorAction, tables.IS_WHOLE, "operator_action_whole"),
        (Event, Event.reference_key.is_null(False), "event_reference_key"),
        (Inquiry, Inquiry.result == SQL("'contradicted'"), "inquiry_contradicted"),
        (Awaited, Awaited.state == SQL("'given_up'"), "awaited_given_up"),
        (Delivery, Delivery.state == SQL("'dead'"), "delivery_dead"),
    ],
)
def test_what_is_rare_is_found_without_a_look_at_the_others(
    migrated: sqlite3.Connection, table: type[Table], condition: Any, index: str
) -> None:
    found = compiled(Statement(table.select(table.id).where(condition)))
    plans = migrated.execute(f"EXPLAIN QUERY PLAN {found.text}", found.bind({})).fetchall()
    assert f"INDEX {index}" in str(plans)


def test_a_database_of_a_newer_version_that_lacks_one_of_ours_is_not_worked_on(
    prepared: Path, tmp_path: Path
) -> None:
    """As when a migration was added to an older version afterwards."""
    path = tmp_path / "premblyd.db"
    path.write_bytes(prepared.read_bytes())
    last = history.known()[-1]
    newer = "INSERT INTO schema_migration (name, applied) VALUES ('9999_newer', '2030-01-01')"
    with closing(opening.connect(path)) as database:
        database.execute_sql(newer)
        known = History(database)
        assert (known.newer, known.pending, known.can_work) == (["9999_newer"], [], True)
        database.execute_sql("DELETE FROM schema_migration WHERE name = ?", (last,))
        lacking = History(database)
        assert (lacking.pending, lacking.can_work) == ([last], False)
