"""Reading beside the daemon's work, on PostgreSQL: the server may go, hang, and come back."""

import asyncio
import time
from collections.abc import Iterator

import pytest

from premblyd.databases import Server
from premblyd.engines.connections import backend, translated
from premblyd.engines.engine import Database
from premblyd.engines.readers import Readers, TooSlowError
from premblyd.errors import StoreUnreadableError
from premblyd.model.tables import Event
from premblyd.record import queries
from tests.support import postgresql
from tests.support.postgresql import SUPERUSER, rows
from tests.support.waiting import wait_until
from tests.support.wire import Wire

pytestmark = pytest.mark.postgresql

OF_THIS = "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"


@pytest.fixture
def wire() -> Iterator[Wire]:
    with Wire(postgresql.of_session()[0]) as wire:
        yield wire


@pytest.fixture
def far(wire: Wire, server: Server) -> Server:
    """The server at the other end of the wire."""
    name = server.url.partition("@/")[2].partition("?")[0]
    return wire.server(name, SUPERUSER, "connect_timeout=2")


def count(database: Database) -> int:
    return len(queries.tuples(database, Event.select(Event.id)))


def wait_for_ever(database: Database) -> None:
    with translated(StoreUnreadableError):
        database.execute_sql("SELECT pg_sleep(60)")


def test_a_server_that_was_restarted_is_read_without_a_failure(server: Server) -> None:
    async def scene() -> None:
        own = Readers(backend(server), count=1)
        assert await own.run(count) == 0
        rows(server, f"SELECT pg_terminate_backend(pid) {OF_THIS}")
        assert await own.run(count) == 0
        await own.close()

    asyncio.run(scene())


def test_what_takes_too_long_is_ended_on_the_server_too(server: Server) -> None:
    async def scene() -> None:
        own = Readers(backend(server), count=1)
        assert await own.run(count) == 0
        own.time_limit_s = 0.1
        with pytest.raises(TooSlowError):
            await own.run(wait_for_ever)
        await own.close()

    asyncio.run(scene())
    wait_until(lambda: rows(server, f"SELECT count(*) {OF_THIS}") == [(0,)])


def test_a_network_that_is_cut_keeps_neither_the_loop_nor_the_reader(
    far: Server, wire: Wire
) -> None:
    async def scene() -> None:
        own = Readers(backend(far), count=1)
        assert await own.run(count) == 0
        wire.is_cut = True
        own.time_limit_s = 0.1
        longest_s, before = 0.0, time.monotonic()
        reading = asyncio.ensure_future(own.run(count))
        while not reading.done():
            await asyncio.sleep(0.01)
            longest_s, before = max(longest_s, time.monotonic() - before), time.monotonic()
        with pytest.raises(TooSlowError):
            await reading
        assert longest_s < 2, "the loop waited for the network"
        wire.is_cut = False
        own.time_limit_s = 20
        assert await own.run(count) == 0
        await own.close()

    asyncio.run(scene())
