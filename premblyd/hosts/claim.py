"""A claim of this daemon's own, as it stands among the other hosts."""

from typing import Protocol

from premblyd.hosts.standing import Moment
from premblyd.queue.jobs import Job
from premblyd.queue.queue import Queue


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
