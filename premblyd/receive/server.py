"""The public HTTP server: it makes an `Exchange` of each request, and bounds its connections."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

from tornado.http1connection import HTTP1Connection
from tornado.httpserver import HTTPServer
from tornado.httputil import HTTPConnection, HTTPMessageDelegate, HTTPServerConnectionDelegate
from tornado.iostream import IOStream

from premblyd.config.models import Config
from premblyd.config.routing import Routing
from premblyd.ground.times import Clock
from premblyd.queue.inbox import Inbox
from premblyd.receive.connection import Stream
from premblyd.receive.evidence import Evidence
from premblyd.receive.exchange import WATCH_EVERY_S, Exchange, Services, Settings
from premblyd.receive.inflight import InFlight, Limit, make_room, max_connections
from premblyd.receive.recognition import Recogniser

MAX_HEADER_BYTES = 32 << 10
NO_LIMIT_BYTES = 1 << 62
FRESH_S = 1.0  # how long a result counts, so that asking often costs one commit a second
PATIENCE_S = 2.0  # how long a commit may take: another program may lock the database meanwhile


class Health:
    """Answers by a real commit of what a webhook needs, at most one a second.

    `failed_at` is when a commit failed last, on the monotonic clock: on a full disk a small one
    may still find room where those of webhooks do not.
    """

    def __init__(self, inbox: Inbox, failed_at: Callable[[], float]) -> None:
        self._inbox = inbox
        self._failed_at = failed_at
        self._checked_at = float("-inf")
        self._check: asyncio.Task[bool] | None = None  # the last one

    def check(self) -> asyncio.Future[bool]:
        """Return whether webhooks can be stored. All who ask within FRESH_S share one commit."""
        is_fresh = time.monotonic() - self._checked_at < FRESH_S
        if self._check is None or (self._check.done() and not is_fresh):
            self._check = asyncio.create_task(self._commit())
        return self._check

    async def _commit(self) -> bool:
        try:
            async with asyncio.timeout(PATIENCE_S):
                await self._inbox.prove_commit()
            return time.monotonic() - self._failed_at() > FRESH_S
        except Exception:  # noqa: BLE001  # whatever it is, it is no health; the writer logs it
            return False
        finally:
            self._checked_at = time.monotonic()


class Receiver(HTTPServerConnectionDelegate):
    """Accepts webhooks for the configured endpoints, within limits."""

    def __init__(
        self,
        inbox: Inbox,
        *,
        failed_at: Callable[[], float],
        wake: Callable[[], None],
        clock: Clock,
    ) -> None:
        """Receive into `inbox`, of which a commit failed last at `failed_at`; `wake` the dispatcher
        for what came."""
        self.services = Services(
            inbox=inbox,
            check_health=Health(inbox, failed_at).check,
            clock=clock,
            in_flight=InFlight(),
            evidence=Evidence(inbox, clock),
            recogniser=Recogniser(),
            wake=wake,
        )
        self._exchanges: dict[object, Exchange] = {}  # the latest one of each open connection

    def configure(self, config: Config, routing: Routing) -> None:
        """Use this configuration, and the `routing` of its actions, for every request that begins
        from now on."""
        self.services.settings = Settings(
            config=config,
            endpoints={endpoint.path: endpoint for endpoint in config.endpoints},
            routing=routing,
        )
        self.services.evidence.configure(config.endpoints)
        self.services.in_flight.configure(config.max_in_flight_requests, config.max_in_flight_bytes)
        self._max_connections = max_connections(config.max_in_flight_requests)

    def start_request(
        self, server_conn: object, request_conn: HTTPConnection
    ) -> HTTPMessageDelegate:
        """Make the exchange for a connection's next request. Tornado calls this when a connection
        is accepted, and again after each answer."""
        if not isinstance(request_conn, HTTP1Connection):
            raise TypeError("only HTTP/1 is spoken")
        is_first = server_conn not in self._exchanges
        if is_first and len(self._exchanges) >= self._max_connections:
            self._make_room_for_connection()
        exchange = Exchange(self.services, request_conn, is_first=is_first)
        self._exchanges[server_conn] = exchange
        if len(self._exchanges) > self._max_connections:
            request_conn.close()
        return exchange

    def on_close(self, server_conn: object) -> None:
        """A connection has ended."""
        if exchange := self._exchanges.pop(server_conn, None):
            exchange.connection_ended()

    @property
    def connections(self) -> int:
        """How many are open."""
        return len(self._exchanges)

    def _make_room_for_connection(self) -> None:
        """Close connections, chosen by `make_room`, so that a new one has a place."""
        exchanges = self._exchanges.values()
        shares = [share for exchange in exchanges if (share := exchange.connection_share())]
        make_room(shares, Limit.CONNECTIONS, 1, spare=self._max_connections // 16)
        for connection, exchange in list(self._exchanges.items()):
            if exchange.is_closed:
                del self._exchanges[connection]

    async def watch_connections(self) -> None:
        """Close connections that are idle or slow for too long, answer what waits for too long, and
        report which lines were left out of the log. Runs as long as the daemon.

        All at once: a timer for each request costs ten times as much."""
        while True:
            await asyncio.sleep(WATCH_EVERY_S)
            now = time.monotonic()
            for exchange in list(self._exchanges.values()):
                exchange.end_if_late(now)
            self.services.evidence.tell_omitted(now)

    def close(self) -> None:
        """End the recogniser's thread. Nothing is in flight any more."""
        self.services.recogniser.close()

    def ask_to_close(self) -> None:
        """Have every answer from now on ask its client to close the connection."""
        self.services.is_stopping = True

    async def drain(self, timeout_s: float) -> None:
        """Wait until nothing is in flight, at most `timeout_s`."""
        self.ask_to_close()
        began = time.monotonic()
        while True:
            # Sleep before the first look: Tornado hands a connection that it has just accepted
            # to `start_request` in the loop's next round.
            await asyncio.sleep(0.01)
            now = time.monotonic()
            is_idle = not self.services.in_flight.shares and not any(
                exchange.is_expected(now) for exchange in self._exchanges.values()
            )
            if is_idle or now - began > timeout_s:
                return


class _Server(HTTPServer):
    """Gives each connection our stream, and passes on to the receiver what Tornado reports to the
    server alone: that a connection has ended."""

    def handle_stream(self, stream: IOStream, address: Any) -> None:
        super().handle_stream(Stream(stream.socket), address)

    def on_close(self, server_conn: object) -> None:
        super().on_close(server_conn)
        assert isinstance(self.request_callback, Receiver)  # noqa: S101
        self.request_callback.on_close(server_conn)


def make_server(receiver: Receiver) -> HTTPServer:
    """Return the HTTP server for `receiver`: bodies and times are bounded there, not here."""
    server = _Server(
        receiver,
        max_header_size=MAX_HEADER_BYTES,
        max_body_size=NO_LIMIT_BYTES,  # Tornado would answer 400; the receiver answers 413
    )
    server.conn_params.header_timeout = None  # see Receiver.watch_connections
    return server
