"""Evidence of requests that were refused: a row in the database and a line of the log for each."""

import asyncio
import hashlib
import time
from collections import defaultdict
from collections.abc import Sequence

from premblyd.clock import Clock
from premblyd.config.models import Endpoint
from premblyd.occurrences import (
    RejectionsNotLogged,
    WebhookOverloaded,
    WebhookRejected,
)
from premblyd.receiver.quota import Quota
from premblyd.receiver.wrongpath import difference
from premblyd.store.inbox import Inbox, NewRejection, Stray
from premblyd.telemetry import tell

MAX_WAITING = 1000  # rejections not yet stored; more are only logged
LINES_A_MINUTE = 20  # of each kind that anybody at all can cause
METHODS = frozenset("GET HEAD POST PUT PATCH DELETE OPTIONS".split())


class Evidence:
    """Keeps and tells what was refused; of what anybody at all can cause, so much a minute."""

    def __init__(self, inbox: Inbox, clock: Clock) -> None:
        self._inbox = inbox
        self._clock = clock
        self._waiting = 0  # rejections that are not stored yet
        # By kinds that we name, so that there are few.
        self._lines: defaultdict[str, Quota] = defaultdict(lambda: Quota(LINES_A_MINUTE))

    def configure(self, endpoints: Sequence[Endpoint]) -> None:
        """Know these endpoints from now on."""
        self._endpoints = endpoints

    def reject(
        self,
        *,
        endpoint: str,
        remote_ip: str,
        reason: str,
        body: bytes | None = None,
        body_bytes: int | None = None,
        method: str | None = None,
        path_characters: int | None = None,
        hint: str | None = None,
    ) -> None:
        """Log a refused request and keep it, without waiting for the disk."""
        tell(
            WebhookRejected(
                endpoint=endpoint,
                remote_ip=remote_ip,
                reason=reason,
                body_bytes=body_bytes,
                method=method,
                path_characters=path_characters,
                hint=hint,
            )
        )
        if self._waiting >= MAX_WAITING:
            return
        self._waiting += 1
        kept = self._inbox.reject(
            NewRejection(
                at_ms=self._clock.now_ms(),
                endpoint=endpoint,
                remote_ip=remote_ip,
                reason=reason,
                body_bytes=body_bytes,
                body_sha256=None if body is None else hashlib.sha256(body).hexdigest(),
            )
        )
        kept.add_done_callback(self._kept)

    def stray(
        self, reason: Stray, *, remote_ip: str, endpoint: str, body_bytes: int | None
    ) -> None:
        """Log and keep what anybody at all can cause."""
        if self._lines[reason].allows(time.monotonic()):
            self.reject(
                endpoint=endpoint, remote_ip=remote_ip, reason=reason.value, body_bytes=body_bytes
            )

    def wrong_method(self, method: str, allowed: str, endpoint: str, remote_ip: str) -> None:
        """Log and keep a request to a path of ours that is no webhook."""
        if self._lines[Stray.METHOD_NOT_ALLOWED].allows(time.monotonic()):
            self.reject(
                endpoint=endpoint,
                remote_ip=remote_ip,
                reason=Stray.METHOD_NOT_ALLOWED.value,
                method=_known(method),
                hint=f"takes {allowed}" + (": a redirect makes GET of POST" if endpoint else ""),
            )

    def no_such_path(self, path: str, method: str, remote_ip: str) -> None:
        """Log and keep a request to a path that is no endpoint's. The path itself is not shown: one
        that is nearly right is nearly a secret."""
        hint = difference(path, self._endpoints)
        # A quota of its own: a scanner of paths must not use up that of a nearly right one.
        if self._lines["nearly right" if hint else Stray.NO_SUCH_PATH].allows(time.monotonic()):
            self.reject(
                endpoint="",
                remote_ip=remote_ip,
                reason=Stray.NO_SUCH_PATH.value,
                method=_known(method),
                path_characters=len(path),
                hint=hint or "unlike every endpoint's path",
            )

    def overloaded(self, limit: str, remote_ip: str) -> None:
        """Log, and keep nothing: the sender did nothing wrong."""
        if self._lines["overloaded"].allows(time.monotonic()):
            tell(WebhookOverloaded(limit=limit, remote_ip=remote_ip))

    def tell_omitted(self, now: float) -> None:
        """Log how many lines were left out, once their minute is over."""
        for kind, lines in self._lines.items():
            if count := lines.take_excess(now):
                tell(RejectionsNotLogged(kind=kind, count=count))

    def _kept(self, kept: "asyncio.Future[None]") -> None:
        self._waiting -= 1
        kept.exception()  # the writer has logged it


def _known(method: str) -> str:
    """Return `method` for the log, where no text of a stranger goes."""
    return method if method in METHODS else "other"
