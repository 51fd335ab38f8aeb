"""What was deleted is in none of the database's files any more, and its space goes back."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from premblyd.engines.sqlite import opening
from premblyd.engines.sqlite.space import KEPT_PAGES, MARK
from tests.support.database import rows
from tests.support.store import Store
from tests.support.waiting import wait_until

pytestmark = pytest.mark.sqlite
PAGE_BYTES = 4096


def test_space_goes_back_to_the_disk_while_webhooks_come(store: Store) -> None:
    for number in range(40):
        store.add("crm", body=b"%d" % number + b"x" * 100_000)
    [(full,)] = store.rows("PRAGMA page_count")
    store.by_hand("DELETE FROM delivery WHERE event_id <= 39")
    store.by_hand("DELETE FROM event WHERE id <= 39")
    for number in range(5):  # the first makes the writer look, and the rest comes meanwhile
        assert store.add("crm", body=b"next %d" % number).is_new
    left = full - 39 * (100_000 // PAGE_BYTES) + KEPT_PAGES
    wait_until(lambda: store.path.stat().st_size <= left * PAGE_BYTES)
    assert store.rows("PRAGMA freelist_count") <= [(KEPT_PAGES,)], "some are kept"
    assert store.rows("PRAGMA integrity_check") == [("ok",)]
    assert len(store.bodies()) == 6


def test_a_new_database_gives_space_back_and_is_marked(tmp_path: Path) -> None:
    path = tmp_path / "new.db"
    opening.prepare(path)
    assert rows(path, "PRAGMA auto_vacuum") == [(2,)]
    assert rows(path, "PRAGMA application_id") == [(MARK,)]


def test_a_database_from_before_gives_nothing_back_and_goes_on(
    tmp_path: Path, store: Store
) -> None:
    old = tmp_path / "old.db"
    with closing(sqlite3.connect(old)) as connection:
        connection.execute("CREATE TABLE other (x)")
    opening.prepare(old)
    assert rows(old, "PRAGMA auto_vacuum") == [(0,)]


def test_each_connection_that_writes_overwrites_what_it_deletes(store: Store) -> None:
    connections = [opening.connect(store.path), opening.connect_operator(store.path)]
    for database in connections:
        with closing(database):
            assert database.execute_sql("PRAGMA secure_delete").fetchone() == (1,)
    assert store.on_connection(
        lambda connection: connection.execute("PRAGMA secure_delete").fetchone()
    ) == (1,)
