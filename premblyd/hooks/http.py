"""HTTP hooks: a POST of the exact body, an envelope or a selection, signed on request."""

import asyncio
import base64
import email.utils
import hmac
import json
import ssl
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pycurl
from tornado.curl_httpclient import CurlAsyncHTTPClient
from tornado.httpclient import HTTPClientError, HTTPRequest
from tornado.httputil import HTTPHeaders, HTTPInputError

from premblyd import __version__
from premblyd.config import Action, Endpoint, HttpHook, Selection
from premblyd.expressions import EvaluationError
from premblyd.prembly import payload, signature
from premblyd.store.jobs import Job, Result
from premblyd.store.models import AttemptOutcome

MAX_ANSWER_BYTES = 64 << 10
MIN_CLIENTS = 16
_GONE = 410


@dataclass(frozen=True, slots=True)
class Post:
    """A request as it goes out. Headers may hold secrets."""

    url: str
    headers: list[tuple[str, str]]
    body: bytes


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back; `status` 0 and an `error` when nothing did."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    truncated: bool
    error: str | None = None
    timed_out: bool = False


class BodyError(Exception):
    """The hook's body can't be made for this event. The text says why, and quotes nothing."""


class HttpClient:
    """A client that keeps connections, follows no redirect and keeps 64 KiB of an answer."""

    def __init__(self, max_clients: int) -> None:
        self.max_clients = max_clients
        self._client = CurlAsyncHTTPClient(force_instance=True, max_clients=max_clients)
        # The wheel's libcurl looks for certificates where only Red Hat has them.
        self._ca_file = ssl.get_default_verify_paths().cafile

    async def post(
        self, post: Post, timeout_s: float, *, ca_file: str | None = None, unix_path: str = ""
    ) -> Answer:
        """Send `post`. Never raise: what goes wrong is in the answer."""
        kept = bytearray()
        total = 0

        def keep(chunk: bytes) -> None:
            nonlocal total
            total += len(chunk)
            kept.extend(chunk[: MAX_ANSWER_BYTES - len(kept)])

        def prepare(curl: Any) -> None:
            if unix_path:
                curl.setopt(pycurl.UNIX_SOCKET_PATH, unix_path)

        try:
            answer = await self._client.fetch(
                HTTPRequest(
                    post.url,
                    method="POST",
                    headers=_headers(post.headers),
                    body=post.body,
                    connect_timeout=timeout_s,
                    request_timeout=timeout_s,
                    follow_redirects=False,
                    ca_certs=ca_file or self._ca_file,
                    streaming_callback=keep,
                    prepare_curl_callback=prepare,
                    user_agent=f"premblyd/{__version__}",
                ),
                raise_error=False,
            )
        except HTTPClientError as failure:  # raise_error=False is about status codes alone
            error, timed_out = _curl_error(failure)
            return Answer(0, {}, bytes(kept), total > MAX_ANSWER_BYTES, error, timed_out)
        except (ValueError, HTTPInputError, pycurl.error):  # a header or URL that can't be sent
            return Answer(0, {}, b"", False, "the request can't be sent as configured")
        return Answer(answer.code, answer.headers, bytes(kept), total > MAX_ANSWER_BYTES)

    def close(self) -> None:
        self._client.close()
        # While libcurl gives up what still runs, it asks for one more look, which would fail.
        if self._client._timeout is not None:
            self._client.io_loop.remove_timeout(self._client._timeout)


class HttpRunner:
    """Runs http hooks."""

    def __init__(self) -> None:
        self._client = HttpClient(MIN_CLIENTS)
        self._outgrown: list[HttpClient] = []
        self._endpoints: Mapping[str, Endpoint] = {}
        self._posts: set[asyncio.Task[Answer]] = set()
        self._interrupted = False

    def configure(self, endpoints: Sequence[Endpoint], concurrency: int) -> None:
        """Use these endpoints, and be ready for `concurrency` requests at once."""
        self._endpoints = {endpoint.name: endpoint for endpoint in endpoints}
        if concurrency > self._client.max_clients:
            self._outgrown.append(self._client)  # its requests go on
            self._client = HttpClient(concurrency)

    async def run(self, action: Action, job: Job) -> Result:
        """Run the hook once. Never raise for a hook that fails."""
        hook = _hook(action)
        try:
            post = make_post(action, job, self._endpoints.get(job.event.endpoint), time.time())
        except BodyError as error:
            return Result(outcome=AttemptOutcome.FAILED, error=str(error), final=True)
        ca_file = str(hook.ca_file) if hook.ca_file else None
        task = asyncio.ensure_future(
            self._client.post(post, hook.timeout_ms / 1000, ca_file=ca_file)
        )
        self._posts.add(task)
        try:
            return _result(await task)
        except asyncio.CancelledError:
            if not self._interrupted:
                raise
            return Result(outcome=AttemptOutcome.INTERRUPTED, error="the daemon was stopped")
        finally:
            self._posts.discard(task)

    def interrupt(self) -> None:
        """Give up every running request. They count as interrupted."""
        self._interrupted = True
        for task in self._posts:
            task.cancel()

    def close(self) -> None:
        for client in (self._client, *self._outgrown):
            client.close()


def make_post(action: Action, job: Job, endpoint: Endpoint | None, now_s: float) -> Post:
    """Return the exact request for one attempt. Raise BodyError when its body can't be made."""
    hook = _hook(action)
    body, content_type = _body(hook, job)
    webhook_id = f"{job.event.key}-{action.name}"
    headers = [("Content-Type", content_type), ("webhook-id", webhook_id)]
    if hook.send == "raw":
        headers += _prembly_headers(job, endpoint)
    timestamp = str(int(now_s))
    headers.append(("webhook-timestamp", timestamp))
    if hook.sign_with is not None:
        key = hook.sign_with.reveal()
        headers.append(("webhook-signature", sign(key, webhook_id, timestamp, body)))
    own = {name.lower() for name in hook.headers}
    headers = [(name, value) for name, value in headers if name.lower() not in own]
    headers += [(name, secret.reveal()) for name, secret in hook.headers.items()]
    return Post(hook.url.reveal(), headers, body)


def sign(secret: str, webhook_id: str, timestamp: str, body: bytes) -> str:
    """Return the `webhook-signature` of `body`: Standard Webhooks 1.0, over the raw bytes. The
    standardwebhooks package signs text only, and a body need not be UTF-8."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    message = f"{webhook_id}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.digest(key, message, "sha256")).decode("ascii")


def _body(hook: HttpHook, job: Job) -> tuple[bytes, str]:
    event = job.event
    if hook.send == "raw":
        sent_as = dict(json.loads(event.headers)).get("Content-Type", "application/json")
        return event.body, sent_as
    document = payload.parse(event.body)
    context = payload.context(event.verdict, event.endpoint, event.verified_by, document)
    if isinstance(hook.send, Selection):
        try:
            value = hook.send.select.search(context)
        except EvaluationError as error:
            raise BodyError(f"`select` failed for this event: {error}") from None
    else:
        value = {
            "event": event.id,
            "key": event.key,
            "received_at": datetime.fromtimestamp(event.received_at_ms / 1000, UTC).isoformat(),
            **context,
        }
        if document is None:
            value["body_base64"] = base64.b64encode(event.body).decode("ascii")
    try:
        return json.dumps(value, separators=(",", ":")).encode(), "application/json"
    except (ValueError, RecursionError, TypeError):
        raise BodyError("the body can't be written as JSON") from None


def _prembly_headers(job: Job, endpoint: Endpoint | None) -> list[tuple[str, str]]:
    """Make Prembly's own headers again, so that an existing handler works behind premblyd. The
    signature is made anew because it is not stored: the legacy one is the key itself."""
    headers = []
    scheme, _, key_name = job.event.verified_by.partition(":")
    key = endpoint.key_texts.get(key_name) if endpoint else None
    if endpoint and key:
        value = signature.sign(job.event.body, key, signature.Scheme(scheme))
        headers.append((endpoint.header, value))
    token = job.event.token
    if token and token.isascii() and token.isprintable():
        headers.append((signature.TOKEN_HEADER, token))
    return headers


def _result(answer: Answer) -> Result:
    succeeded = 200 <= answer.status < 300
    if answer.timed_out:
        outcome = AttemptOutcome.TIMED_OUT
    else:
        outcome = AttemptOutcome.SUCCEEDED if succeeded else AttemptOutcome.FAILED
    return Result(
        outcome=outcome,
        http_status=answer.status or None,
        error=None if succeeded else answer.error or f"HTTP {answer.status}",
        output=answer.body.decode("utf-8", "replace"),
        output_truncated=answer.truncated,
        final=answer.status == _GONE,
        retry_after_s=retry_after_s(answer.headers.get("Retry-After"), time.time()),
    )


def retry_after_s(value: str | None, now_s: float) -> float:
    """Read a Retry-After header, seconds or a date (RFC 9110, 10.2.3); 0 when it says nothing."""
    if not value:
        return 0
    if value.strip().isdecimal() and len(value) < 12:
        return float(value)
    try:
        return max(0, email.utils.parsedate_to_datetime(value).timestamp() - now_s)
    except (ValueError, OverflowError):
        return 0


def _curl_error(error: HTTPClientError) -> tuple[str, bool]:
    """Return libcurl's error in our words: its own may quote the URL, which may be a secret."""
    number = getattr(error, "errno", None)
    words = {
        pycurl.E_COULDNT_RESOLVE_HOST: "the host name can't be resolved",
        pycurl.E_COULDNT_CONNECT: "connection refused or unreachable",
        pycurl.E_OPERATION_TIMEDOUT: "no answer in time",
        pycurl.E_PEER_FAILED_VERIFICATION: "the TLS certificate is not trusted",
        pycurl.E_SSL_CONNECT_ERROR: "the TLS handshake failed",
        pycurl.E_GOT_NOTHING: "the server closed the connection without an answer",
        pycurl.E_RECV_ERROR: "the connection broke while reading",
        pycurl.E_SEND_ERROR: "the connection broke while sending",
    }
    timed_out = number in (pycurl.E_OPERATION_TIMEDOUT, None)
    return words.get(number, f"no answer (libcurl error {number})"), timed_out


def _headers(pairs: list[tuple[str, str]]) -> HTTPHeaders:
    headers = HTTPHeaders()
    for name, value in pairs:
        headers.add(name, value)
    return headers


def _hook(action: Action) -> HttpHook:
    if action.http is None:
        raise TypeError(f"{action.name} has no http hook")
    return action.http
