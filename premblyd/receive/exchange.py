"""One request and its answer. The methods stand in the order of a webhook's walk:

1. `headers_received` judges it by its head: cheap refusals first (path, method, declared size,
   address, presence of the signature, load).
2. `data_received` reads the body, within the bounds.
3. `finish` has it verified and recognised; nothing is parsed before its signature is verified.
4. `_store` gives the webhook to the inbox.
5. `_stored` answers 200: not earlier, because only now it is on the disk.

Tornado calls the first three: this is its message protocol, one level below RequestHandler. It
allows to refuse a request before its body is read and to count the body as it comes, and it is
quick: with a streamed RequestHandler, 0.64 to 0.77 of the webhooks a second were received.
"""

import asyncio
import enum
import functools
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import cast

from tornado.http1connection import HTTP1Connection
from tornado.httputil import HTTPHeaders, HTTPMessageDelegate, RequestStartLine, ResponseStartLine

from premblyd.config.models import HEALTH_PATH, Config, Endpoint
from premblyd.config.routing import Routing
from premblyd.ground.errors import (
    SignatureError,
    StoreUnavailableError,
    ValueRefusedError,
    without_frames,
)
from premblyd.ground.privacy import digest_of, safe_code, safe_id, safe_type
from premblyd.ground.telemetry import tell
from premblyd.ground.times import Clock
from premblyd.prembly import signature
from premblyd.prembly.payload import Kind, Webhook
from premblyd.queue.inbox import Added, Inbox, NewDelivery
from premblyd.queue.rejections import ConnectionFault
from premblyd.receive.connection import (
    Extra,
    Stream,
    client_ip,
    connection_header,
    is_within,
    peer_ip,
    render,
    sender,
)
from premblyd.receive.evidence import Evidence
from premblyd.receive.inflight import InFlight, Limit, Share
from premblyd.receive.recognition import Incoming, Recognised, Recogniser, as_bytes

# Longer than the 60 s for which proxies keep a connection: they, not we, end an idle one.
IDLE_CONNECTION_S = 75
UNREAD_ANSWER_S = 10  # an answer is 200 bytes: only a client that reads nothing needs so long
WATCH_EVERY_S = 0.25  # so often `end_if_late` is called for every exchange
FIRST_REQUEST_S = 2.0  # how long a stop waits for a new connection's first request
LINGER_S = 1.0  # how long a refused client may go on sending, so that it gets to read the answer
RETRY_AFTER_S = 5
INVALID_SIGNATURE = {"error": "Invalid signature"}


class Phase(enum.StrEnum):
    """Where an exchange is."""

    WAITING = enum.auto()  # for the whole head
    READING = enum.auto()  # a webhook's head was good, and its body comes in
    HEALTH = enum.auto()  # the head asks for the health, and a body is not kept
    WORKING = enum.auto()  # the request has come whole, and its answer is not there yet
    REFUSED = enum.auto()  # answered before the request came whole; the rest is not kept
    ANSWERED = enum.auto()  # over: Tornado may read the connection's next request


_NEXT_PHASES: Mapping[Phase, frozenset[Phase]] = {
    # ANSWERED at once: a client that asked (Expect) before it sent its body now won't send it.
    Phase.WAITING: frozenset({Phase.READING, Phase.HEALTH, Phase.REFUSED, Phase.ANSWERED}),
    Phase.READING: frozenset({Phase.WORKING, Phase.REFUSED}),
    Phase.HEALTH: frozenset({Phase.WORKING}),
    Phase.WORKING: frozenset({Phase.ANSWERED}),
    Phase.REFUSED: frozenset({Phase.ANSWERED}),
    Phase.ANSWERED: frozenset(),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The configuration as exchanges use it. A reload makes another one, and an exchange keeps
    the one that it began with."""

    config: Config
    endpoints: Mapping[str, Endpoint]  # by path
    routing: Routing
    deliveries: dict[str, NewDelivery] = field(default_factory=dict)  # by action, once it had one


@dataclass(slots=True, kw_only=True)
class Services:
    """The receiver's parts, as it gives them to each exchange."""

    inbox: Inbox
    check_health: Callable[[], asyncio.Future[bool]]  # whether a webhook can be stored
    clock: Clock
    in_flight: InFlight
    evidence: Evidence
    recogniser: Recogniser
    wake: Callable[[], None]  # tells the dispatcher that there are deliveries
    settings: Settings = field(init=False)
    is_stopping: bool = False  # every answer asks its client to close the connection


class Exchange(HTTPMessageDelegate):
    """A request in progress."""

    # From the head on:
    _start_line: RequestStartLine
    _headers: HTTPHeaders
    _remote_ip: str
    # While it is read:
    _endpoint: Endpoint | None = None  # stays None when the path is no endpoint's
    _share: Share | None = None  # what it holds of the bounds
    # While it is stored:
    _storing: "asyncio.Future[Added] | None" = None
    _is_late = False  # answered 503 before it was known whether it is stored

    def __init__(self, services: Services, connection: HTTP1Connection, *, is_first: bool) -> None:
        """Wait for a request on `connection`: the first that it brings, or a later one."""
        self._services = services
        self._connection = connection
        self._stream = cast(Stream, connection.stream)  # the server makes no other
        self._is_first = is_first
        self._phase = Phase.WAITING
        self._body: bytes | bytearray = b""  # a bytearray once a second piece has come
        self._since = time.monotonic()  # how old the connection is in `connection_share`
        self._deadline = self._since + IDLE_CONNECTION_S

    def headers_received(
        self, start_line: RequestStartLine | ResponseStartLine, headers: HTTPHeaders
    ) -> None:
        """Judge the request by its head. What is refused here is never read whole."""
        if not isinstance(start_line, RequestStartLine):
            raise TypeError("a server receives requests")
        # Taken with the head and not in __init__: a connection may stay open over a reload.
        self._settings = self._services.settings
        config = self._settings.config
        self._started = time.monotonic()
        self._deadline = self._started + config.request_timeout_ms / 1000
        self._start_line = start_line
        self._headers = headers
        self._remote_ip = client_ip(peer_ip(self._connection), headers, config.trusted_proxies)
        path = start_line.path.partition("?")[0]
        if path == HEALTH_PATH:
            if start_line.method not in ("GET", "HEAD"):
                return self._refuse_method("GET, HEAD")
            return self._enter(Phase.HEALTH)
        endpoint = self._endpoint = self._settings.endpoints.get(path)
        if endpoint is None:
            self._services.evidence.no_such_path(path, start_line.method, self._remote_ip)
            return self._answer(404, {"error": "Not found"})
        if start_line.method != "POST":
            return self._refuse_method("POST", endpoint.name)
        return self._judge_webhook(endpoint)

    def _judge_webhook(self, endpoint: Endpoint) -> None:
        """Refuse a webhook by its head, or begin to read it."""
        if (_declared_bytes(self._headers) or 0) > self._settings.config.max_body_bytes:
            return self._refuse(413, "body too large")
        if endpoint.allow_ips and not is_within(self._remote_ip, endpoint.allow_ips):
            return self._refuse(401, "address not allowed")
        if not any(self._headers.get(form.header) for form in endpoint.forms):
            return self._refuse(401, "missing signature")
        if endpoint.require_token and not self._headers.get(signature.TOKEN_HEADER):
            return self._refuse(401, "missing token")
        share = Share(sender(self._remote_ip), self._refuse_overloaded, self._started)
        if not self._services.in_flight.enter(share):
            return self._refuse_overloaded(Limit.REQUESTS)
        self._share = share
        return self._enter(Phase.READING)

    def data_received(self, chunk: bytes) -> None:
        """Keep a piece of the body, within the bounds."""
        if self._phase is not Phase.READING or self._share is None:
            return None  # not kept, but read to its end: else the client might lose its answer
        if self._share.held_bytes + len(chunk) > self._settings.config.max_body_bytes:
            return self._refuse(413, "body too large")
        if not self._services.in_flight.receive(self._share, len(chunk)):
            # It may have been the one that gave way: then it is answered already.
            return self._refuse_overloaded(Limit.BYTES) if self._share else None
        if not self._body:
            self._body = chunk
        else:
            if isinstance(self._body, bytes):  # not a list: tiny pieces take 20 times their size
                self._body = bytearray(self._body)
            self._body += chunk
        return None

    def finish(self) -> None:
        """The request has come whole: receive the webhook."""
        if self._phase is Phase.REFUSED:
            return self._end_refused()
        self._enter(Phase.WORKING)
        if self._endpoint is None or self._share is None:
            checked = self._services.check_health()
            return checked.add_done_callback(self._answer_health)
        self._services.in_flight.complete(self._share)
        within_s = self._settings.config.answer_within_ms / 1000
        self._deadline = time.monotonic() + within_s - WATCH_EVERY_S
        self._body = body = bytes(self._body)  # not kept twice
        incoming = Incoming(
            endpoint=self._endpoint,
            received_at_ms=self._services.clock.now_ms(),
            remote_ip=self._remote_ip,
            headers=self._headers,
            body=body,
        )
        return self._services.recogniser.recognise(incoming, self._settings.routing, self._store)

    def _store(self, recognised: Recognised | Exception) -> None:
        """Give an authentic webhook to the inbox; refuse another."""
        if self._is_late:
            return self._release()
        if isinstance(recognised, SignatureError):
            return self._refuse(401, recognised.reason, bytes(self._body))
        if isinstance(recognised, Exception):
            return self._fail(recognised)
        webhook, actions = recognised
        known = self._settings.deliveries
        deliveries = [
            known.get(each.name) or known.setdefault(each.name, NewDelivery.of(each))
            for each in actions
        ]
        try:
            by = self._settings.config.duplicates.by
            stored = self._services.inbox.add(webhook, deliveries, by)
        except Exception as error:  # noqa: BLE001  # not stored; reported by _fail
            return self._fail(error)
        self._storing = stored
        return stored.add_done_callback(functools.partial(self._stored, webhook, len(deliveries)))

    def _stored(self, webhook: Webhook, actions: int, stored: "asyncio.Future[Added]") -> None:
        """Answer 200: only now, because only now it is on the disk."""
        self._storing = None  # its callback refers to this exchange
        if stored.cancelled():  # it was withdrawn
            return self._release()
        # Not raised here: with this frame it would refer to itself, and keep the body.
        error = stored.exception()
        if isinstance(error, StoreUnavailableError):
            if self._is_late:
                return self._release()
            self._services.evidence.unavailable(webhook.endpoint, webhook.remote_ip)
            return self._answer_unavailable()
        if isinstance(error, ValueRefusedError) and webhook.verdict.kind is not Kind.RAW:
            return self._store(as_bytes(webhook, self._settings.routing))
        if isinstance(error, Exception):
            return self._fail(error)
        added = stored.result()
        self._tell_received(webhook, added, actions)
        duplicate = not added.is_new
        self._answer(200, {"status": "received", "event": added.event_id, "duplicate": duplicate})
        if added.is_new and actions:
            self._services.wake()
        return None

    def _tell_received(self, webhook: Webhook, added: Added, actions: int) -> None:
        tell(
            "webhook.received" if added.is_new else "webhook.duplicate",
            event_id=added.event_id,
            key=added.key,
            endpoint=webhook.endpoint,
            kind=str(webhook.verdict.kind),
            type=safe_type(webhook.verdict.type),
            response_code=safe_code(webhook.verdict.response_code),
            outcome=str(webhook.verdict.outcome),
            reference=(digest_of if added.is_erased else safe_id)(webhook.verdict.reference),
            actions=actions,
            body_bytes=len(webhook.body),
            verified_by=webhook.verified_by,
            remote_ip=None if added.is_erased else webhook.remote_ip,
            duration_ms=round((time.monotonic() - self._started) * 1000, 1),
            doubt=webhook.verdict.doubt or None,
            trace_id=None if added.is_erased else webhook.trace_id,
        )

    def _answer_health(self, checked: "asyncio.Future[bool]") -> None:
        if not checked.cancelled() and checked.result():
            self._answer(200, {"status": "ok"})
        else:
            self._answer_unavailable()

    # Refusals and failures

    def _refuse(self, status: int, reason: str, body: bytes | None = None) -> None:
        """Refuse with evidence. From outside every 401 is one and the same."""
        declared, read_bytes = _declared_bytes(self._headers), len(self._body)
        content = INVALID_SIGNATURE if status == 401 else {"error": "Body too large"}
        self._answer(status, content)
        form = None
        if self._endpoint and body is not None:
            form = self._services.evidence.right_form(self._endpoint, self._headers, body)
        self._services.evidence.reject(
            reason,
            endpoint=self._endpoint.name if self._endpoint else "",
            remote_ip=self._remote_ip,
            body=body,
            body_bytes=read_bytes if declared is None else declared,
            form=form,
        )

    def _refuse_method(self, allowed: str, endpoint: str = "") -> None:
        self._services.evidence.wrong_method(
            self._start_line.method, allowed, endpoint, self._remote_ip
        )
        self._answer(405, {"error": "Method not allowed"}, (("Allow", allowed),))

    def _refuse_overloaded(self, limit: Limit) -> None:
        self._services.evidence.overloaded(limit.value, self._remote_ip)
        self._answer_unavailable()

    def _fail(self, error: Exception) -> None:
        """Tell of a fault of our own. Nothing is stored: Prembly may try again."""
        tell("webhook.failed", endpoint=self._endpoint.name if self._endpoint else "", cause=error)
        without_frames(error)
        self._answer_unavailable()

    def _answer_unavailable(self) -> None:
        self._answer(
            503, {"error": "Temporarily unavailable"}, (("Retry-After", str(RETRY_AFTER_S)),)
        )

    def _answer_late(self) -> None:
        """Answer 503 although it is not known yet whether the webhook is stored. What no
        transaction has begun with is not; what one has begun with may be, and is a duplicate when
        it comes again."""
        endpoint = self._endpoint.name if self._endpoint else ""
        after_ms = self._settings.config.answer_within_ms
        self._services.evidence.unavailable(endpoint, self._remote_ip, after_ms)
        share, self._share = self._share, None
        self._answer_unavailable()
        self._is_late = True
        self._share = share  # until it is known: the writer holds the body
        if self._storing is not None:
            self._services.inbox.withdraw(self._storing)

    # The answer and the phases

    def _answer(self, status: int, content: Mapping[str, object], extra: Extra = ()) -> None:
        if self._is_late:  # it has its answer
            return self._release()
        # A client that waits for leave to send its body (Expect) does not send it now.
        is_over = self._phase is Phase.WORKING or (
            self._phase is Phase.WAITING and "Expect" in self._headers
        )
        self._enter(Phase.ANSWERED if is_over else Phase.REFUSED)
        self._deadline = time.monotonic() + UNREAD_ANSWER_S
        self._release()
        connection = connection_header(self._start_line, self._headers)
        if self._services.is_stopping:
            connection = "close"
        is_head = self._start_line.method == "HEAD"
        answer = render(status, content, extra=extra, connection=connection, is_head=is_head)
        if rest := self._stream.send_now(answer):
            self._connection.write(rest)
        if is_over:
            self._connection.finish()
        else:
            # Closing with unread input resets the connection, and the answer may be lost.
            asyncio.get_running_loop().call_later(LINGER_S, self._end_refused)
        return None

    def _end_refused(self) -> None:
        """End the exchange of a refused client: it has sent all, or goes on for too long."""
        if self._phase is Phase.REFUSED:
            self._enter(Phase.ANSWERED)
            self._connection.finish()

    def _enter(self, phase: Phase) -> None:
        """Go on to `phase`. Phases change nowhere else. Raise RuntimeError when this one can't
        follow the current one."""
        if phase not in _NEXT_PHASES[self._phase]:
            raise RuntimeError(f"an exchange can't go from {self._phase} to {phase}")
        self._phase = phase

    def _release(self) -> None:
        """Give back this request's share of the bounds."""
        if self._share:
            self._services.in_flight.leave(self._share)
            self._since = self._share.since
            self._share = None  # which refers to this exchange
        self._body = b""

    # Its connection

    def on_connection_close(self) -> None:
        """The client went away while it sent the body: there is no webhook."""
        self._release()

    def connection_ended(self) -> None:
        """Keep as evidence why there is no webhook, if there might have been one."""
        is_answered = self._phase in (Phase.REFUSED, Phase.ANSWERED)
        if is_answered or self._services.is_stopping:
            return
        reason = self._stream.fault
        if reason is None and self._phase is Phase.READING:
            is_late = time.monotonic() > self._deadline
            reason = ConnectionFault.TOO_SLOW if is_late else ConnectionFault.CUT_SHORT
        if reason is None:
            return
        has_head = self._phase is not Phase.WAITING
        self._services.evidence.reject(
            reason,
            remote_ip=self._remote_ip if has_head else peer_ip(self._connection),
            endpoint=self._endpoint.name if self._endpoint else "",
            body_bytes=_declared_bytes(self._headers) if has_head else None,
        )

    def is_expected(self, now: float) -> bool:
        """Return whether the client has just connected: then it will probably send its first
        request."""
        is_new = self._is_first and now - self._since < FIRST_REQUEST_S
        return is_new and self._phase is Phase.WAITING and not self.is_closed

    def connection_share(self) -> Share | None:
        """Return what the connection holds, for `make_room`; None while its webhook is stored."""
        if self._phase is Phase.WORKING:
            return None
        since = self._share.since if self._share else self._since
        return Share(sender(peer_ip(self._connection)), self._close_for_others, since)

    @property
    def is_closed(self) -> bool:
        """Whether the connection is closed."""
        return self._stream.closed()

    def end_if_late(self, now: float) -> None:
        """Close the connection when the request did not come in time, or its answer was not read.
        Answer a complete webhook in time, whatever it waits for."""
        if now <= self._deadline:
            return
        if self._phase is not Phase.WORKING:
            self._connection.close()
        elif self._share is not None:  # no question for the health, which has a limit of its own
            self._answer_late()

    def _close_for_others(self, limit: Limit) -> None:
        if self._phase is Phase.READING:
            self._refuse_overloaded(limit)
        self._connection.close()


def _declared_bytes(headers: HTTPHeaders) -> int | None:
    """Return the size of the body that the head declares, or None. Of an absurdly long number only
    the first digits are read, which are too large anyway."""
    declared = headers.get("Content-Length", "")
    return int(declared[:15]) if declared.isdecimal() else None
