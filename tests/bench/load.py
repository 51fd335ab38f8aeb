"""Sending webhooks: by wrk as fast as can be, by our own clients so many or so many a second."""

import asyncio
import itertools
import json
import shutil
import subprocess
import tempfile
import time
import uuid
from collections.abc import Coroutine, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.bench import webhooks
from tests.support.webhooks import PATH

SCRIPT = Path(__file__).parent / "signed.lua"
PATIENCE_S = 60.0
MAX_CONNECTIONS = 500
MOST_A_SECOND = 8000  # webhooks that wrk may send: as many bodies are signed before
Address = tuple[str, int]


class LoadError(Exception):
    """The load was not taken as it should be, so what was measured means nothing."""


@dataclass(slots=True)
class Answers:
    """How long the answers took."""

    took_s: list[float] = field(default_factory=list)

    @property
    def p99_ms(self) -> float:
        ordered = sorted(self.took_s)
        return ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)] * 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """How a load by wrk was taken. `rate`: answers a second."""

    answers: int
    rate: float
    p99_ms: float


def wrk(host: str, *, clients: int, seconds: float) -> Taken:
    """Send webhooks from `clients` connections for `seconds`, as fast as they are answered. Raise
    LoadError when one was no success."""
    program = shutil.which("wrk")
    if program is None:
        raise LoadError("wrk is missing: apt-get install wrk")
    options = ["--threads", "1", "--connections", str(clients), "--duration", f"{seconds:.0f}s"]
    options += ["--timeout", "30s", "--script", str(SCRIPT), f"http://{host}{PATH}"]
    with tempfile.NamedTemporaryFile() as pool:
        webhooks.write_pool(Path(pool.name), round(MOST_A_SECOND * (seconds + 1)))
        ended = subprocess.run(
            [program, *options, "--", pool.name, uuid.uuid4().hex[:8]],
            capture_output=True,
            text=True,
            timeout=seconds + PATIENCE_S,
        )
    _, found, summary = ended.stdout.partition("JSON ")
    if not found:
        raise LoadError(f"wrk failed: {ended.stdout}{ended.stderr}")
    result = json.loads(summary)
    if result["errors"] or not result["answers"]:
        raise LoadError(f"wrk counted {result['errors']} errors, {result['answers']} answers")
    return Taken(
        answers=result["answers"],
        rate=result["answers"] / result["seconds"],
        p99_ms=result["p99_ms"],
    )


def at_once(address: Address, requests: Iterable[bytes], *, clients: int) -> Answers:
    """Send `requests` from `clients` connections, each one's next as soon as it has an answer."""
    return _run(_at_once(address, iter(requests), clients))


def steadily(
    address: Address, requests: Iterable[bytes], *, rate: float, seconds: float
) -> Answers:
    """Send `rate` requests a second whether they are answered or not: who is slow gets them on
    ever more connections, and its slowness is measured instead of waited for."""
    return _run(_steadily(address, itertools.islice(requests, int(rate * seconds)), rate))


def _run(sending: Coroutine[Any, Any, Answers]) -> Answers:
    try:
        return asyncio.run(sending)
    except ExceptionGroup as group:  # the first client's failure is enough
        raise group.exceptions[0] from None
    except TimeoutError:
        raise LoadError(f"not all was answered within {PATIENCE_S:g} s") from None


async def _at_once(address: Address, requests: Iterator[bytes], clients: int) -> Answers:
    answers = Answers()

    async def run(connection: Connection) -> None:
        for request in requests:
            await connection.timed(request, answers)
        connection.close()

    connections = [await connect(address) for _ in range(clients)]
    async with asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as group:
        for connection in connections:
            group.create_task(run(connection))
    return answers


async def _steadily(address: Address, requests: Iterator[bytes], rate: float) -> Answers:
    answers = Answers()
    idle: list[Connection] = [await connect(address) for _ in range(16)]
    opened = len(idle)

    async def send(request: bytes) -> None:
        nonlocal opened
        if not idle:
            opened += 1
            if opened > MAX_CONNECTIONS:
                raise LoadError(f"{MAX_CONNECTIONS} requests wait at {rate:g} a second")
        connection = idle.pop() if idle else await connect(address)
        await connection.timed(request, answers)
        idle.append(connection)

    begun = time.perf_counter()
    async with asyncio.timeout(None) as patience, asyncio.TaskGroup() as group:
        for number, request in enumerate(requests):
            due = begun + number / rate
            if (wait_s := due - time.perf_counter()) > 0:
                await asyncio.sleep(wait_s)
            group.create_task(send(request))
        patience.reschedule(asyncio.get_running_loop().time() + PATIENCE_S)
    for connection in idle:
        connection.close()
    return answers


async def connect(address: Address) -> "Connection":
    loop = asyncio.get_running_loop()
    _, connection = await loop.create_connection(Connection, *address)
    return connection


class Connection(asyncio.Protocol):
    """An HTTP/1.1 connection that costs its own process little: one request at a time."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if not isinstance(transport, asyncio.Transport):
            raise TypeError("a stream's transport is expected")
        self._transport = transport
        self._received = b""
        self._answer: asyncio.Future[int] | None = None

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, found, rest = self._received.partition(b"\r\n\r\n")
        length = head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]
        if found and len(rest) >= int(length or 0) and self._answer is not None:
            self._received = b""
            answer, self._answer = self._answer, None
            answer.set_result(int(head[9:12]))

    def connection_lost(self, exc: Exception | None) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(LoadError("the connection was closed without an answer"))

    async def timed(self, request: bytes, answers: Answers) -> None:
        """Send `request`, and add to `answers` how long its answer took."""
        status = await self.send(request, answers.took_s)
        if not 200 <= status < 300:
            raise LoadError(f"answered {status}")

    async def send(self, request: bytes, took_s: list[float]) -> int:
        """Send `request` and return its answer's status."""
        self._answer = asyncio.get_running_loop().create_future()
        sent = time.perf_counter()
        self._transport.write(request)
        status = await self._answer
        took_s.append(time.perf_counter() - sent)
        return status

    def close(self) -> None:
        self._transport.close()
