"""Looks whether all that waits for another delivery (`order`) waits for one that will end.

premblyd itself keeps that so, in every transaction. But the database is open to other programs, and
nothing that somebody changes by hand may keep a delivery waiting for ever.
"""

from collections.abc import Callable
from typing import Any

from premblyd import loops
from premblyd.clock import Clock
from premblyd.occurrences import OrderMended
from premblyd.queue.queue import Queue
from premblyd.telemetry import tell

PAUSE_S = 60.0  # between two portions, once all was looked at after the start


class Mending:
    """Looks at all that waits when the daemon starts, and then at a portion now and then."""

    def __init__(self, queue: Queue, clock: Clock, wake: Callable[[], None]) -> None:
        """`wake` is called when something has become due."""
        self._queue = queue
        self._clock = clock
        self._wake = wake
        self._after: Any = None
        self._is_first_walk = True

    async def run(self) -> None:
        """Look, until cancelled."""
        await loops.repeat(self._round, PAUSE_S)

    async def _round(self) -> float:
        self._after = await self.look(self._after)
        self._is_first_walk = self._is_first_walk and self._after is not None
        return 0 if self._is_first_walk else PAUSE_S

    async def look(self, after: Any = None) -> Any:
        """Look at the portion that begins after `after`; None: at the first. Return where the next
        one begins; None: that was the last."""
        mended = await self._queue.mend_order(after, self._clock.now_ms())
        if mended.delivery_ids:
            tell(OrderMended(count=len(mended.delivery_ids), first=mended.delivery_ids[0]))
            self._wake()
        return mended.after
