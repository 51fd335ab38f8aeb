"""How often the writer waits for the server, one time after the other: what one that is far
costs."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest

from premblyd.databases import Server
from premblyd.engines.postgresql import opening
from premblyd.model.states import State
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
    monkeypatch.setattr("premblyd.engines.postgresql.engine.DEADLINE_S", 60.0)
    monkeypatch.setitem(opening.SESSION, "idle_in_transaction_session_timeout", "60s")
    body = bytes(range(256)) * (1 << 15)
    with closing(Store(far, loop)) as store:
        assert store.add("crm", body=body).is_new
        assert store.bodies() == [body]
