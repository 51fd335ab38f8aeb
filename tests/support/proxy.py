"""What stands between two ends of a connection: a proxy over several daemons, as operators have it,
and a network cable that can be cut."""

import asyncio
import contextlib
import itertools
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Self

from tests.support.requests import Answer, request
from tests.support.webhooks import PATH, signed

CONNECT_S = 0.5
SILENT_S = 1.5  # a daemon that says nothing for so long is stopped


class _Between:
    """Takes connections on a port of its own, on a loop in a thread of its own."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self.address = ""

    def __enter__(self) -> Self:
        self._thread.start()
        listening = asyncio.start_server(self._pass_on, "127.0.0.1", 0)
        self._server = asyncio.run_coroutine_threadsafe(listening, self._loop).result()
        host, port = self._server.sockets[0].getsockname()
        self.address = f"{host}:{port}"
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        raise NotImplementedError

    async def _close(self) -> None:
        self._server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)


class Proxy(_Between):
    """Passes each connection on to the next of `addresses` that takes it."""

    def __init__(self, addresses: Sequence[str]) -> None:
        super().__init__()
        self._addresses = [address.split(":") for address in addresses]
        self._turns = itertools.count()

    def send(self, body: bytes, **more: str) -> Answer:
        """Send a signed webhook. Raise OSError or HTTPException when no answer comes."""
        return request(self.address, "POST", PATH, body, signed(body, **more))

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer):
            first = next(self._turns)
            for number in range(len(self._addresses)):
                host, port = self._addresses[(first + number) % len(self._addresses)]
                try:
                    async with asyncio.timeout(CONNECT_S):
                        to = await asyncio.open_connection(host, int(port))
                except OSError:  # it does not run; TimeoutError is one
                    continue
                with contextlib.closing(to[1]), contextlib.suppress(asyncio.CancelledError):
                    await asyncio.gather(_copy(reader, to[1]), _copy(to[0], writer))
                return


class Cable(_Between):
    """Leads to a unix socket, until it is cut: then nothing passes, or no answer, and nobody is
    told."""

    def __init__(self, to: Path) -> None:
        super().__init__()
        self._to = to
        self._there = threading.Event()
        self._back = threading.Event()
        self._until: list[bytes] = []
        self.mend()

    def cut(self) -> None:
        self._there.clear()
        self._back.clear()

    def hold_answers(self, *after: bytes) -> None:
        """Let no answer pass once these have gone the other way, one after the other."""
        self._until = list(after)

    def mend(self) -> None:
        self._there.set()
        self._back.set()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer), contextlib.suppress(asyncio.CancelledError):
            await _until(self._there)
            to = await asyncio.open_unix_connection(self._to)
            with contextlib.closing(to[1]):
                await asyncio.gather(
                    _lead(reader, to[1], self._there, self._see), _lead(to[0], writer, self._back)
                )

    def _see(self, data: bytes) -> None:
        while self._until and self._until[0] in data:  # several may go at once
            data = data.partition(self._until.pop(0))[2]
            if not self._until:
                self._back.clear()


async def _lead(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    whole: threading.Event,
    see: Callable[[bytes], None] = lambda _: None,
) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(1 << 16):
            await _until(whole)
            see(data)
            writer.write(data)
            await writer.drain()
        await _until(whole)
        writer.close()


async def _until(whole: threading.Event) -> None:
    while not whole.is_set():
        await asyncio.sleep(0.05)


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Copy until one of both ends, or nothing comes any more."""
    with contextlib.suppress(OSError):
        while True:
            async with asyncio.timeout(SILENT_S):
                data = await reader.read(1 << 16)
            if not data:
                break
            writer.write(data)
            await writer.drain()
        writer.close()
