"""Http hooks: the request, which is the exact body, an envelope or a selection, signed on request;
and the runner that sends it."""

import asyncio
import base64
import functools
import hmac
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import orjson

from premblyd.config.hooks import HttpHook, Selection, signing_key
from premblyd.config.models import Config, Endpoint
from premblyd.ground import jsontext, times
from premblyd.ground.errors import PremblydError
from premblyd.ground.expressions import EvaluationError
from premblyd.ground.httpclient import HttpClient, Request, Response, retry_after_s
from premblyd.prembly import bodies, payload, signature
from premblyd.prembly.payload import Webhook
from premblyd.queue.jobs import Result
from premblyd.run.kinds import Invocation
from premblyd.run.process import Children
from premblyd.run.starting import LapsedError, Patience, Permit
from premblyd.store.states import AttemptOutcome

_GONE = 410
# In the unit of jsontext.weight: twice what the largest body weighs. The steps of an expression
# don't bound its result: a few doublings make more than any memory holds.
MAX_SELECTED = 2 * (bodies.MAX_VALUES + (16 << 20 >> 6))
# Headers of Standard Webhooks 1.0 (github.com/standard-webhooks).
ID, TIMESTAMP, SIGNATURE = "webhook-id", "webhook-timestamp", "webhook-signature"
ERASED = "premblyd-erased"  # a header: the event's person was erased, so its body is empty


class BodyError(PremblydError):
    """The hook's body can't be made for this event. The text says why, and quotes nothing."""


def make_request(
    hook: HttpHook, invocation: Invocation, endpoint: Endpoint | None, now_s: float
) -> Request:
    """Return the exact request for one attempt. Raise BodyError when its body can't be made."""
    body, content_type = _body(hook, invocation)
    headers = [("Content-Type", content_type), (ID, invocation.id)]
    if hook.send == "raw" and invocation.webhook and not invocation.is_erased:
        headers += _prembly_headers(invocation.webhook, endpoint)
    if invocation.webhook and invocation.webhook.traceparent:
        headers.append((payload.TRACE_HEADER, invocation.webhook.traceparent))
    timestamp = str(int(now_s))
    headers.append((TIMESTAMP, timestamp))
    for name, facts in invocation.vouched.items():
        if facts is not None:
            headers.append((f"premblyd-{name}", "true"))
            headers.append((f"premblyd-{name}-fields", ",".join(facts)))
    if invocation.is_erased:
        headers.append((ERASED, "1"))
    if hook.sign_with is not None:
        key = signing_key(hook.sign_with.reveal())
        signed = sign(key, invocation.id, timestamp, body)
        headers.append((SIGNATURE, signed))
    own = {name.lower() for name in hook.headers}
    headers = [(name, value) for name, value in headers if name.lower() not in own]
    headers += [(name, secret.reveal()) for name, secret in hook.headers.items()]
    return Request(hook.url.reveal(), headers, body)


def sign(key: bytes, webhook_id: str, timestamp: str, body: bytes) -> str:
    """Return the `webhook-signature` of `body`, over its raw bytes. (The package standardwebhooks
    signs text only, and a body need not be UTF-8.)"""
    digest = hmac.new(key, f"{webhook_id}.{timestamp}.".encode(), "sha256")
    digest.update(body)  # not joined with the rest, which would copy a body that may be large
    return "v1," + base64.b64encode(digest.digest()).decode("ascii")


def _body(hook: HttpHook, invocation: Invocation) -> tuple[bytes, str]:
    """Return the body and its type."""
    if isinstance(hook.send, Selection):
        try:
            value = hook.send.select.search(invocation.context())
        except EvaluationError as error:
            raise BodyError(f"`select` failed for this event: {error}") from None
        if jsontext.weight(value, MAX_SELECTED) > MAX_SELECTED:
            raise BodyError("`select` makes too much of this event")
    elif hook.send == "event" and invocation.webhook:
        value = _envelope(invocation, invocation.webhook)
    else:
        return invocation.body, invocation.content_type
    try:
        return jsontext.dumps(value), "application/json"
    except ValueError:
        raise BodyError("the body can't be written as JSON") from None


def _envelope(invocation: Invocation, webhook: Webhook) -> dict[str, Any]:
    envelope: dict[str, Any] = {
        "event": invocation.event_id,
        "key": invocation.event_key,
        "received_at": times.iso(webhook.received_at_ms),
    }
    vouched = invocation.vouched.items()
    envelope |= {f"{name}_fields": facts for name, facts in vouched if facts is not None}
    envelope |= invocation.context()
    if invocation.is_erased:
        envelope["erased"] = True
    elif webhook.document is not None and (own := bodies.embedded(webhook.body)) is not None:
        envelope["body"] = orjson.Fragment(own)
    else:
        envelope["body_base64"] = base64.b64encode(webhook.body).decode("ascii")
    return envelope


def _prembly_headers(webhook: Webhook, endpoint: Endpoint | None) -> list[tuple[str, str]]:
    """Make Prembly's own headers again, so that an existing handler works behind premblyd. The
    signature is made anew because it is not stored: the legacy one is the key itself."""
    headers = []
    scheme, _, key_name = webhook.verified_by.partition(":")
    if endpoint and (key := endpoint.key_texts.get(key_name)):
        same = [form for form in endpoint.forms if form.scheme == scheme]
        headers += [(form.header, signature.sign(webhook.body, key, form)) for form in same[:1]]
    token = webhook.token
    if token and token.isascii() and token.isprintable():
        headers.append((signature.TOKEN_HEADER, token))
    return headers


class HttpRunner:
    """Runs http hooks."""

    def __init__(self, _: Children) -> None:
        self._client: HttpClient | None = None  # made when there is something to send
        self._endpoints: Mapping[str, Endpoint] = {}
        self._sent: set[asyncio.Task[Response]] = set()
        self._aside = ThreadPoolExecutor(1, "premblyd-requests")
        self._aside.submit(int).result()  # starts it now: later the machine may lack threads
        self._interrupted = False
        self._patience = Patience()

    def configure(self, settings: Config) -> None:
        """Use these endpoints from the next request on."""
        self._endpoints = {endpoint.name: endpoint for endpoint in settings.endpoints}

    async def run(self, hook: HttpHook, invocation: Invocation) -> Result:
        """Run the hook once. Never raise for a hook that fails."""
        permit = invocation.permit
        try:
            request = await self._make_request(hook, invocation)
        except BodyError as error:
            return Result(outcome=AttemptOutcome.FAILED, error=str(error), final=True)
        del invocation  # so that the body is not kept longer than its request
        if self._interrupted:
            return Result(outcome=AttemptOutcome.INTERRUPTED, error="the daemon was stopped")
        return await self._patience.run(permit, lambda: self._send(hook, request, permit))

    async def _send(self, hook: HttpHook, request: Request, permit: Permit) -> Result:
        ca_file = str(hook.ca_file) if hook.ca_file else None
        self._client = self._client or HttpClient()
        permit.require()
        task = asyncio.ensure_future(
            self._client.send(
                request,
                hook.timeout_ms / 1000,
                ca_file=ca_file,
                proxy=hook.proxy.reveal() if hook.proxy else "",
                may_send=permit.holds,
            )
        )
        self._sent.add(task)
        try:
            with permit.ends_by(task.cancel):
                response = await task
            if response.unsent:
                raise LapsedError
            return _result(response)
        except asyncio.CancelledError:
            if not self._interrupted and not permit.is_revoked:
                raise
            return Result(outcome=AttemptOutcome.INTERRUPTED, error="the daemon was stopped")
        finally:
            self._sent.discard(task)

    async def _make_request(self, hook: HttpHook, invocation: Invocation) -> Request:
        """Make the request: beside the loop, if it may be more than a moment's work."""
        webhook = invocation.webhook
        endpoint = self._endpoints.get(webhook.endpoint) if webhook else None
        make = functools.partial(make_request, hook, invocation, endpoint, time.time())
        is_selection = isinstance(hook.send, Selection)
        if bodies.is_quick(invocation.body) and not is_selection:
            return make()
        return await asyncio.get_running_loop().run_in_executor(self._aside, make)

    def interrupt(self) -> None:
        """Give up every running request. They count as interrupted."""
        self._interrupted = True
        self._patience.end()
        for task in self._sent:
            task.cancel()

    def close(self) -> None:
        if self._client is not None:
            self._client.close()
        self._aside.shutdown(wait=False, cancel_futures=True)


def _result(response: Response) -> Result:
    succeeded = 200 <= response.status < 300
    if response.timed_out:
        outcome = AttemptOutcome.TIMED_OUT
    else:
        outcome = AttemptOutcome.SUCCEEDED if succeeded else AttemptOutcome.FAILED
    return Result(
        outcome=outcome,
        http_status=response.status or None,
        error=None if succeeded else response.error or f"HTTP {response.status}",
        output=response.body.decode("utf-8", "replace"),
        output_truncated=response.truncated,
        final=response.status == _GONE,
        retry_after_s=retry_after_s(response.retry_after, time.time()),
    )
