"""Gives what an earlier premblyd stored the plain spelling of its reference, beside other work: see
asked/naming.py."""

import asyncio
from collections.abc import Callable

from premblyd.asked.naming import Place, ReferenceKeys
from premblyd.errors import StoreUnavailableError

PAUSE_S = 0.2  # between two portions: webhooks and hooks come first
REST_S = 6 * 3600.0  # daemons of the version before may go on storing, on other hosts


class Respelling:
    """Looks at all references when the daemon starts, and again now and then."""

    def __init__(self, keys: ReferenceKeys, *, is_first: Callable[[], bool] = lambda: True) -> None:
        """`is_first`: whether this daemon is the one that does it, where several share a
        database."""
        self._keys = keys
        self._is_first = is_first

    async def run(self) -> None:
        """Look, until cancelled."""
        while True:
            if self._is_first():
                await self.walk()
            await asyncio.sleep(REST_S)

    async def walk(self) -> None:
        """Look at all of them once."""
        after: Place | None = None
        while True:
            try:
                after = await self._keys.fill(after)
            except StoreUnavailableError:
                pass  # the writer has logged it; this portion is done again
            else:
                if after is None:
                    return
            await asyncio.sleep(PAUSE_S)
