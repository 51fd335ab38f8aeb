"""The public HTTP server: which requests are taken, and what they are answered.

It speaks Tornado's message protocol instead of RequestHandler: a request is judged before its
body is read, the body is counted as it comes, and the one hot path costs half.
"""

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from typing import Any

from tornado.http1connection import HTTP1Connection
from tornado.httputil import (
    HTTPConnection,
    HTTPMessageDelegate,
    HTTPServerConnectionDelegate,
)

from premblyd.clock import Clock
from premblyd.config import HEALTH_PATH, Action, Config, Endpoint
from premblyd.logs import get_logger
from premblyd.prembly.payload import Verdict
from premblyd.receiver.exchange import Exchange
from premblyd.receiver.health import Health
from premblyd.store.inbox import Inbox, NewRejection

Match = Callable[[str, Verdict, dict[str, Any] | None], Sequence[Action]]
MAX_WAITING_EVIDENCE = 1000  # rejections not yet stored; more are only logged
log = get_logger()


class Receiver(HTTPServerConnectionDelegate):
    """Takes webhooks for the configured endpoints. What is in flight is bounded."""

    def __init__(
        self, inbox: Inbox, *, health: Health, wake: Callable[[], None], clock: Clock
    ) -> None:
        self.inbox = inbox
        self.health = health
        self.wake = wake
        self.clock = clock
        self.requests_in_flight = 0
        self.bytes_in_flight = 0
        self.closing = False
        self.tasks: set[asyncio.Task[None]] = set()
        self._waiting_evidence = 0

    def configure(self, config: Config, match: Match) -> None:
        """Use this configuration for every request that begins from now on."""
        self.config = config
        self.match = match
        self._endpoints = {endpoint.path: endpoint for endpoint in config.endpoints}

    def start_request(
        self, server_conn: object, request_conn: HTTPConnection
    ) -> HTTPMessageDelegate:
        if not isinstance(request_conn, HTTP1Connection):
            raise TypeError("only HTTP/1 is spoken")
        return Exchange(self, request_conn)

    def endpoint(self, path: str) -> Endpoint | None:
        return self._endpoints.get(path)

    def is_health(self, path: str) -> bool:
        return path == HEALTH_PATH

    def reject(
        self,
        *,
        endpoint: str,
        remote_ip: str,
        reason: str,
        body: bytes | None,
        body_bytes: int | None,
    ) -> None:
        """Log a refused request and keep it as evidence, without waiting for the disk."""
        log.warning(
            "webhook.rejected",
            endpoint=endpoint,
            remote_ip=remote_ip,
            reason=reason,
            body_bytes=body_bytes,
        )
        if self._waiting_evidence >= MAX_WAITING_EVIDENCE:
            return
        self._waiting_evidence += 1
        kept = self.inbox.reject(
            NewRejection(
                at_ms=self.clock.now_ms(),
                endpoint=endpoint,
                remote_ip=remote_ip,
                reason=reason,
                body_bytes=body_bytes,
                body_sha256=None if body is None else hashlib.sha256(body).hexdigest(),
            )
        )
        kept.add_done_callback(self._evidence_kept)

    def _evidence_kept(self, kept: "asyncio.Future[None]") -> None:
        self._waiting_evidence -= 1
        kept.exception()  # the writer has logged it

    async def drain(self, timeout_s: float) -> None:
        """Wait until nothing is in flight, at most `timeout_s`. Answers ask to close."""
        self.closing = True
        deadline = asyncio.get_running_loop().time() + timeout_s
        while self.requests_in_flight and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(0.01)
