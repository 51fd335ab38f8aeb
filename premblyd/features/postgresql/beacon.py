"""How daemons on a server know of each other. Each tells the others on a connection of its own that
it lives and that deliveries are due, and listens to them (NOTIFY and LISTEN).

Who beats is alive: no clock is believed. A daemon that was killed leaves its row as one
that lives has it, so each is watched for as long as it takes to see it beat: three beats, within
bounds. Hosts beat a tenth of `lost_after` apart.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from typing import Any

import psycopg

from premblyd.features.postgresql.membership import Beat, TimeRead
from premblyd.features.postgresql.opening import SocketCopy, parameters, plain
from premblyd.features.postgresql.settings import Server
from premblyd.features.postgresql.transaction import NOW_MS, compiled
from premblyd.ground.errors import StoreUnavailableError
from premblyd.store.engine import Statement

CHANNEL = "premblyd_due"
PATIENCE_S = 5.0  # for an answer: then the connection is given up
# What is said here need not survive a crash of the server: no beat waits for a disk or a standby.
_BEGIN = f"""
SET synchronous_commit = off; SET lock_timeout = '2s'; SET timezone = 'UTC';
SET default_transaction_isolation = 'read committed'; SET statement_timeout = 0; LISTEN {CHANNEL}
"""
AsyncConnection = psycopg.AsyncConnection[Any]


class PostgresqlBeacon:
    """See membership.Beacon."""

    def __init__(self, server: Server) -> None:
        self._parameters = parameters(server)
        self._connection: AsyncConnection | None = None
        self._stirred = asyncio.Event()
        self._has_heard = False  # of another daemon's deliveries

    async def read_time(self) -> TimeRead:
        async with self._connected() as connection, _deadline(connection):
            return await _read_time(connection)

    async def beat(self, beat: Statement, look: Statement, worker: str) -> Beat:
        async with self._connected() as connection, _deadline(connection):
            time_read = await _read_time(connection)
            saying, asking = compiled(beat), compiled(look)
            values = saying.bind({"worker": worker, "seen_at_ms": time_read.now_ms})
            beaten = await connection.execute(saying.text, values)
            found = await connection.execute(asking.text, asking.bind({}))
            rows = await found.fetchall()
        return Beat(hosts=rows, is_known=beaten.rowcount > 0, time=time_read)

    async def announce(self) -> None:
        async with self._connected() as connection, _deadline(connection):
            await connection.execute(f"NOTIFY {CHANNEL}")

    async def wait(self, timeout_s: float) -> bool:
        async with self._connected() as connection:
            await self._readable(connection, timeout_s)
            connection.pgconn.consume_input()
            while (notification := connection.pgconn.notifies()) is not None:
                self._hear(connection, notification.be_pid)
        heard, self._has_heard = self._has_heard, False
        return heard

    def stir(self) -> None:
        self._stirred.set()

    async def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(psycopg.Error):
                await connection.close()

    def _hear(self, connection: AsyncConnection, sender: int) -> None:
        if sender != connection.info.backend_pid:
            self._has_heard = True
            self._stirred.set()

    async def _readable(self, connection: AsyncConnection, timeout_s: float) -> None:
        loop, descriptor = asyncio.get_running_loop(), connection.fileno()
        loop.add_reader(descriptor, self._stirred.set)
        try:
            async with asyncio.timeout(timeout_s):
                await self._stirred.wait()
        except TimeoutError:
            pass
        finally:
            loop.remove_reader(descriptor)
            self._stirred.clear()

    @contextlib.asynccontextmanager
    async def _connected(self) -> AsyncIterator[AsyncConnection]:
        try:
            if self._connection is None:
                self._connection = await self._connect()
            yield self._connection
        except (psycopg.Error, OSError) as error:
            await self.close()
            raise StoreUnavailableError(plain(error)) from None

    async def _connect(self) -> AsyncConnection:
        connection = await psycopg.AsyncConnection.connect(**self._parameters, autocommit=True)
        connection.add_notify_handler(lambda heard: self._hear(connection, heard.pid))
        try:
            async with _deadline(connection):
                await connection.execute(_BEGIN)
        except BaseException:  # also a cancellation: nobody else knows of this connection
            await connection.close()
            raise
        return connection


async def _read_time(connection: AsyncConnection) -> TimeRead:
    asked_at_s = time.monotonic()
    found = await connection.execute(f"SELECT {NOW_MS}")
    row = await found.fetchone()
    now_ms = int(row[0]) if row else 0
    return TimeRead(now_ms=now_ms, asked_at_s=asked_at_s, answered_at_s=time.monotonic())


@contextlib.asynccontextmanager
async def _deadline(connection: AsyncConnection) -> AsyncIterator[None]:
    """Cut the connection unless what is done within ends in time: the network may be gone without
    a word."""
    timer = asyncio.get_running_loop().call_later(PATIENCE_S, _cut, connection)
    try:
        yield
    finally:
        timer.cancel()


def _cut(connection: AsyncConnection) -> None:
    with (
        contextlib.suppress(psycopg.Error, OSError),  # it is closed already
        contextlib.closing(SocketCopy(connection)) as copy,
    ):
        copy.shut_down()
