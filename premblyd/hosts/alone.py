"""A daemon that has its database for itself, in the place of one among others."""

import asyncio
from collections.abc import Sequence

from premblyd.clock import Clock
from premblyd.errors import StoreUnavailableError
from premblyd.hosts.register import Hosts
from premblyd.hosts.standing import Moment
from premblyd.queue.queue import Queue


class Alone:
    """See membership.Membership. Nobody looks on: what the last daemon left is taken over by the
    next one."""

    is_first = True

    def __init__(self, hosts: Hosts, queue: Queue, clock: Clock) -> None:
        self._hosts = hosts
        self._queue = queue
        self._clock = clock

    def configure(self, actions: Sequence[str]) -> None:
        """Nobody asks which actions these are."""
        del actions

    def now(self) -> Moment:
        return Moment(0, 0)

    def is_sure(self, claimed: Moment) -> bool:
        """Return that nobody can have taken anything over."""
        del claimed
        return True

    def proved(self, asked: Moment) -> None:
        """Nobody is told."""
        del asked

    async def join(self) -> list[int]:
        """Begin. Return which deliveries are due because the last daemon died. Raise
        StoreUnavailableError when the database can't."""
        now_ms = self._clock.now_ms()
        interrupted, _ = await asyncio.gather(
            self._queue.recover(now_ms), self._hosts.join_alone(now_ms)
        )
        return interrupted

    async def run(self) -> None:
        """Wait until the daemon ends."""
        await asyncio.Event().wait()

    async def leave(self) -> None:
        """Keep that this daemon has stopped."""
        try:
            await self._hosts.leave(self._clock.now_ms())
        except StoreUnavailableError:  # the writer has logged it; the next start recovers
            return

    def announce(self) -> None:
        """Tell nobody."""
