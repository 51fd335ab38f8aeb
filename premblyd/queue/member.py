"""What a daemon knows of others on its database, where there are none."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from premblyd.ground.errors import StoreUnavailableError
from premblyd.ground.times import Clock, boot_s
from premblyd.queue.jobs import Job
from premblyd.queue.queue import Queue
from premblyd.queue.register import Hosts

SURE_S = 1.0  # after it was claimed, or that proved: meanwhile its person may have been erased


@dataclass(frozen=True, slots=True, kw_only=True)
class AboutHost:
    """What the configuration says of this host. `lost_after_ms`: after so long of silence others
    count it as lost."""

    name: str | None = None
    lost_after_ms: int = 0


class OwnClaim:
    """A claim of this daemon's own, as its hook asks for it: see run.starting.Claim. No other
    daemon can have taken it over."""

    def __init__(self, queue: Queue, job: Job, claimed_at_s: float) -> None:
        self._queue = queue
        self._job = job
        self._sure_since_s = claimed_at_s

    def is_sure(self) -> bool:
        return boot_s() - self._sure_since_s < SURE_S

    async def prove(self) -> bool:
        asked_at_s = boot_s()
        if not await self._queue.prove(self._job):
            return False
        self._sure_since_s = asked_at_s
        return True


class Member:
    """A daemon's part among those on its database: `join`, `run` as a loop, `leave` whatever has
    happened. This one is alone: what the last daemon left, the next one takes over."""

    is_leader = True  # whether it is the one that does what is to be done once

    def __init__(self, hosts: Hosts, queue: Queue, clock: Clock) -> None:
        self._hosts = hosts
        self._queue = queue
        self._clock = clock

    def configure(self, actions: Sequence[str]) -> None:
        """Have the actions of these names from now on."""

    def claim(self, job: Job, claimed_at_s: float) -> OwnClaim:
        """Return the claim of `job`, which was asked for then (boot_s)."""
        return OwnClaim(self._queue, job, claimed_at_s)

    async def join(self) -> list[int]:
        """Begin. Return which deliveries are due because their daemon is dead: this daemon's own
        predecessor, say. Raise StoreUnavailableError when the database can't."""
        return await self._hosts.join_alone(self._clock.now_ms())

    async def run(self) -> None:
        """Know what the others do, until the daemon ends."""
        await asyncio.Event().wait()

    async def leave(self) -> None:
        """Keep that this daemon has stopped: what could not be finished here is due at once."""
        try:
            await self._hosts.leave(self._clock.now_ms())
        except StoreUnavailableError:  # the writer has logged it; who takes over knows
            return

    def announce(self) -> None:
        """Tell the other hosts that deliveries are due, soon."""
