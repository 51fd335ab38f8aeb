"""Running http hooks."""

import asyncio
import functools
import re
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from premblyd import standardwebhooks
from premblyd.config.hooks import HttpHook, Selection
from premblyd.config.models import Config, Endpoint
from premblyd.config.secrets import Secret
from premblyd.httpclient import HttpClient, Request, Response, retry_after_s
from premblyd.model.states import AttemptOutcome
from premblyd.prembly import bodies
from premblyd.privacy.documents import MASK
from premblyd.privacy.fields import MASKED_REQUEST_HEADERS
from premblyd.queue.jobs import Result
from premblyd.run.children import Children
from premblyd.run.http.request import BodyError, make_request
from premblyd.run.invocation import Invocation
from premblyd.run.lack import Patience, require_descriptor
from premblyd.run.permit import Permit
from premblyd.run.preview import Preview, masked

MIN_CLIENTS = 16
PREVIEW_BYTES = 2000
# Signs in a preview, in place of the real secret; the signature is masked there.
STAND_IN = Secret("stand-in", standardwebhooks.PREFIX + "A" * 24)
_GONE = 410


class HttpRunner:
    """Runs http hooks."""

    def __init__(self, _: Children) -> None:
        self._client = HttpClient(MIN_CLIENTS)
        self._outgrown: list[HttpClient] = []  # former clients, too small now; their requests go on
        self._endpoints: Mapping[str, Endpoint] = {}
        self._sent: set[asyncio.Task[Response]] = set()
        self._aside = ThreadPoolExecutor(1, "premblyd-requests")
        self._aside.submit(int).result()  # starts it now: later the machine may lack threads
        self._interrupted = False
        self._patience = Patience()

    def configure(self, settings: Config) -> None:
        """Use these endpoints, and be ready for as many requests as hooks may run at once."""
        self._endpoints = {endpoint.name: endpoint for endpoint in settings.endpoints}
        if settings.total_concurrency > self._client.max_clients:
            self._outgrown.append(self._client)
            self._client = HttpClient(settings.total_concurrency)

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
        return await permit.run(
            lambda: self._patience.run(lambda: self._send(hook, request, permit))
        )

    async def _send(self, hook: HttpHook, request: Request, permit: Permit) -> Result:
        require_descriptor()
        ca_file = str(hook.ca_file) if hook.ca_file else None
        permit.require()
        task = asyncio.ensure_future(
            self._client.send(
                request,
                hook.timeout_ms / 1000,
                ca_file=ca_file,
                proxy=hook.proxy.reveal() if hook.proxy else "",
            )
        )
        self._sent.add(task)
        try:
            with permit.ends_by(task.cancel):
                response = await task
            if response.status == 0 and not response.timed_out:
                require_descriptor()  # without one every host seems unreachable
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

    @staticmethod
    def preview(hook: HttpHook, invocation: Invocation, endpoint: Endpoint) -> Preview:
        """Return the exact request, with secrets masked, or why it can't be made."""
        shown = masked(hook)
        if hook.sign_with:
            shown = shown.model_copy(update={"sign_with": STAND_IN})
        try:
            request = make_request(shown, invocation, masked(endpoint), time.time())
        except BodyError as error:
            return Preview(facts={"error": str(error)}, lines=[f"would fail: {error}"])
        proxy = _without_login(shown.proxy.reveal()) if shown.proxy else None
        private = {*MASKED_REQUEST_HEADERS, endpoint.header.lower()}
        headers = {
            name: MASK if name.lower() in private else value for name, value in request.headers
        }
        body = request.body[:PREVIEW_BYTES].decode("utf-8", "replace")
        facts: dict[str, Any] = {"url": request.url}
        lines = [f"POST {request.url}"]
        if proxy:
            facts["proxy"] = proxy
            lines.append(f"by the proxy {proxy}")
        facts |= {"headers": headers, "body_bytes": len(request.body), "body": body}
        lines += [f"{name}: {value}" for name, value in headers.items()]
        lines.append(f"body, {len(request.body)} bytes:")
        lines += [f"  {line}" for line in body.splitlines()]
        if len(request.body) > PREVIEW_BYTES:
            lines.append("  … and more")
        return Preview(facts=facts, lines=lines)

    def interrupt(self) -> None:
        """Give up every running request. They count as interrupted."""
        self._interrupted = True
        self._patience.end()
        for task in self._sent:
            task.cancel()

    def close(self) -> None:
        for client in (self._client, *self._outgrown):
            client.close()
        self._aside.shutdown(wait=False, cancel_futures=True)


def _without_login(url: str) -> str:
    return re.sub(r"//[^/]*@", f"//{MASK}@", url)


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
