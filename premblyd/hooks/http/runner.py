"""Running http hooks."""

import asyncio
import email.utils
import functools
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from premblyd.config.models import Action, Endpoint, HttpHook, Selection
from premblyd.hooks.http.client import Answer, HttpClient, Post
from premblyd.hooks.http.request import BodyError, http_hook, make_post
from premblyd.hooks.lack import Patience, require_descriptor
from premblyd.prembly import bodies
from premblyd.store.jobs import Job, Result
from premblyd.store.models import AttemptOutcome

MIN_CLIENTS = 16
_GONE = 410


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
        hook = http_hook(action)
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
        is_selection = isinstance(http_hook(action).send, Selection)
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
