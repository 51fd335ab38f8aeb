"""A Receiver on a real store, as fixtures, and connections to it."""

import asyncio
import contextlib
import hashlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tornado.httpclient import AsyncHTTPClient, HTTPResponse
from tornado.httputil import HTTPHeaders

from premblyd.config.load import parse_config
from premblyd.config.routing import Routing
from premblyd.config.secrets import SecretPlaces
from premblyd.ground import telemetry
from premblyd.ground.databases import DatabaseAddress
from premblyd.ground.times import Clock
from premblyd.queue.digests import Digests
from premblyd.queue.inbox import Inbox
from premblyd.receive.server import Receiver
from premblyd.store.connections import backend
from premblyd.store.writer import Writer
from tests.support.configuration import configuration, shell
from tests.support.database import rows
from tests.support.requests import Answer
from tests.support.waiting import until
from tests.support.webhooks import BODY, PATH, signed

ACTIONS = [
    shell(name, "true", code)
    for name, code in {"all": "*", "ok": "00", "none": "missing", "rest": "default"}.items()
]


class Reception:
    """A receiver, and what it did."""

    def __init__(self, place: DatabaseAddress, folder: Path) -> None:
        self.place, self.folder = place, folder
        self.woken = 0
        self.commits = 0

    @property
    def path(self) -> Path:
        """The file of a database that is in one."""
        assert isinstance(self.place, Path)
        return self.place

    async def open(self) -> None:
        clock = Clock()
        self.writer = Writer(backend(self.place).engine())
        telemetry.LISTENERS.append(self._hear)
        inbox = Inbox(self.writer)
        self.receiver = Receiver(
            inbox, failed_at=lambda: self.writer.failed_at, wake=self._wake, clock=clock
        )
        self.use()
        self._watching = asyncio.create_task(self.receiver.watch_connections())

    async def close(self) -> None:
        self._watching.cancel()
        telemetry.LISTENERS.remove(self._hear)
        await self.writer.close()

    def _hear(self, event: str, _: object) -> None:
        self.commits += event == "transaction.committed"

    def _wake(self) -> None:
        self.woken += 1

    def use(self, **changes: Any) -> None:
        """Receive with this configuration from the next request on. Nothing is late that a busy
        machine may make so, unless it is asked for."""
        text = json.dumps(configuration(**{"request_timeout": "1h"} | changes))
        settings = parse_config(text, self.folder / "premblyd.yaml", SecretPlaces(self.folder, {}))
        if "answer_within" not in changes:  # eight seconds at most, by a file
            settings = settings.model_copy(update={"answer_within_ms": 3_600_000})
        self.receiver.configure(settings, Routing(settings.actions))

    @asynccontextmanager
    async def stopping(self, client: "Client") -> AsyncIterator[None]:
        """Stop while the client's webhook is on its way: that is waited for, and answered."""
        draining = asyncio.create_task(self.receiver.drain(60))
        await asyncio.sleep(0.05)
        assert not draining.done()
        yield
        answer = await client.answer()
        assert (answer.status, answer.headers["Connection"]) == (200, "close")
        await draining

    def digest_of(self, body: bytes) -> str:
        """Return what stands for a body in the record."""
        return Digests(self.writer.digest_key).of_body(hashlib.sha256(body).digest())

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        return rows(self.place, sql)

    async def rejections(self) -> list[tuple[Any, ...]]:
        """Return reason, size and hash of the refused requests, once they are stored."""
        await self.writer.call(lambda _: None)
        return self.rows("SELECT reason, body_bytes, body_digest FROM rejection ORDER BY id")

    @property
    def in_flight(self) -> tuple[int, int]:
        load = self.receiver.services.in_flight
        return len(load.shares), load.held_bytes

    async def until_in_flight(self, requests: int, body_bytes: int) -> None:
        await until(lambda: self.in_flight == (requests, body_bytes))


async def post(
    client: AsyncHTTPClient,
    base_url: str,
    body: bytes = BODY,
    headers: dict[str, str] | HTTPHeaders | None = None,
) -> HTTPResponse:
    headers = signed(body) if headers is None else headers
    return await client.fetch(
        base_url + PATH, method="POST", body=body, headers=headers, raise_error=False
    )


class Client:
    """A raw connection to the receiver."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def to(cls, port: int, own_ip: str = "127.0.0.1") -> "Client":
        return cls(*await asyncio.open_connection("127.0.0.1", port, local_addr=(own_ip, 0)))

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def read(self) -> bytes:
        """Return the bytes of the next answer, its Date left out."""
        found = await self._reader.readuntil(b"\r\n\r\n")
        lines = [line for line in found.split(b"\r\n") if not line.startswith(b"Date: ")]
        length = HTTPHeaders.parse(found.split(b"\r\n", 1)[1].decode()).get("Content-Length", "0")
        return b"\r\n".join(lines) + await self._reader.readexactly(int(length))

    async def answer(self) -> Answer:
        lines, _, body = (await self.read()).partition(b"\r\n\r\n")
        first, _, rest = lines.decode().partition("\r\n")
        return Answer(int(first.split()[1]), HTTPHeaders.parse(rest), body)

    async def ended(self) -> bool:
        """Return whether the server ends the connection, unasked and without a word."""
        return await self._reader.read() == b""

    async def close(self) -> None:
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()

    def end(self) -> None:
        """Send no more."""
        self._writer.write_eof()

    def abort(self) -> None:
        """Go away without a word."""
        self._writer.transport.abort()
