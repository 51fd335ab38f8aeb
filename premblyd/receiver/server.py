"""The public HTTP server: which requests are taken, and what they are answered.

It speaks Tornado's message protocol instead of RequestHandler: a request is judged before its
body is read, the body is counted as it comes, and the one hot path costs half.
"""

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any

from tornado.http1connection import HTTP1Connection
from tornado.httpserver import HTTPServer
from tornado.httputil import (
    HTTPConnection,
    HTTPMessageDelegate,
    HTTPServerConnectionDelegate,
)
from tornado.iostream import IOStream

from premblyd.clock import Clock
from premblyd.config.models import HEALTH_PATH, Config, Endpoint
from premblyd.logs import get_logger
from premblyd.receiver.evidence import Evidence
from premblyd.receiver.exchange import Exchange
from premblyd.receiver.health import Health
from premblyd.receiver.load import Limit, Load, make_room, max_connections
from premblyd.receiver.recognition import Match, Recogniser
from premblyd.receiver.stream import Stream
from premblyd.store.inbox import Inbox

MAX_HEADER_BYTES = 32 << 10
UNBOUNDED = 1 << 62
SILENT_S = 1.0  # how long a stop waits for the first request of a connection just accepted


class Receiver(HTTPServerConnectionDelegate):
    """Takes webhooks for the configured endpoints. What is in flight is bounded."""

    def __init__(
        self, inbox: Inbox, *, health: Health, wake: Callable[[], None], clock: Clock
    ) -> None:
        self.inbox = inbox
        self.health = health
        self.wake = wake
        self.clock = clock
        self.load = Load()
        self.evidence = Evidence(inbox, clock)
        self.closing = False
        self._connections: dict[object, Exchange] = {}  # each with its latest exchange
        self._tasks: set[asyncio.Task[None]] = set()
        self.recogniser = Recogniser()

    def configure(self, config: Config, match: Match) -> None:
        """Use this configuration for every request that begins from now on."""
        self.config = config
        self.log = get_logger().bind()  # bound once: a lazy logger costs 15 µs a line
        self.match = match
        self._endpoints = {endpoint.path: endpoint for endpoint in config.endpoints}
        self.evidence.configure(config.endpoints)
        self.load.configure(config.max_in_flight_requests, config.max_in_flight_bytes)
        self._max_connections = max_connections(config.max_in_flight_requests)

    def start_request(
        self, server_conn: object, request_conn: HTTPConnection
    ) -> HTTPMessageDelegate:
        if not isinstance(request_conn, HTTP1Connection):
            raise TypeError("only HTTP/1 is spoken")
        is_first = server_conn not in self._connections
        if is_first and len(self._connections) >= self._max_connections:
            self._close_idle_connections()
        exchange = Exchange(self, request_conn, is_first=is_first)
        self._connections[server_conn] = exchange
        if len(self._connections) > self._max_connections:
            request_conn.close()
        return exchange

    @property
    def connections(self) -> int:
        """How many are open."""
        return len(self._connections)

    def on_close(self, server_conn: object) -> None:
        if exchange := self._connections.pop(server_conn, None):
            exchange.connection_ended()

    def _close_idle_connections(self) -> None:
        exchanges = self._connections.values()
        shares = [share for one in exchanges if (share := one.connection_share())]
        make_room(shares, Limit.CONNECTIONS, 1, spare=self._max_connections // 16)
        for connection in [one for one, exchange in self._connections.items() if exchange.closed]:
            del self._connections[connection]

    async def time_out(self) -> None:
        """Close connections that are idle or slow for too long. Runs as long as the daemon: one
        look a second at all costs a tenth of Tornado's timer for each request."""
        while True:
            await asyncio.sleep(1)
            now = time.monotonic()
            for exchange in list(self._connections.values()):
                exchange.time_out(now)
            self.evidence.tell_omitted(now)

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run `work` beside the loop, and keep it alive until it ends."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def endpoint(self, path: str) -> Endpoint | None:
        return self._endpoints.get(path)

    def is_health(self, path: str) -> bool:
        return path == HEALTH_PATH

    async def drain(self, timeout_s: float) -> None:
        """Wait until nothing is in flight, at most `timeout_s`. Answers ask to close."""
        self.closing = True
        began = time.monotonic()
        while True:
            # Once at least: what was accepted last has not come to `start_request` yet.
            await asyncio.sleep(0.01)
            waited_s = time.monotonic() - began
            # Whoever has just connected has sent a request, or is about to.
            silent = waited_s < SILENT_S and any(
                exchange.is_expected() for exchange in self._connections.values()
            )
            if waited_s > timeout_s or not (self.load.requests or silent):
                return


class _Server(HTTPServer):
    """Gives each connection our stream, and tells the receiver what Tornado tells the server
    alone: that a connection has ended."""

    def handle_stream(self, stream: IOStream, address: Any) -> None:
        super().handle_stream(Stream(stream.socket), address)

    def on_close(self, server_conn: object) -> None:
        super().on_close(server_conn)
        assert isinstance(self.request_callback, HTTPServerConnectionDelegate)  # noqa: S101
        self.request_callback.on_close(server_conn)


def make_server(receiver: Receiver) -> HTTPServer:
    """Return the HTTP server for `receiver`: bodies and times are bounded there, not here."""
    server = _Server(
        receiver,
        max_header_size=MAX_HEADER_BYTES,
        max_body_size=UNBOUNDED,  # Tornado would answer 400; the receiver answers 413
    )
    server.conn_params.header_timeout = None  # see Receiver.time_out
    return server
