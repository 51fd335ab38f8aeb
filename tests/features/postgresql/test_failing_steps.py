"""Somebody has locked a table that webhooks don't need: they are stored all the same."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest

from premblyd.features.postgresql import engine
from premblyd.ground.databases import DatabaseAddress
from premblyd.ground.errors import TableUnavailableError
from premblyd.queue.inbox import Added, NewDelivery
from premblyd.queue.jobs import Claimable, Room
from premblyd.store.engine import Transaction
from tests.support.database import url_of
from tests.support.logs import Lines
from tests.support.queue import claim, ids
from tests.support.store import NOW_MS, Store, new_event

pytestmark = pytest.mark.postgresql

TABLES = ["attempt", "host", "record"]
CHANGES = {
    "attempt": "UPDATE attempt SET number = number",
    "host": "UPDATE host SET pid = pid",
    "record": "UPDATE record SET alive_at_ms = alive_at_ms",
}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "LOCK_WAIT", "100ms")


@contextmanager
def locked(place: DatabaseAddress, *tables: str) -> Iterator[None]:
    """Have tables locked as CREATE INDEX does."""
    with psycopg.connect(url_of(place)) as other:
        other.execute(f"LOCK TABLE {', '.join(tables)} IN SHARE MODE".encode())
        yield


def changing(table: str) -> Callable[[Transaction], None]:
    def change(transaction: Transaction) -> None:
        transaction.connection.execute(CHANGES[table].encode())

    return change


def both(store: Store, table: str, body: bytes) -> tuple[Any, Any]:
    """Store a webhook, and change the table, in one transaction."""
    futures: list[asyncio.Future[Any]] = [
        store.inbox.add(new_event(body), [NewDelivery("crm", 3)]),
        store.writer.call(changing(table)),
    ]
    added, changed = store.wait_all(futures)
    return added, changed


@pytest.mark.parametrize("table", TABLES)
def test_a_webhook_is_stored_although_what_shares_its_transaction_waits_for_a_lock(
    store: Store, lines: Lines, table: str
) -> None:
    with locked(store.place, table):
        for body in (b"1", b"2"):
            added, changed = both(store, table, body)
            assert isinstance(added, Added)
            assert isinstance(changed, TableUnavailableError)
            assert "holds a lock" in (store.writer.recent_error() or "")
    assert store.bodies() == [b"1", b"2"]
    assert both(store, table, b"3")[1] is None
    assert store.writer.last_error is None
    assert [line["event"] for line in lines] == ["store.unavailable", "store.recovered"]


def test_steps_that_need_no_locked_table_go_on(store: Store) -> None:
    """So does the health check, also beside what fails."""
    store.add("crm")
    with locked(store.place, *TABLES):
        for _ in range(3):
            actions = {"crm": Claimable(slots=1, lease_ms=1, digest="")}
            futures: list[asyncio.Future[Any]] = [
                store.queue.claim(actions, Room(limit=1), NOW_MS),
                store.inbox.prove_commit(),
            ]
            claimed, proved = store.wait_all(futures)
            assert isinstance(claimed, TableUnavailableError)
            assert proved is None
        assert store.writer.failed_at == float("-inf")
    assert ids(claim(store, crm=1)) == [1]


@pytest.mark.parametrize("table", ["event", "delivery", "event_hour"])
def test_the_health_check_fails_by_a_lock_on_what_webhooks_need(store: Store, table: str) -> None:
    with locked(store.place, table):
        [failed] = store.wait_all([store.inbox.prove_commit()])
        assert isinstance(failed, TableUnavailableError)
    assert store.wait_all([store.inbox.prove_commit()]) == [None]


def test_a_webhook_waits_for_a_lock_on_its_own_table_and_then_fails(store: Store) -> None:
    with psycopg.connect(url_of(store.place)) as other:
        other.execute("LOCK TABLE event")
        [failed] = store.wait_all([store.inbox.add(new_event(b"1"), [])])
        assert isinstance(failed, TableUnavailableError)
        assert store.writer.failed_at > 0, "what /healthz goes by"
    assert store.add().is_new
