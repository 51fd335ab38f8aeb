"""Evidence of refused requests: a row in the database and a line of the log for each, at most so
many a minute, with a hint when a path looks like a mistyped endpoint's."""

import asyncio
import functools
import hashlib
import time
from collections import defaultdict
from collections.abc import Sequence
from typing import Any
from urllib.parse import unquote

from tornado.httputil import HTTPHeaders

from premblyd.config.models import Endpoint
from premblyd.ground.telemetry import tell
from premblyd.ground.times import Clock
from premblyd.ground.words import counted
from premblyd.prembly import signature
from premblyd.queue.inbox import Inbox
from premblyd.queue.rejections import ConnectionFault, NewRejection

MINUTE_S = 60


class Quota:
    """Allows something `per_minute` times a minute, and counts the excess. A minute begins with the
    first request after the last one has passed."""

    def __init__(self, per_minute: int) -> None:
        self._per_minute = per_minute
        self._minute_began = float("-inf")
        self._count = 0
        self._excess = 0

    def allows(self, now: float) -> bool:
        """Count once more; return whether that is within the quota of this minute."""
        if now - self._minute_began >= MINUTE_S:
            self._minute_began, self._count = now, 0
        self._count += 1
        if self._count > self._per_minute:
            self._excess += 1
        return self._count <= self._per_minute

    def take_excess(self, now: float) -> int:
        """Return how many were beyond the quota, after their minute, and forget them."""
        if not self._excess or now - self._minute_began < MINUTE_S:
            return 0
        excess, self._excess = self._excess, 0
        return excess


MAX_TYPOS = 3  # characters in which a path may differ and still be meant for an endpoint


def difference(path: str, endpoints: Sequence[Endpoint]) -> str | None:
    """Return in words how `path` differs from the endpoint's that it resembles, or None. Neither
    is quoted."""
    for endpoint in endpoints:
        if found := _difference(path, endpoint.path):
            return found.format(f"endpoint {endpoint.name}'s path")
    return None


def _difference(path: str, right: str) -> str | None:
    if path.rstrip("/") == right.rstrip("/"):
        return "differs from {} by a trailing slash"
    if path.casefold() == right.casefold():
        return "differs from {} in upper and lower case"
    if unquote(path) == right or path.replace("//", "/") == right:
        return "is {} written in another way: percent signs or doubled slashes"
    if path.startswith(right.rstrip("/") + "/"):
        return "goes on after {}"
    if path.endswith(right):
        return "has something before {}: does the proxy pass on its own prefix?"
    if len(path) > 1 and right.endswith(path):
        return "is the end of {}: does the proxy cut off the beginning?"
    if len(path) > 1 and right.startswith(path.rstrip("/") + "/"):
        return "is the beginning of {}"
    start = _same_characters(path, right)
    end = _same_characters(path[start:][::-1], right[start:][::-1])
    differing_characters = max(len(path), len(right)) - start - end
    if differing_characters <= min(MAX_TYPOS, len(right) // 3):
        return f"differs from {{}} by no more than {counted(differing_characters, 'character')}"
    return None


def _same_characters(text: str, other: str) -> int:
    """Return with how many characters both begin."""
    pairs = zip(text, other, strict=False)
    return next((n for n, (a, b) in enumerate(pairs) if a != b), min(len(text), len(other)))


TRY_EVERY_S = 1  # for an endpoint: whether a refused signature is right in another form
MOST_TRIED_BYTES = 256 << 10  # of its body
MAX_WAITING = 1000  # rejections not yet stored; more are only logged
LINES_PER_MINUTE = 20  # of each kind that anybody at all can cause; so many rows, too
METHODS = frozenset("GET HEAD POST PUT PATCH DELETE OPTIONS".split())


class Evidence:
    """Logs and keeps rejections; of noise, LINES_PER_MINUTE of each kind."""

    def __init__(self, inbox: Inbox, clock: Clock) -> None:
        self._inbox = inbox
        self._clock = clock
        self._waiting = 0  # rejections that are not stored yet
        # By names of ours, never by a text of the sender: so there are few.
        self._tried: dict[str, float] = {}  # when another form was, by endpoint
        self._quotas: defaultdict[str, Quota] = defaultdict(lambda: Quota(LINES_PER_MINUTE))

    def configure(self, endpoints: Sequence[Endpoint]) -> None:
        """Know these endpoints from now on."""
        self._endpoints = endpoints

    def reject(
        self,
        reason: str,
        *,
        remote_ip: str,
        endpoint: str = "",
        body: bytes | None = None,
        body_bytes: int | None = None,
        quota: str | None = None,
        form: str | None = None,
        **seen: Any,
    ) -> None:
        """Log a refused request, with what else was `seen`, and keep it, without waiting for the
        disk. What anybody at all can cause has a quota, by its reason if no other is said; one of
        too many is counted alone. `form`: in which form its signature would be right."""
        if isinstance(reason, ConnectionFault):
            quota = quota or reason
        is_kept = quota is None or self._is_within_quota(quota)
        reason = str(reason)
        tell(
            "webhook.rejected",
            endpoint=endpoint,
            remote_ip=remote_ip,
            reason=reason,
            body_bytes=body_bytes,
            is_logged=is_kept,
            **seen,
        )
        if not is_kept or self._waiting >= MAX_WAITING:
            return
        self._waiting += 1
        kept = self._inbox.reject(
            NewRejection(
                at_ms=self._clock.now_ms(),
                endpoint=endpoint,
                remote_ip=remote_ip,
                reason=reason,
                body_bytes=body_bytes,
                body_sha256=None if body is None else hashlib.sha256(body).digest(),
                hint=form,
            )
        )
        kept.add_done_callback(functools.partial(self._kept, endpoint))

    def right_form(self, endpoint: Endpoint, headers: HTTPHeaders, body: bytes) -> str | None:
        """Return the line that has an endpoint take the form in which a refused webhook is signed
        by one of its keys, in words; None: there is none. Tried once a second for an endpoint."""
        now = time.monotonic()
        if endpoint.scheme == "public-key" or len(body) > MOST_TRIED_BYTES:
            return None
        if now - self._tried.get(endpoint.name, float("-inf")) < TRY_EVERY_S:
            return None
        self._tried[endpoint.name] = now
        found = signature.right_form(body, headers, endpoint.key_texts, endpoint.forms)
        if found is None:
            return None
        form, key = found
        return f"signed in another form by key {key}; to take it: {endpoint.taking(form)}"

    def wrong_method(self, method: str, allowed: str, endpoint: str, remote_ip: str) -> None:
        """Reject a request to a path of ours with a method that it does not take."""
        self.reject(
            ConnectionFault.METHOD_NOT_ALLOWED,
            endpoint=endpoint,
            remote_ip=remote_ip,
            method=_known_method(method),
            hint=f"takes {allowed}" + (": a redirect makes GET of POST" if endpoint else ""),
        )

    def no_such_path(self, path: str, method: str, remote_ip: str) -> None:
        """Reject a request to a path that is no endpoint's. The path itself is not shown: one that
        is nearly right is nearly a secret."""
        hint = difference(path, self._endpoints)
        self.reject(
            ConnectionFault.NO_SUCH_PATH,
            remote_ip=remote_ip,
            method=_known_method(method),
            path_characters=len(path),
            hint=hint or "unlike every endpoint's path",
            # Nearly right paths have a quota of their own, which no scan for paths can use up.
            quota="nearly right" if hint else None,
        )

    def overloaded(self, limit: str, remote_ip: str) -> None:
        """Log that a webhook was turned away; keep nothing, as its sender did nothing wrong."""
        tell(
            "webhook.overloaded",
            limit=limit,
            remote_ip=remote_ip,
            is_logged=self._is_within_quota("overloaded"),
        )

    def unavailable(self, endpoint: str, remote_ip: str, after_ms: int | None = None) -> None:
        """Log that a webhook was turned away because it could not be stored, or not `after_ms`."""
        tell(
            "webhook.unavailable",
            endpoint=endpoint,
            remote_ip=remote_ip,
            after_ms=after_ms,
            is_logged=self._is_within_quota("unavailable"),
        )

    def tell_omitted(self, now: float) -> None:
        """Log how many rejections were not logged, after their minute."""
        for kind, quota in self._quotas.items():
            if count := quota.take_excess(now):
                tell("webhook.not_logged", kind=kind, count=count)

    def _is_within_quota(self, kind: str) -> bool:
        return self._quotas[kind].allows(time.monotonic())

    def _kept(self, endpoint: str, kept: "asyncio.Future[str | None]") -> None:
        self._waiting -= 1
        # The writer has logged why it could not be kept.
        if not kept.cancelled() and kept.exception() is None and (hint := kept.result()):
            tell("webhook.other_form", endpoint=endpoint, hint=hint)


def _known_method(method: str) -> str:
    """Return `method` if HTTP has it, else `other`: the log holds no text that a sender chose."""
    return method if method in METHODS else "other"
