"""One request and its answer.

The order is the receiver's rule: cheap refusals first (path, method, declared size, address,
presence of the signature, load), then the body, then the signature, and only then is anything
parsed.
"""

import asyncio
import functools
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from tornado.http1connection import HTTP1Connection
from tornado.httputil import (
    HTTPHeaders,
    HTTPMessageDelegate,
    RequestStartLine,
    ResponseStartLine,
)

from premblyd.config.models import Endpoint
from premblyd.errors import SignatureError, StoreUnavailableError
from premblyd.expressions import MustBeMovedError
from premblyd.prembly import signature
from premblyd.prembly.webhook import Webhook
from premblyd.receiver import answer
from premblyd.receiver.address import client_ip, is_within, peer_ip, sender
from premblyd.receiver.headers import declared_bytes
from premblyd.receiver.load import Limit, Share
from premblyd.receiver.recognition import Incoming, Recognised
from premblyd.receiver.stream import Stream
from premblyd.store.inbox import Added, NewDelivery, Stray

if TYPE_CHECKING:
    from premblyd.receiver.server import Receiver

# Longer than the 60 s for which proxies keep a connection: they, not we, end an idle one.
IDLE_CONNECTION_S = 75
UNREAD_ANSWER_S = 10  # an answer is 200 bytes: only who does not read at all needs so long
LINGER_S = 1.0  # how long a refused client may go on sending, so that it gets to read the answer
RETRY_AFTER_S = 5
INVALID_SIGNATURE = {"error": "Invalid signature"}


class Exchange(HTTPMessageDelegate):
    """A request in progress."""

    def __init__(
        self, receiver: "Receiver", connection: HTTP1Connection, *, is_first: bool
    ) -> None:
        self._receiver = receiver
        self._connection = connection
        self._is_first = is_first  # of its connection
        self._begun = False  # the head has come
        self._body: bytes | bytearray = b""  # mutable from its second piece on
        self._endpoint: Endpoint | None = None
        self._share: Share | None = None  # the head was good: the client may send the body
        self._answered = False
        self._complete = False  # the whole body was read
        self._timed_out = False
        self._waiting_since = time.monotonic()
        self._deadline = self._waiting_since + IDLE_CONNECTION_S

    def headers_received(
        self, start_line: RequestStartLine | ResponseStartLine, headers: HTTPHeaders
    ) -> None:
        """Judge the request by its head. What is refused here is never read whole."""
        if not isinstance(start_line, RequestStartLine):
            raise TypeError("a server receives requests")
        # Now and not earlier: a connection that was kept may have waited through a reload.
        self._config = self._receiver.config
        self._match = self._receiver.match
        self._started = time.monotonic()
        self._deadline = self._started + self._config.request_timeout_ms / 1000
        self._begun = True
        self._headers = headers
        self._start_line = start_line
        path = start_line.path.partition("?")[0]
        if self._receiver.is_health(path):
            if start_line.method not in ("GET", "HEAD"):
                return self._wrong_method("GET, HEAD")
            return None
        endpoint = self._receiver.endpoint(path)
        if endpoint is None:
            self._receiver.evidence.no_such_path(path, start_line.method, self._client_ip())
            return self._answer(404, {"error": "Not found"})
        if start_line.method != "POST":
            return self._wrong_method("POST", endpoint.name)
        return self._admit(endpoint)

    def _admit(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._remote_ip = self._client_ip()
        if (declared_bytes(self._headers) or 0) > self._config.max_body_bytes:
            return self._refuse(413, "body too large")
        if endpoint.allow_ips and not is_within(self._remote_ip, endpoint.allow_ips):
            return self._refuse(401, "address not allowed")
        if not self._headers.get(endpoint.header):
            return self._refuse(401, "missing signature")
        if endpoint.require_token and not self._headers.get(signature.TOKEN_HEADER):
            return self._refuse(401, "missing token")
        share = Share(sender(self._remote_ip), self._overloaded, self._started)
        if not self._receiver.load.enter(share):
            return self._overloaded(Limit.REQUESTS)
        self._share = share
        return None

    def data_received(self, chunk: bytes) -> None:
        """Keep a piece of the body, within the bounds."""
        if self._answered or self._share is None:
            return None  # read and forgotten while the client reads its answer
        if len(self._body) + len(chunk) > self._config.max_body_bytes:
            return self._refuse(413, "body too large")
        if not self._receiver.load.receive(self._share, len(chunk)):
            return None if self._answered else self._overloaded(Limit.BYTES)
        if not self._body:
            self._body = chunk
        else:
            if isinstance(self._body, bytes):
                self._body = bytearray(self._body)
            self._body += chunk
        return None

    def finish(self) -> None:
        """The body is complete: receive the webhook."""
        self._complete = True
        if self._answered:
            self._connection.finish()
            return
        if self._endpoint is None or self._share is None:
            self._receiver.spawn(self._report_health())
            return
        self._receiver.load.complete(self._share)
        self._receive(self._endpoint)

    def on_connection_close(self) -> None:
        """The client went away while it sent the body: there is no webhook."""
        self._release()

    def connection_ended(self) -> None:
        """Keep as evidence why there is no webhook, if there might have been one."""
        stream = self._connection.stream
        if self._answered or not isinstance(stream, Stream):
            return
        incoming = self._share is not None and not self._complete
        reason = stream.fault
        if incoming and reason is None:
            reason = Stray.TOO_SLOW if self._timed_out else Stray.CUT_SHORT
        if reason is not None and not self._receiver.closing:
            self._receiver.evidence.stray(
                reason,
                remote_ip=self._client_ip() if self._begun else peer_ip(self._connection),
                endpoint=self._endpoint.name if self._endpoint else "",
                body_bytes=declared_bytes(self._headers) if self._begun else None,
            )

    def is_expected(self) -> bool:
        """Return whether the client has connected and not yet sent its first request."""
        return self._is_first and not self._begun and not self._connection.stream.closed()

    def connection_share(self) -> Share | None:
        """Return what the connection holds; None while its webhook is stored."""
        if self._complete and not self._answered:
            return None
        since = self._share.since if self._share else self._waiting_since
        return Share(sender(peer_ip(self._connection)), self._close_for_others, since)

    @property
    def closed(self) -> bool:
        return self._connection.stream.closed()

    def time_out(self, now: float) -> None:
        """Close the connection when the request did not come in time, or its answer was not read.
        A complete webhook is waited for, however long the disk takes."""
        if now > self._deadline and not (self._complete and not self._answered):
            self._timed_out = True
            self._connection.close()

    def _client_ip(self) -> str:
        return client_ip(peer_ip(self._connection), self._headers, self._config.trusted_proxies)

    def _wrong_method(self, allowed: str, endpoint: str = "") -> None:
        self._receiver.evidence.wrong_method(
            self._start_line.method, allowed, endpoint, self._client_ip()
        )
        self._answer(405, {"error": "Method not allowed"}, (("Allow", allowed),))

    def _receive(self, endpoint: Endpoint) -> None:
        body = self._body = bytes(self._body)  # not kept twice
        incoming = Incoming(
            endpoint=endpoint,
            received_at_ms=self._receiver.clock.now_ms(),
            remote_ip=self._remote_ip,
            headers=self._headers,
            body=body,
        )
        take = functools.partial(self._take, endpoint)
        self._receiver.recogniser.recognise(take, incoming, self._match)

    def _take(self, endpoint: Endpoint, recognised: Callable[[], Recognised]) -> None:
        """Store what was recognised, or refuse it. Raise MustBeMovedError as that does."""
        try:
            self._store(recognised())
        except SignatureError as error:
            self._refuse(401, error.reason, bytes(self._body))
        except MustBeMovedError:
            raise
        except Exception as error:  # it is not stored: Prembly may try again
            self._receiver.log.error("webhook.failed", endpoint=endpoint.name, exc_info=error)
            self._unavailable()

    def _store(self, recognised: Recognised) -> None:
        """Give a webhook to the inbox."""
        webhook = recognised.webhook
        deliveries = [
            NewDelivery(action.name, action.retry.attempts) for action in recognised.actions
        ]
        committed = self._receiver.inbox.add(webhook, deliveries)
        committed.add_done_callback(functools.partial(self._committed, webhook, len(deliveries)))

    def _committed(
        self, webhook: Webhook, actions: int, committed: "asyncio.Future[Added]"
    ) -> None:
        """Answer: only now, because now it is on the disk."""
        try:
            added = committed.result()
        except StoreUnavailableError:
            return self._unavailable()
        # Whatever went wrong, the webhook is not stored: say so, and Prembly may try again.
        except Exception as error:
            self._receiver.log.error("webhook.failed", endpoint=webhook.endpoint, exc_info=error)
            return self._unavailable()
        self._receiver.evidence.received(webhook, added, actions, self._started)
        duplicate = not added.is_new
        self._answer(200, {"status": "received", "event": added.event_id, "duplicate": duplicate})
        if added.is_new and actions:
            self._receiver.wake()
        return None

    async def _report_health(self) -> None:
        if await self._receiver.health.check():
            self._answer(200, {"status": "ok"})
        else:
            self._unavailable()

    def _refuse(self, status: int, reason: str, body: bytes | None = None) -> None:
        """Refuse with evidence. From outside every 401 is one and the same."""
        declared = declared_bytes(self._headers)
        self._receiver.evidence.reject(
            endpoint=self._endpoint.name if self._endpoint else "",
            remote_ip=self._remote_ip,
            reason=reason,
            body=body,
            body_bytes=len(self._body) if declared is None else declared,
        )
        content = INVALID_SIGNATURE if status == 401 else {"error": "Body too large"}
        self._answer(status, content)

    def _overloaded(self, limit: Limit) -> None:
        self._receiver.evidence.overloaded(limit.value, self._remote_ip)
        self._unavailable()

    def _close_for_others(self, limit: Limit) -> None:
        if self._share and not self._answered:
            self._overloaded(limit)
        self._connection.close()

    def _unavailable(self) -> None:
        self._answer(
            503, {"error": "Temporarily unavailable"}, (("Retry-After", str(RETRY_AFTER_S)),)
        )

    def _answer(self, status: int, content: Mapping[str, object], extra: answer.Extra = ()) -> None:
        self._answered = True
        self._deadline = time.monotonic() + UNREAD_ANSWER_S
        self._release()
        connection = answer.connection_header(self._start_line, self._headers)
        if self._receiver.closing:
            connection = "close"
        is_head = self._start_line.method == "HEAD"
        self._connection.write(
            answer.render(status, content, extra=extra, connection=connection, is_head=is_head)
        )
        awaits_leave = "Expect" in self._headers and self._share is None
        if self._complete or awaits_leave:
            self._connection.finish()
        else:
            # Closing with unread input resets the connection, and the answer may be lost.
            asyncio.get_running_loop().call_later(LINGER_S, self._end)

    def _end(self) -> None:
        """Close, although the client still sends."""
        if not self._complete:
            self._connection.finish()

    def _release(self) -> None:
        """Give back this request's share of the bounds."""
        if self._share:
            self._receiver.load.leave(self._share)
        self._body = b""
