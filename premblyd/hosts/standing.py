"""Whether the others must still count this daemon as alive, by what it knows itself; how a claim of
its own stands; and a daemon that has its database for itself, in the place of one among others.

They take it for lost once they have not seen it beat for `lost_after`. Here that time is counted
from when a beat was asked for, which is earlier, and by a clock that counts the machine's sleep. No
clock of this machine counts how long it was paused, if it is a virtual one: the database's tells
that, as soon as it is read again.
"""

import asyncio
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from premblyd.clock import Clock
from premblyd.errors import StoreUnavailableError
from premblyd.hosts.register import Hosts
from premblyd.queue.jobs import Job
from premblyd.queue.queue import Queue

SURE = 0.5  # of lost_after: for so long after a beat a claim needs no proof
KEPT = 0.9  # and for so long hooks run on: they must have ended when others start them


class Moment(NamedTuple):
    """A time by two clocks: `clock.boot_s`, and the database's as it is known here."""

    boot_s: float
    shared_ms: int


class Standing:
    """A daemon's standing among the others. Pure: times are given."""

    def __init__(self, lost_after_s: float) -> None:
        self._sure_s = lost_after_s * SURE
        self._kept_s = lost_after_s * KEPT
        self._beaten_at_s = float("-inf")
        self._lost_at_s = float("-inf")

    def beaten(self, asked: Moment) -> None:
        """Take in that a beat counted which was asked for then."""
        self._beaten_at_s = max(self._beaten_at_s, asked.boot_s)

    def lost(self, at: Moment) -> None:
        """Take in that the others have called this daemon lost: nothing of before is sure."""
        self._lost_at_s = at.boot_s
        self._beaten_at_s = float("-inf")

    def is_sure(self, claimed: Moment, now: Moment) -> bool:
        """Return whether nobody else can have taken over what was claimed then."""
        since_s = min(claimed.boot_s, self._beaten_at_s)
        age_s = max(now.boot_s - since_s, (now.shared_ms - claimed.shared_ms) / 1000)
        return claimed.boot_s > self._lost_at_s and age_s < self._sure_s

    def has_lapsed(self, now: Moment) -> bool:
        """Return whether others may soon start what runs here: this daemon has not beaten for too
        long."""
        return now.boot_s - self._beaten_at_s >= self._kept_s


class Member(Protocol):
    """A daemon's part among the hosts: membership.Membership, or alone.Alone."""

    def now(self) -> Moment: ...

    def is_sure(self, claimed: Moment) -> bool: ...

    def proved(self, asked: Moment) -> None: ...


class OwnClaim:
    """See hooks.permit.Claim."""

    def __init__(self, job: Job, claimed_at_s: float, member: Member, queue: Queue) -> None:
        self._job = job
        self._claimed = Moment(claimed_at_s, job.started_at_ms)
        self._member = member
        self._queue = queue

    def is_sure(self) -> bool:
        return self._member.is_sure(self._claimed)

    async def prove(self) -> bool:
        asked = self._member.now()
        if not await self._queue.prove(self._job):
            return False
        self._claimed = asked
        self._member.proved(asked)
        return True


class Alone:
    """See membership.Membership. Nobody looks on: what the last daemon left is taken over by the
    next one."""

    is_leader = True

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
        """Does nothing: there is one host."""
