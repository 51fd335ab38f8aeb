"""What stands before the hooks of actions with `confirm`: somebody who finds out whether the event
is true. The daemon decides who that is."""

from typing import Protocol

from premblyd.config.models import Action
from premblyd.model.states import AttemptOutcome
from premblyd.queue.jobs import Job, Result


class Gate(Protocol):
    """Lets a hook run, or says how its run ends without it."""

    @property
    def room(self) -> int:
        """How many hooks of an action it can decide about now: deliveries beyond that stay in the
        queue."""

    async def judge(self, job: Job, action: Action) -> Job | Result:
        """Return the job with which the hook may run, which is on record then: its event's facts
        are as they were confirmed. Or return how the run ends without it. Never raise for an event
        that is not true."""

    def interrupt(self) -> None:
        """Decide about nothing more: the daemon stops. Who waits gets a result that costs no
        attempt."""


class ClosedGate:
    """Lets no hook pass: there is nobody who can tell whether an event is true."""

    room = 0

    async def judge(self, job: Job, action: Action) -> Job | Result:
        return Result(
            outcome=AttemptOutcome.INTERRUPTED, error="nobody can be asked whether it is true"
        )

    def interrupt(self) -> None: ...
