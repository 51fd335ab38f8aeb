"""A transaction that somebody leaves open on the server is told of: it makes claims dearer."""

from collections.abc import Iterator
from contextlib import closing, contextmanager

import psycopg
import pytest

from premblyd.engines.connections import connect_read_only
from premblyd.record.troubles import daemons, table
from premblyd.record.troubles.trouble import Item, Situation
from tests.support.database import url_of
from tests.support.store import NOW_MS, Store

pytestmark = pytest.mark.postgresql


@contextmanager
def open_transaction(store: Store, isolation: str) -> Iterator[int]:
    """Have a transaction open that has read something; yield the process that serves it."""
    with psycopg.connect(url_of(store.place), application_name="pg_dump user-1") as other:
        other.execute(f"SET TRANSACTION ISOLATION LEVEL {isolation}")
        other.execute("SELECT count(*) FROM event")
        yield other.info.backend_pid


def snapshots(store: Store) -> list[Item]:
    with closing(connect_read_only(store.place)) as record:
        return table.items(Situation(record=record, now_ms=NOW_MS), kinds=["snapshot"])


def test_it_is_told_with_its_program_and_how_to_end_it_if_it_holds_a_snapshot(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_transaction(store, "REPEATABLE READ") as pid:
        assert snapshots(store) == [], "it is not open for long"
        monkeypatch.setattr(daemons, "SNAPSHOT_MS", 0)
        [item] = snapshots(store)
    assert item.text.startswith(f"A transaction of pg_dump user- (process {pid} of the PostgreSQL")
    assert f"pg_terminate_backend({pid})" in item.remedy
    with open_transaction(store, "READ COMMITTED"):
        assert snapshots(store) == []
