"""What every exchange works with: one set for the whole receiver; and whether the daemon can keep a
webhook now."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from premblyd.clock import Clock
from premblyd.config.models import Config, Endpoint
from premblyd.queue.inbox import Inbox
from premblyd.receive.evidence import Evidence
from premblyd.receive.load import Load
from premblyd.receive.recognition import Recogniser
from premblyd.routing import Routing

FRESH_S = 1.0  # how long a result counts, so that asking often costs one commit a second
PATIENCE_S = 2.0  # how long a commit may take: another program may lock the database meanwhile


class Health:
    """Answers by a real commit of what a webhook needs, at most one a second.

    `failed_at` is when a commit failed last, on the monotonic clock: on a full disk a small one
    may still find room where those of webhooks do not.
    """

    def __init__(
        self, prove_commit: Callable[[], Awaitable[None]], failed_at: Callable[[], float]
    ) -> None:
        self._prove_commit = prove_commit
        self._failed_at = failed_at
        self._checked_at = float("-inf")
        self._check: asyncio.Task[bool] | None = None  # the last one

    def check(self) -> asyncio.Task[bool]:
        """Return whether webhooks can be stored. All who ask within FRESH_S share one commit."""
        is_fresh = time.monotonic() - self._checked_at < FRESH_S
        if self._check is None or (self._check.done() and not is_fresh):
            self._check = asyncio.create_task(self._commit())
        return self._check

    async def _commit(self) -> bool:
        try:
            async with asyncio.timeout(PATIENCE_S):
                await self._prove_commit()
            return time.monotonic() - self._failed_at() > FRESH_S
        except Exception:  # noqa: BLE001  # whatever it is, it is no health; the writer logs it
            return False
        finally:
            self._checked_at = time.monotonic()


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The configuration as exchanges use it. A reload makes another one, and an exchange keeps
    the one that it began with."""

    config: Config
    endpoints: Mapping[str, Endpoint]  # by path
    routing: Routing


@dataclass(slots=True, kw_only=True)
class Services:
    """The receiver's parts, as it gives them to each exchange."""

    inbox: Inbox
    health: Health
    clock: Clock
    load: Load
    evidence: Evidence
    recogniser: Recogniser
    wake: Callable[[], None]  # tells the dispatcher that there are deliveries
    settings: Settings = field(init=False)
    is_stopping: bool = False  # every answer asks its client to close the connection
