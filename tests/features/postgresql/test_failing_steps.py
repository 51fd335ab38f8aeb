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
from premblyd.store import failing
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
    monkeypatch.setattr(engine, "SHORT_LOCK_WAIT", "50ms")


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
    store: Store, lines: Lines, table: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with locked(store.place, table):
        for body in (b"1", b"2"):
            added, changed = both(store, table, body)
            assert isinstance(added, Added)
            assert isinstance(changed, TableUnavailableError)
            assert "holds a lock" in (store.writer.recent_error() or "")
    assert store.bodies() == [b"1", b"2"]
    monkeypatch.setattr(failing, "FAILING_S", 0)
    assert both(store, table, b"3")[1] is None
    assert store.writer.last_error is None
    assert [line["event"] for line in lines] == ["store.unavailable", "store.recovered"]


def test_while_a_step_fails_it_runs_alone_and_waits_for_no_lock_for_long(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[bool] = []
    transact = store.engine.transact

    def noting(work: Callable[[Transaction], None], *, is_patient: bool = True) -> None:
        begun.append(is_patient)
        transact(work, is_patient=is_patient)

    monkeypatch.setattr(store.engine, "transact", noting)
    with locked(store.place, "attempt"):
        both(store, "attempt", b"1")
        assert begun == [True, True], "together, then the webhook alone"
        begun.clear()
        both(store, "attempt", b"2")
        both(store, "attempt", b"3")
        assert begun == [True, False, True, False], "each webhook alone, and at once"
    begun.clear()
    monkeypatch.setattr(failing, "FAILING_S", 0)
    both(store, "attempt", b"4")
    both(store, "attempt", b"5")
    assert begun == [True, True, True], "alone for the last time, and then together again"


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
