"""How often the writer waits for the server, one time after the other: what one that is far
costs."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from typing import Any

import pytest

from premblyd.features.postgresql import opening
from premblyd.features.postgresql.settings import Server
from premblyd.features.postgresql.transaction import compiled
from premblyd.queue import due
from premblyd.store.engine import Statement, Transaction
from premblyd.store.states import State
from tests.support import postgresql
from tests.support.jobs import ending
from tests.support.postgresql import SUPERUSER
from tests.support.queue import SUCCEEDED, add_many, claim, finish
from tests.support.store import NOW_MS, Store
from tests.support.trips import CountingWire, Trip

pytestmark = pytest.mark.postgresql


@pytest.fixture
def wire() -> Iterator[CountingWire]:
    cluster, _ = postgresql.of_session()
    with CountingWire(cluster) as wire:
        yield wire


@pytest.fixture
def far(wire: CountingWire, server: Server) -> Server:
    """The server at the other end of the wire."""
    return wire.server(server.url.partition("@/")[2].partition("?")[0], SUPERUSER)


@pytest.fixture
def store(far: Server, loop: asyncio.AbstractEventLoop) -> Iterator[Store]:
    """A store on it that has worked: its connection is there."""
    store = Store(far, loop)
    store.add("crm")
    [job] = claim(store, crm=1).jobs
    finish(store, job, SUCCEEDED)
    yield store
    store.close()


def told(trips: list[Trip]) -> str:
    """Return for people what each of these was for."""
    return "\n".join(f"{len(trip)} statements: " + "; ".join(trip) for trip in trips)


def test_what_is_done_at_once_costs_as_much_as_one(store: Store, wire: CountingWire) -> None:
    """Up to 8 KiB, and where statements are prepared: then they are not sent with their values."""

    def ways(done: Callable[[], Any]) -> tuple[Any, list[Trip]]:
        wire.take()
        return done(), wire.take()

    for turn in range(7):
        _, adding = ways(lambda: add_many(store, 8, "crm", "page", first=8 * turn))  # noqa: B023
        jobs, claiming = ways(lambda: claim(store, limit=16, crm=9, page=9).jobs)
        ends = [ending(job, State.SUCCEEDED, NOW_MS) for job in jobs]
        ended, finishing = ways(
            lambda: store.wait_all(map(store.queue.finish, jobs, [SUCCEEDED] * 16, ends))  # noqa: B023
        )
        assert ended == [True] * 16
    for trips, count in ((adding, 2), (claiming, 2), (finishing, 1)):
        assert len(trips) == count, told(trips)


def test_a_long_body_goes_to_a_server_that_is_far(
    far: Server, loop: asyncio.AbstractEventLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is more than a socket takes at once, and no answer comes before it is there."""
    monkeypatch.setattr("premblyd.features.postgresql.engine.DEADLINE_S", 60.0)
    monkeypatch.setitem(opening.SESSION, "idle_in_transaction_session_timeout", "60s")
    body = bytes(range(256)) * (1 << 15)
    with closing(Store(far, loop)) as store:
        assert store.add("crm", body=body).is_new
        assert store.bodies() == [body]


# What a claim reads is found by the queue's index, though the server knows little of the table: it
# looks at it only now and then. What people ask is planned for what they ask for.

FILL = """INSERT INTO delivery (event_id, action, state, due_at_ms, attempts_left, created_at_ms)
    SELECT 1, (ARRAY['crm', 'a', 'b', 'c', 'd'])[mod(number, 5) + 1], 'pending', ?, 3, 0
    FROM generate_series(1, 20000) AS number"""
VALUES = {
    "worker": "x",
    "action": "crm",
    "now_ms": NOW_MS + 9,
    "limit": 50,
    "after_ms": NOW_MS,
    "after_id": 500,
}


@pytest.mark.parametrize("analyzed", ["before", "after"])
def test_a_claim_reads_by_the_index_though_the_server_knows_little(
    store: Store, analyzed: str
) -> None:
    store.add("crm")
    if analyzed == "before":
        store.by_hand("ANALYZE")
    store.by_hand(FILL, NOW_MS)
    if analyzed == "after":
        store.by_hand("ANALYZE")
    for statement in (due.waiting_actions(), due.DUE, due.DUE_BEHIND, due.FIRST_DUE):
        plan = store.call(partial(explained, statement))
        assert "using delivery_queue on delivery t1" in plan, plan
        assert not any(word in plan for word in ("Bitmap", "Sort", "Seq Scan on delivery")), plan


def explained(statement: Statement, transaction: Transaction) -> str:
    """Return how the server finds the rows of a statement on the writer's own connection."""
    query = compiled(statement)
    found = transaction.connection.execute("EXPLAIN " + query.text, query.bind(VALUES))
    return "\n".join(line for (line,) in found.fetchall())
