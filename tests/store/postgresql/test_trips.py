"""How often the writer waits for the server, one time after the other: what one that is far
costs."""

import asyncio
from collections.abc import Iterator

import pytest

from premblyd.databases import Server
from premblyd.model.states import State
from premblyd.run import dispatcher
from tests.support import postgresql
from tests.support.dispatching import Dispatching
from tests.support.jobs import action, ending
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


def all_ran(at: Dispatching, count: int) -> bool:
    return len(at.shell.runs) == count and not at.dispatcher.running


def test_what_is_done_at_once_costs_as_much_as_one(store: Store, wire: CountingWire) -> None:
    wire.take()
    add_many(store, 30, "crm", "page")
    assert len(trips := wire.take()) == 2, told(trips)
    jobs = claim(store, limit=20, crm=10, page=10).jobs
    assert len(jobs) == 20
    assert len(trips := wire.take()) == 2, told(trips)
    ends = [ending(job, State.SUCCEEDED, NOW_MS) for job in jobs]
    finished = map(store.queue.finish, jobs, [SUCCEEDED] * 20, ends)
    assert store.wait_all(finished) == [True] * 20
    assert len(trips := wire.take()) == 1, told(trips)


@pytest.mark.parametrize("count", [1, 7])
async def test_a_webhook_alone_costs_four_ways_to_the_server(
    far: Server, wire: CountingWire, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    """It is accepted, claimed and finished; and nobody asks then whether another waits."""
    monkeypatch.setattr(dispatcher, "POLL_S", 600.0)
    async with Dispatching(far, action("crm", concurrency=1)) as at:
        for number in range(count):
            await at.add("crm", body=b"%d" % number)
            await at.until(lambda: all_ran(at, number + 1))  # noqa: B023 (awaited at once)
        wire.take()
        await at.add("crm", body=b"alone")
        await at.until(lambda: all_ran(at, count + 1))
        trips = wire.take()
    assert len(trips) == 4, told(trips)


@pytest.mark.parametrize("concurrency", [1, 8])
async def test_a_finished_hook_of_a_backlog_costs_two_ways_at_most(
    far: Server, wire: CountingWire, monkeypatch: pytest.MonkeyPatch, concurrency: int
) -> None:
    monkeypatch.setattr(dispatcher, "POLL_S", 600.0)
    async with Dispatching(far, action("crm", concurrency=concurrency)) as at:
        held = at.shell.hold("crm")
        for number in range(40):
            await at.add("crm", body=b"%d" % number)
        wire.take()
        held.set()
        await at.until(lambda: all_ran(at, 40))
        trips = wire.take()
    assert len(trips) <= 2 * 40 + 2, told(trips)  # 2: of a claim that was on its way
