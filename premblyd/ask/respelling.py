"""Gives what an earlier premblyd stored the plain spelling of its reference, beside other work: see
asked/naming.py."""

from collections.abc import Callable

from premblyd import loops
from premblyd.asked.naming import Cursor, ReferenceKeys

PAUSE_S = 0.2  # between two portions: webhooks and hooks come first
REST_S = 6 * 3600.0  # daemons of the version before may go on storing, on other hosts


class Respelling:
    """Looks at all references when the daemon starts, and again now and then."""

    def __init__(
        self, keys: ReferenceKeys, *, is_leader: Callable[[], bool] = lambda: True
    ) -> None:
        """`is_leader`: whether this daemon is the one that does it, where several share a
        database."""
        self._keys = keys
        self._is_leader = is_leader
        self._after: Cursor | None = None

    async def run(self) -> None:
        """Look, until cancelled."""
        await loops.repeat(self.look, PAUSE_S)

    async def look(self) -> float:
        """Look at the next portion; return the seconds to wait for the one behind it."""
        if not self._is_leader():
            return REST_S
        self._after = await self._keys.fill(self._after)
        return REST_S if self._after is None else PAUSE_S
