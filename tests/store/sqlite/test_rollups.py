"""The counts by the hour, as the migration makes them of a database that was there before."""

import importlib
import sqlite3
from contextlib import closing
from typing import Any

from premblyd.engines.connections import connect_operator
from premblyd.record.operating import Operator
from premblyd.times import HOUR_MS
from tests.support.queue import FAILED, SUCCEEDED, add_many, claim, finish
from tests.support.store import NOW_MS, Store

EVENTS = "SELECT * FROM event_hour ORDER BY 1, 2, 3, 4"
ATTEMPTS = "SELECT * FROM attempt_hour ORDER BY 1, 2, 3, 4"


def counted_anew(store: Store) -> list[list[Any]]:
    """Return both tables as the migration fills them from what is in the database."""
    fill = importlib.import_module("premblyd.model.migrations.0003_rollups").fill
    with closing(sqlite3.connect(store.path)) as connection:
        connection.execute("DELETE FROM event_hour")
        connection.execute("DELETE FROM attempt_hour")
        fill(connection)
        return [connection.execute(sql).fetchall() for sql in (EVENTS, ATTEMPTS)]


def test_the_migration_counts_as_the_daemon_does(store: Store) -> None:
    add_many(store, 5, "crm")
    add_many(store, 2, "crm")
    other = store.add(body=b"other", response_code="AMINA")
    store.add(body=b"none", response_code=None, received_at_ms=NOW_MS + 3 * HOUR_MS)
    for number, job in enumerate(claim(store, crm=9).jobs):
        finish(store, job, SUCCEEDED if number else FAILED, now_ms=NOW_MS + 7 * number)
    with closing(connect_operator(store.place)) as writing:
        for change in Operator(actor="ada").add([other.event_id], "crm", 3, NOW_MS):
            writing.transact(change)
    kept = [store.rows(EVENTS), store.rows(ATTEMPTS)]
    assert all(kept)
    assert counted_anew(store) == kept
