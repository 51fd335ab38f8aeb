"""How often the writer waits for the server, one time after the other: what one that is far
costs."""

import asyncio
from collections.abc import Iterator

import pytest

from premblyd.databases import Server
from tests.support import postgresql
from tests.support.postgresql import SUPERUSER
from tests.support.queue import SUCCEEDED, add_many, claim, finish
from tests.support.store import Store
from tests.support.trips import CountingWire, Trip

pytestmark = pytest.mark.postgresql


@pytest.fixture
def wire() -> Iterator[CountingWire]:
    cluster, _ = postgresql.of_session()
    with CountingWire(cluster) as wire:
        yield wire


@pytest.fixture
def far(wire: CountingWire, loop: asyncio.AbstractEventLoop, server: Server) -> Iterator[Store]:
    """A store at the other end of the wire, that has worked: its connection is there."""
    name = server.url.partition("@/")[2].partition("?")[0]
    store = Store(wire.server(name, SUPERUSER), loop)
    store.add("crm")
    [job] = claim(store, crm=1).jobs
    finish(store, job, SUCCEEDED)
    wire.take()
    yield store
    store.close()


def told(trips: list[Trip]) -> str:
    """Return for people what each of these was for."""
    return "\n".join(f"{len(trip)} statements: " + "; ".join(trip) for trip in trips)


def test_a_webhook_alone(far: Store, wire: CountingWire) -> None:
    counts = []
    far.add("crm", body=b"new")
    counts.append(wire.take())
    [job] = claim(far, crm=1).jobs
    counts.append(wire.take())
    finish(far, job, SUCCEEDED)
    counts.append(wire.take())
    assert [len(trips) for trips in counts] == [2, 2, 1], "\n\n".join(map(told, counts))


def test_a_backlog_is_claimed_and_finished_in_sets(far: Store, wire: CountingWire) -> None:
    add_many(far, 30, "crm", "page")
    wire.take()
    jobs = claim(far, limit=20, crm=10, page=10).jobs
    assert len(jobs) == 20
    trips = wire.take()
    assert len(trips) == 2, told(trips)
