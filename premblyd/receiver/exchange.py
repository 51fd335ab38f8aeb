"""One request and its answer.

The order is the receiver's rule: cheap refusals first (path, method, declared size, address,
presence of the signature, load), then the body, then the signature, and only then is anything
parsed.
"""

import asyncio
import functools
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from tornado.http1connection import HTTP1Connection
from tornado.httputil import (
    HTTPHeaders,
    HTTPMessageDelegate,
    RequestStartLine,
    ResponseStartLine,
)

from premblyd.config import Endpoint
from premblyd.errors import SignatureError, StoreUnavailableError
from premblyd.logs import safe_id
from premblyd.prembly import payload, signature
from premblyd.receiver import answer
from premblyd.receiver.address import client_ip, is_within, peer_ip, sender
from premblyd.receiver.headers import kept_headers
from premblyd.receiver.load import Limit, Share
from premblyd.store.inbox import Added, NewDelivery, NewEvent

if TYPE_CHECKING:
    from premblyd.receiver.receiver import Receiver

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
                return self._answer(405, {"error": "Method not allowed"}, (("Allow", "GET, HEAD"),))
            return None
        endpoint = self._receiver.endpoint(path)
        if endpoint is None:
            return self._answer(404, {"error": "Not found"})
        if start_line.method != "POST":
            return self._answer(405, {"error": "Method not allowed"}, (("Allow", "POST"),))
        return self._admit(endpoint)

    def _admit(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._remote_ip = client_ip(
            peer_ip(self._connection), self._headers, self._config.trusted_proxies
        )
        declared = self._headers.get("Content-Length", "")
        if declared.isdecimal() and int(declared[:20]) > self._config.max_body_bytes:
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
        try:
            self._receive(self._endpoint)
        except Exception as error:
            self._receiver.log.error("webhook.failed", endpoint=self._endpoint.name, exc_info=error)
            self._unavailable()

    def on_connection_close(self) -> None:
        """The client went away while it sent the body: there is no webhook."""
        self._release()

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
            self._connection.close()

    def _receive(self, endpoint: Endpoint) -> None:
        """Verify, recognise, and give to the inbox."""
        body = self._body = bytes(self._body)  # not kept twice
        try:
            verified_by = signature.verify(
                body, self._headers[endpoint.header], endpoint.key_texts, endpoint.scheme
            )
        except SignatureError as error:
            return self._refuse(401, error.reason, body)
        document = payload.parse(body)
        verdict = payload.recognise(document, endpoint.fields)
        actions = self._match(endpoint.name, verified_by, verdict, document)
        event = NewEvent(
            endpoint=endpoint.name,
            received_at_ms=self._receiver.clock.now_ms(),
            remote_ip=self._remote_ip,
            token=self._headers.get(signature.TOKEN_HEADER) or None,
            headers=kept_headers(self._headers, endpoint.header),
            body=body,
            verified_by=verified_by,
            verdict=verdict,
        )
        deliveries = [NewDelivery(one.name, one.retry.attempts) for one in actions]
        committed = self._receiver.inbox.add(event, deliveries)
        committed.add_done_callback(functools.partial(self._committed, event, len(deliveries)))
        return None

    def _committed(self, event: NewEvent, actions: int, committed: "asyncio.Future[Added]") -> None:
        """Answer: only now, because now it is on the disk."""
        try:
            added = committed.result()
        except StoreUnavailableError:
            return self._unavailable()
        # Whatever went wrong, the webhook is not stored: say so, and Prembly may try again.
        except Exception as error:
            self._receiver.log.error("webhook.failed", endpoint=event.endpoint, exc_info=error)
            return self._unavailable()
        self._log_received(event, added, actions)
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
        declared = self._headers.get("Content-Length", "")
        self._receiver.reject(
            endpoint=self._endpoint.name if self._endpoint else "",
            remote_ip=self._remote_ip,
            reason=reason,
            body=body,
            body_bytes=int(declared[:15]) if declared.isdecimal() else len(self._body),
        )
        content = INVALID_SIGNATURE if status == 401 else {"error": "Body too large"}
        self._answer(status, content)

    def _overloaded(self, limit: Limit) -> None:
        self._receiver.log.warning(
            "webhook.overloaded", limit=limit.value, remote_ip=self._remote_ip
        )
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

    def _log_received(self, event: NewEvent, added: Added, actions: int) -> None:
        self._receiver.log.info(
            "webhook.received" if added.is_new else "webhook.duplicate",
            event_id=added.event_id,
            key=added.key,
            endpoint=event.endpoint,
            kind=str(event.verdict.kind),
            response_code=safe_id(event.verdict.response_code),
            outcome=str(event.verdict.outcome),
            reference=safe_id(event.verdict.reference),
            actions=actions,
            body_bytes=len(event.body),
            verified_by=event.verified_by,
            remote_ip=event.remote_ip,
            duration_ms=round((time.monotonic() - self._started) * 1000, 1),
        )
