"""Reading beside the daemon's work: within a limit of time, by a few at once. Meanwhile a file may
be put away and back; a server may go, hang, and come back."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from premblyd.features.postgresql.settings import Server
from premblyd.features.reading import readers
from premblyd.features.reading.readers import Readers, TooBusyError, TooSlowError
from premblyd.ground.databases import DatabaseAddress
from premblyd.ground.errors import PremblydError, StoreUnreadableError
from premblyd.record import queries
from premblyd.store.connections import backend, translated
from premblyd.store.engine import Database
from premblyd.store.tables import Event
from tests.support.postgresql import SUPERUSER, of_session, rows
from tests.support.waiting import wait_until
from tests.support.wire import Wire

LONG = """WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 30000000)
    SELECT count(*) FROM n"""


def count(database: Database) -> int:
    return len(queries.tuples(database, Event.select(Event.id)))


def for_long(database: Database) -> None:
    with translated(StoreUnreadableError):
        database.execute_sql(LONG).fetchone()


def play(place: DatabaseAddress, scene: Callable[[Readers], Awaitable[None]]) -> None:
    async def run() -> None:
        own = Readers(backend(place), count=2, time_limit_s=20)
        try:
            await scene(own)
        finally:
            await own.close()

    asyncio.run(run())


def test_what_takes_too_long_is_stopped_and_the_next_is_read(
    place: DatabaseAddress,
) -> None:
    async def scene(own: Readers) -> None:
        for _ in range(2):  # each reader, and each again
            own.time_limit_s = 0.05
            ended = await asyncio.gather(
                *(own.run(for_long) for _ in range(2)), return_exceptions=True
            )
            assert [type(each) for each in ended] == [TooSlowError, TooSlowError]
            own.time_limit_s = 20
            assert await own.run(count) == 0

    play(place, scene)


def test_a_few_read_at_once_others_wait_and_too_many_are_turned_away(
    place: DatabaseAddress,
) -> None:
    """Who stops waiting leaves the reader to the next."""
    may_go_on, most, now, lock = threading.Event(), 0, 0, threading.Lock()

    def read(_: Database) -> None:
        nonlocal most, now
        with lock:
            now += 1
            most = max(most, now)
        may_go_on.wait()
        with lock:
            now -= 1

    async def scene(own: Readers) -> None:
        waiting = [asyncio.ensure_future(own.run(read)) for _ in range(readers.MAX_WAITING)]
        await asyncio.sleep(0)  # let each begin
        with pytest.raises(TooBusyError):
            await own.run(count)
        while most < 2:
            await asyncio.sleep(0)
        waiting[0].cancel()
        waiting[-1].cancel()
        may_go_on.set()
        await asyncio.gather(*waiting, return_exceptions=True)
        assert await own.run(count) == 0

    play(place, scene)
    assert most == 2


def test_a_file_that_is_put_back_is_read_again(path: Path) -> None:
    async def scene(own: Readers) -> None:
        aside = path.with_name("aside")
        path.rename(aside)
        for _ in range(2):
            with pytest.raises(PremblydError):
                await own.run(count)
        aside.rename(path)
        assert [await own.run(count) for _ in range(4)] == [0] * 4

    play(path, scene)


OF_THIS = "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"


@pytest.mark.postgresql
def test_a_server_that_was_restarted_is_read_without_a_failure(server: Server) -> None:
    async def scene(own: Readers) -> None:
        assert [await own.run(count) for _ in range(2)] == [0, 0]
        rows(server, f"SELECT pg_terminate_backend(pid) {OF_THIS}")
        assert [await own.run(count) for _ in range(2)] == [0, 0]

    play(server, scene)


@pytest.mark.postgresql
def test_what_takes_too_long_is_ended_on_the_server_too(server: Server) -> None:
    def wait_for_ever(database: Database) -> None:
        with translated(StoreUnreadableError):
            database.execute_sql("SELECT pg_sleep(60)")

    async def scene(own: Readers) -> None:
        assert await own.run(count) == 0
        own.time_limit_s = 0.1
        with pytest.raises(TooSlowError):
            await own.run(wait_for_ever)

    play(server, scene)
    wait_until(lambda: rows(server, f"SELECT count(*) {OF_THIS}") == [(0,)])


@pytest.mark.postgresql
def test_a_network_that_is_cut_keeps_neither_the_loop_nor_the_reader(server: Server) -> None:
    async def scene(own: Readers) -> None:
        assert [await own.run(count) for _ in range(2)] == [0, 0]
        wire.is_cut = True  # and who waits for it never ends
        own.time_limit_s = 0.1
        with pytest.raises(TooSlowError):
            await own.run(count)
        wire.is_cut = False
        own.time_limit_s = 20
        assert [await own.run(count) for _ in range(2)] == [0, 0]

    name = server.url.partition("@/")[2].partition("?")[0]
    with Wire(of_session()[0]) as wire:
        play(wire.server(name, SUPERUSER, "connect_timeout=0"), scene)
