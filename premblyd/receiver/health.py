"""Whether the daemon can keep a webhook now."""

import asyncio
import time
from collections.abc import Awaitable, Callable

FRESH_S = 1.0  # so that asking often costs one commit a second
PATIENCE_S = 2.0  # whoever asks waits no longer; a commit may, while another holds the lock


class Health:
    """Answers by a real commit, at most one a second.

    `failed_at` is when a commit failed last, on the monotonic clock: on a full disk a small one
    may still find room where those of webhooks do not.
    """

    def __init__(
        self, prove_commit: Callable[[], Awaitable[None]], failed_at: Callable[[], float]
    ) -> None:
        self._prove_commit = prove_commit
        self._failed_at = failed_at
        self._checked_at = float("-inf")
        self._healthy = False
        self._asking: asyncio.Task[bool] | None = None

    async def check(self) -> bool:
        """Return whether the database commits. Who asks at the same time shares one commit."""
        if time.monotonic() - self._checked_at < FRESH_S:
            return self._healthy
        if self._asking is None:
            self._asking = asyncio.create_task(self._ask())
        return await asyncio.shield(self._asking)

    async def _ask(self) -> bool:
        try:
            async with asyncio.timeout(PATIENCE_S):
                await self._prove_commit()
            self._healthy = time.monotonic() - self._failed_at() > FRESH_S
        except Exception:  # noqa: BLE001  # whatever it is, it is no health; the writer logs it
            self._healthy = False
        self._checked_at = time.monotonic()
        self._asking = None
        return self._healthy
