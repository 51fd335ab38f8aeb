"""The dispatcher: claims due deliveries and runs their hooks until each has ended.

Every action has its own slots, so a slow or failing one delays no other.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Sequence
from dataclasses import replace
from typing import Protocol

from premblyd.config.models import Action, Retry
from premblyd.ground import loops
from premblyd.ground.errors import StoreUnavailableError
from premblyd.ground.privacy import safe_id
from premblyd.ground.telemetry import tell
from premblyd.ground.times import JUMP_MS, Clock, boot_s
from premblyd.queue.jobs import Claimed, Ending, Job, Result, Room
from premblyd.queue.queue import Queue, claimable
from premblyd.queue.shares import counted_bytes
from premblyd.run.kinds import Runners, of_job
from premblyd.run.starting import Permit, Permits, lacking, what_is_lacking
from premblyd.store.states import AttemptOutcome, State

POLL_S = 1.0  # how soon a replay or cancel by another process is noticed
STORE_PAUSE_S = 1.0
LEASE_MARGIN_MS = 60_000  # for the kill, and for storing the result


class Gate(Protocol):
    """Stands before hooks, and decides about each whether it runs."""

    @property
    def room(self) -> int:
        """How many hooks of an action it can decide about now: deliveries beyond that stay in the
        queue."""

    def is_before(self, action: Action) -> bool:
        """Return whether it stands before the hook of `action`."""

    async def judge(self, job: Job, action: Action) -> Job | Result:
        """Return the job with which the hook may run: its event's facts may be others by now. Or
        return how the run ends without the hook. Never raise for what is against an event."""


class Actions:
    """The actions of a configuration, with what the queue needs to know of each. Of thousands it is
    made beside the loop, and once: no claim looks at them all."""

    def __init__(self, actions: Sequence[Action], gates: Sequence[Gate] = ()) -> None:
        self.by_name = {action.name: action for action in actions}
        before = {a.name: [gate for gate in gates if gate.is_before(a)] for a in actions}
        self.gates = {name: its for name, its in before.items() if its}  # in their order
        self.used_gates = {gate for its in self.gates.values() for gate in its}
        self.claimable = {
            action.name: claimable(
                action,
                action.hook.longest_ms + LEASE_MARGIN_MS,
                is_gated=action.name in self.gates,
            )
            for action in actions
        }


class Dispatcher:
    """Runs due deliveries. `run` it as one task; `wake` it when there may be something new."""

    def __init__(
        self,
        queue: Queue,
        runners: Runners,
        clock: Clock,
        rng: random.Random,
        permits: Permits = lambda *_: Permit(),
    ) -> None:
        self._queue = queue
        self._wake = asyncio.Event()
        self._permits = permits
        self._runners = runners
        self._clock = clock
        self._rng = rng
        self._actions = Actions(())
        self._limit = 0
        self._max_bytes = 0
        self._running: dict[int, asyncio.Task[None]] = {}
        self.permitted: dict[str, Permit] = {}  # of hooks that run, by the tokens of their claims
        self._busy: Counter[str] = Counter()
        self._busy_bytes: Counter[str] = Counter()  # of the large bodies of running hooks
        self._stopping = False
        self._claim_failed = False
        self._claiming = asyncio.Lock()
        self._end_count = 0  # of runs
        self._others_wait = True  # as far as the last claim saw: for a slot, or for room
        self._jump_ms = 0  # how far the clock was set, as long as due times are not moved by it
        self._jumped_at_ms = 0
        self.last_round_ms = clock.now_ms()

    @property
    def running(self) -> int:
        """How many hooks run now."""
        return len(self._running)

    def configure(self, actions: Actions, limit: int, max_bytes: int) -> None:
        """Use these actions from the next claim on; running hooks end as they began. At most
        `limit` run at once, and their bodies, small ones apart, have at most `max_bytes`."""
        self._actions = actions
        self._limit = limit
        self._max_bytes = max_bytes
        self.wake()

    def wake(self) -> None:
        """Look for due deliveries now."""
        self._wake.set()

    async def run(self) -> None:
        """Claim and start hooks until `stop`. After a round that fails, pause and go on."""
        await loops.repeat(self._round, STORE_PAUSE_S, wake=self._wake, failed="dispatcher.failed")

    async def stop(self, timeout_s: float) -> None:
        """Claim no more and let running hooks end. After `timeout_s`, interrupt those that still
        run; their deliveries stay pending."""
        self._stopping = True
        self.wake()
        async with self._claiming:  # what is claimed by now has an open attempt, and must run
            pass
        if self._running:
            await asyncio.wait(self._running.values(), timeout=timeout_s)
        if self._running:
            tell("daemon.hooks_interrupted", count=len(self._running))
            self._runners.interrupt()
            await asyncio.wait(self._running.values())

    async def _round(self) -> float | None:
        if self._stopping:
            return None
        jump = self._jump_ms + self._clock.jumped_ms()
        if jump != self._jump_ms:  # drift adds up, or a clock that stands still would be none
            self._jump_ms, self._jumped_at_ms = jump, self._clock.now_ms()
        if abs(jump) > JUMP_MS:
            # A delay is a duration: setting the clock must not shorten or stretch it.
            await self._queue.shift(jump, self._jumped_at_ms, self._clock.now_ms)
            self._jump_ms = 0
            tell("clock.jumped", by_ms=jump)
        now_ms = self._clock.now_ms()
        self.last_round_ms = now_ms
        if self._limit <= self._busy.total():
            self._others_wait = True  # perhaps
            return POLL_S
        end_count = self._end_count
        claimed = await self._claim(now_ms)
        next_due_ms = claimed.next_due_ms
        is_due = next_due_ms is not None and next_due_ms <= now_ms
        # It would be claimed once a hook ends.
        self._others_wait = is_due or claimed.passed > 0 or claimed.has_more or claimed.is_full
        if self._others_wait and self._end_count > end_count:
            self.wake()  # a run has ended since, and thought that nobody waits
        goes_on = bool(claimed.jobs or claimed.passed or claimed.has_more)
        if next_due_ms is None or (is_due and not goes_on):
            return POLL_S  # nothing waits but what runs here already or finds no room
        return min(POLL_S, max(0.0, (next_due_ms - self._clock.now_ms()) / 1000))

    async def _claim(self, now_ms: int) -> Claimed:
        async with self._claiming:
            if self._stopping:
                return Claimed([], None)
            running = frozenset(self._running)
            if self._claim_failed and not await self._queue.release_unstarted(running, now_ms):
                return Claimed([], None)
            actions = self._actions
            room = Room(
                limit=self._limit - self._busy.total(),
                running=frozenset(self._running),
                hooks=dict(self._busy),
                held_bytes=dict(self._busy_bytes),
                max_bytes=self._max_bytes,
                gates=min((gate.room for gate in actions.used_gates), default=0),
            )
            self._claim_failed = True  # until all that is claimed has begun
            asked_at_s = boot_s()
            claimed = await self._queue.claim(actions.claimable, room, now_ms)
            for job in claimed.jobs:
                self._begin(actions, job, asked_at_s)
            self._claim_failed = False
        return claimed

    def _begin(self, actions: Actions, job: Job, asked_at_s: float) -> None:
        """Start the hook of `job`. From here on the runner alone has the body, which may be large,
        and lets it go as soon as it can."""
        cost = counted_bytes(len(job.event.body))
        bodiless = replace(job, event=replace(job.event, body=b""))
        permit = self._permits(bodiless, asked_at_s)
        action = actions.by_name[job.action]
        run = self._run(action, actions.gates.get(job.action), job, permit)
        job = bodiless
        task = asyncio.create_task(self._work(action, job, run, permit, cost))
        # Counted once it can't fail any more; the task itself begins only later.
        self._running[job.delivery_id] = task
        self._busy[job.action] += 1
        self._busy_bytes[job.action] += cost
        self.permitted[job.claim_token] = permit

    async def _run(
        self, action: Action, gates: Sequence[Gate] | None, job: Job, permit: Permit
    ) -> Result:
        """Run the hook of `job`, if it passes the gates."""
        try:
            judged = await _judge(gates, job, action) if gates else job
            if isinstance(judged, Result):
                return judged
            run = self._runners.run(action.hook, of_job(judged, permit))
            del job, judged  # so that the body is not kept longer than the runner needs it
            return await run
        # A runner's own fault must spend this attempt, and not the daemon.
        except Exception as error:  # noqa: BLE001
            tell("runner.failed", action=action.name, cause=error)
            if what := what_is_lacking(error):
                return lacking(what)
            return Result(
                outcome=AttemptOutcome.FAILED, error=f"premblyd failed: {type(error).__name__}"
            )

    async def _work(
        self, action: Action, job: Job, run: Awaitable[Result], permit: Permit, cost: int
    ) -> None:
        """See the hook of `job` through."""
        started_ms = self._clock.now_ms()
        runs_again = False
        try:
            result = permit.judged(await run)
            self._has_ended(job, cost)
            now_ms = self._clock.now_ms()
            ending = ending_of(job, result, action.retry, now_ms=now_ms, rng=self._rng)
            if await self._finish(job, result, ending):
                _tell_finished(job, result, ending, now_ms - started_ms)
                runs_again = ending.due_at_ms is not None
            else:
                tell("attempt.lease_lost", delivery=job.delivery_id, attempt=job.attempt)
        except Exception as error:  # noqa: BLE001  # ours: the other hooks go on
            tell("dispatcher.failed", action=job.action, cause=error)
        finally:
            del self._running[job.delivery_id]
        if runs_again:
            self.wake()  # until now no claim took it, as if it still ran

    def _has_ended(self, job: Job, cost: int) -> None:
        """Have the room again that a hook took."""
        del self.permitted[job.claim_token]
        self._busy[job.action] -= 1
        self._busy_bytes[job.action] -= cost
        if not self._busy[job.action]:  # no claim has to look at it
            del self._busy[job.action], self._busy_bytes[job.action]
        self._end_count += 1
        if self._others_wait or job.group is not None:
            self.wake()  # now: the next claim joins the transaction that stores this result

    async def _finish(self, job: Job, result: Result, ending: Ending) -> bool:
        """Store the result, however long the database needs: the hook has run."""
        while True:
            try:
                return await self._queue.finish(job, result, ending)
            except StoreUnavailableError:
                if self._stopping:
                    return False  # the attempt stays open, and runs again after the next start
                await asyncio.sleep(STORE_PAUSE_S)


async def _judge(gates: Sequence[Gate], job: Job, action: Action) -> Job | Result:
    """Ask one gate after the other. The first result ends it."""
    for gate in gates:
        judged = await gate.judge(job, action)
        if isinstance(judged, Result):
            return judged
        job = judged
    return job


def _tell_finished(job: Job, result: Result, ending: Ending, duration_ms: int) -> None:
    tell(
        "attempt.finished",
        event_id=job.event.id,
        delivery=job.delivery_id,
        action=job.action,
        attempt=job.attempt,
        outcome=str(result.outcome),
        state=str(ending.state),
        exit_code=result.exit_code,
        http_status=result.http_status,
        error=result.error,
        reference=safe_id(job.event.verdict.reference),
        duration_ms=duration_ms,
        trace_id=job.event.trace_id,
    )


MAX_RETRY_AFTER_MS = 24 * 3_600_000  # a target's Retry-After may delay a delivery, not stop it


def ending_of(
    job: Job, result: Result, policy: Retry, *, now_ms: int, rng: random.Random
) -> Ending:
    """Return what becomes of the delivery of `job`, whose hook ended now with `result`.

    It has succeeded; or its hook runs again; or it is dead, because that can't help or no
    attempt is left; or it is cancelled or skipped, because another event is run for instead. An
    interrupted run costs no attempt, and is due again at once, or after the time that its result
    asks for.
    """
    interrupted = result.outcome is AttemptOutcome.INTERRUPTED
    attempts_left = job.attempts_left + 1 if interrupted else job.attempts_left
    wait_ms = None
    if result.outcome is AttemptOutcome.SUCCEEDED:
        state = State.SUCCEEDED
    elif result.ends_as is not None:
        state = result.ends_as
    elif result.final or attempts_left <= 0:
        state = State.DEAD
    elif interrupted:
        state, wait_ms = State.PENDING, round(result.retry_after_s * 1000)
    else:
        state, wait_ms = State.PENDING, _wait_ms(policy, attempts_left, result, rng)
    due_at_ms = None if wait_ms is None else now_ms + wait_ms
    return Ending(state=state, at_ms=now_ms, due_at_ms=due_at_ms, attempts_left=attempts_left)


def _wait_ms(policy: Retry, attempts_left: int, result: Result, rng: random.Random) -> int:
    """Return how long a failed hook waits: with full jitter between half and the whole of the
    delay, so that what failed together does not come back together. `Retry-After` lengthens it."""
    failures = max(1, policy.attempts - attempts_left)
    grown = policy.first_delay_ms * policy.factor ** min(failures - 1, 100)  # no more fits a float
    whole = min(grown, policy.max_delay_ms)
    asked = min(result.retry_after_s * 1000, MAX_RETRY_AFTER_MS)
    return round(max(rng.uniform(whole / 2, whole), asked))
