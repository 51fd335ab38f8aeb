"""HTTP hooks: a POST of the exact body, an envelope or a selection, signed on request."""

import asyncio
import base64
import email.utils
import functools
import hmac
import json
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

from premblyd import jsontext
from premblyd.config.models import Action, Endpoint, HttpHook, Selection
from premblyd.expressions import EvaluationError
from premblyd.hooks.http.client import Answer, HttpClient, Post
from premblyd.hooks.lack import Patience, require_descriptor
from premblyd.prembly import bodies, signature
from premblyd.store.jobs import Job, Result
from premblyd.store.models import AttemptOutcome

MIN_CLIENTS = 16
# As jsontext.weight says: twice what the largest body weighs. A few doublings in an expression
# are few steps, and their result more than any memory holds.
MAX_SELECTED = 2 * (bodies.MAX_VALUES + (16 << 20 >> 6))
_GONE = 410


class BodyError(Exception):
    """The hook's body can't be made for this event. The text says why, and quotes nothing."""


class HttpRunner:
    """Runs http hooks."""

    def __init__(self) -> None:
        self._client = HttpClient(MIN_CLIENTS)
        self._outgrown: list[HttpClient] = []
        self._endpoints: Mapping[str, Endpoint] = {}
        self._posts: set[asyncio.Task[Answer]] = set()
        self._aside = ThreadPoolExecutor(1, "premblyd-posts")
        self._aside.submit(int).result()  # its thread is there before the machine lacks any
        self._interrupted = False
        self._patience = Patience()

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
            post = await self._make_post(action, job)
        except BodyError as error:
            return Result(outcome=AttemptOutcome.FAILED, error=str(error), final=True)
        del job  # only the request needs the body now
        if self._interrupted:
            return Result(outcome=AttemptOutcome.INTERRUPTED, error="the daemon was stopped")
        return await self._patience.run(lambda: self._post(hook, post))

    async def _post(self, hook: HttpHook, post: Post) -> Result:
        require_descriptor()
        ca_file = str(hook.ca_file) if hook.ca_file else None
        task = asyncio.ensure_future(
            self._client.post(
                post,
                hook.timeout_ms / 1000,
                ca_file=ca_file,
                proxy=hook.proxy.reveal() if hook.proxy else "",
            )
        )
        self._posts.add(task)
        try:
            answer = await task
            if answer.status == 0 and not answer.timed_out:
                require_descriptor()  # without one every host seems unreachable
            return _result(answer)
        except asyncio.CancelledError:
            if not self._interrupted:
                raise
            return Result(outcome=AttemptOutcome.INTERRUPTED, error="the daemon was stopped")
        finally:
            self._posts.discard(task)

    async def _make_post(self, action: Action, job: Job) -> Post:
        """Make the request: beside the loop, if it may be more than a moment's work."""
        endpoint = self._endpoints.get(job.event.endpoint)
        make = functools.partial(make_post, action, job, endpoint, time.time())
        is_selection = isinstance(_hook(action).send, Selection)
        if len(job.event.body) <= bodies.LARGE_BYTES and not is_selection:
            return make()
        return await asyncio.get_running_loop().run_in_executor(self._aside, make)

    def interrupt(self) -> None:
        """Give up every running request. They count as interrupted."""
        self._interrupted = True
        self._patience.end()
        for task in self._posts:
            task.cancel()

    def close(self) -> None:
        for client in (self._client, *self._outgrown):
            client.close()
        self._aside.shutdown(wait=False, cancel_futures=True)


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
    digest = hmac.new(key, f"{webhook_id}.{timestamp}.".encode(), "sha256")
    digest.update(body)  # apart: a body may be large, and is not copied
    return "v1," + base64.b64encode(digest.digest()).decode("ascii")


def _body(hook: HttpHook, job: Job) -> tuple[bytes, str]:
    event = job.event
    if hook.send == "raw":
        sent_as = dict(json.loads(event.headers)).get("Content-Type", "application/json")
        return event.body, sent_as
    context = event.context()
    if isinstance(hook.send, Selection):
        try:
            value = hook.send.select.search(context)
        except EvaluationError as error:
            raise BodyError(f"`select` failed for this event: {error}") from None
        if jsontext.weight(value, MAX_SELECTED) > MAX_SELECTED:
            raise BodyError("`select` makes too much of this event")
    else:
        value = {
            "event": event.id,
            "key": event.key,
            "received_at": datetime.fromtimestamp(event.received_at_ms / 1000, UTC).isoformat(),
            **context,
        }
        if event.document is None:
            value["body_base64"] = base64.b64encode(event.body).decode("ascii")
    try:
        return jsontext.dumps(value), "application/json"
    except ValueError:
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
        retry_after_s=retry_after_s(answer.retry_after, time.time()),
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


def _hook(action: Action) -> HttpHook:
    if action.http is None:
        raise TypeError(f"{action.name} has no http hook")
    return action.http
