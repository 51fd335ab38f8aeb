"""Hooks: processes that go on when the daemon dies, and what becomes of them by a script."""

import asyncio
import random
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any

from premblyd.config.models import Config, Endpoint
from premblyd.queue.jobs import Result
from premblyd.run.kinds import Invocation
from premblyd.run.process import Children, Mark, mark_of
from premblyd.run.starting import LackError, Patience
from premblyd.store.states import AttemptOutcome
from tests.sim.virtual import Time

KILLED = Result(outcome=AttemptOutcome.FAILED, exit_code=-9, error="killed")


@dataclass(eq=False)
class Run:
    """One process of a hook. `succeeds`: when it comes to its end."""

    action: str
    event: int
    delivery: int
    attempt: int
    environment: dict[str, Any]
    body: bytes
    began_s: float
    succeeds: bool
    life: int  # of the daemon that began it
    host: int  # where it runs
    ended_s: float | None = None
    succeeded_s: float | None = None
    over: "asyncio.Future[None] | None" = None  # the daemon that waits for it

    @property
    def mark(self) -> Mark | None:
        return mark_of({name: str(value) for name, value in self.environment.items()})


@dataclass
class Script:
    """What hooks do. `begins` and `ended` are told."""

    time: Time
    rng: random.Random
    begins: Callable[[Run], None]
    ended: Callable[[Run], None]
    bad: float = 0.0  # how many of them fail
    lacks: float = 0.0  # how often the machine can't start one
    slow: float = 0.0  # how many take long
    runs: list[Run] = field(default_factory=list)
    life: int = 0
    host: int = 0

    @property
    def running(self) -> list[Run]:
        """What runs on this host."""
        return [run for run in self.runs[-200:] if run.ended_s is None and run.host == self.host]

    def start(self, invocation: Invocation) -> tuple[Run, Result]:
        told = invocation.environment
        result = self._result()
        run = Run(
            action=invocation.action,
            event=int(str(told["PREMBLY_EVENT"])),
            delivery=int(str(told["PREMBLY_DELIVERY"])),
            attempt=int(str(told["PREMBLY_ATTEMPT"])),
            environment=dict(told),
            body=invocation.body,
            began_s=self.time.now_s,
            succeeds=result.outcome is AttemptOutcome.SUCCEEDED,
            life=self.life,
            host=self.host,
        )
        self.runs.append(run)
        self.begins(run)
        takes_s = self.rng.choice((0.01, 0.3, 2.0))
        if self.rng.random() < self.slow:
            takes_s = self.rng.choice((15.0, 70.0, 1e9))
        self.time.at(takes_s, lambda: self._ends(run))
        return run, result

    def _result(self) -> Result:
        if self.rng.random() >= self.bad:
            return Result(outcome=AttemptOutcome.SUCCEEDED, exit_code=0)
        match self.rng.randrange(6):
            case 0:
                return Result(outcome=AttemptOutcome.FAILED, exit_code=127, error="?", final=True)
            case 1:
                return KILLED
            case 2:
                return Result(outcome=AttemptOutcome.FAILED, http_status=503, retry_after_s=90)
            case _:
                return Result(outcome=AttemptOutcome.FAILED, exit_code=1, output="no")

    def _ends(self, run: Run) -> None:
        if run.ended_s is None:
            run.succeeded_s = self.time.now_s if run.succeeds else None
            self.kill(run)

    def kill(self, run: Run) -> None:
        if run.ended_s is None:
            run.ended_s = self.time.now_s
            self.ended(run)
        if run.over is not None and not run.over.done():
            run.over.set_result(None)

    def kill_marked(self, marks: Collection[Mark]) -> int:
        found = [run for run in self.running if run.mark in marks]
        for run in found:
            self.kill(run)
        return len(found)


class Runner:
    """See premblyd.run.kinds.Runner."""

    script: Script

    def __init__(self, children: Children) -> None:
        del children
        self._patience = Patience()
        self._stopping = asyncio.Event()

    def configure(self, settings: Config) -> None: ...

    async def run(self, hook: Any, invocation: Invocation) -> Result:
        return await self._patience.run(
            invocation.permit, lambda: self._start(hook.timeout_ms / 1000, invocation)
        )

    async def _start(self, timeout_s: float, invocation: Invocation) -> Result:
        script = self.script
        if script.rng.random() < script.lacks:
            raise LackError("processes")
        await asyncio.sleep(
            script.rng.choice((0, 0, 0, 0.005, 0.4, 1.5, 6.0))
        )  # until a thread is free
        invocation.permit.require()
        run, result = script.start(invocation)
        run.over = asyncio.get_running_loop().create_future()
        with invocation.permit.ends_by(lambda: script.kill(run)):
            stopping = asyncio.ensure_future(self._stopping.wait())
            ends: list[asyncio.Future[Any]] = [run.over, stopping]
            await asyncio.wait(ends, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
            stopping.cancel()
        if run.ended_s is not None:
            was_killed = run.succeeds and run.succeeded_s is None
            return KILLED if was_killed else result
        script.kill(run)
        if self._stopping.is_set():
            return Result(outcome=AttemptOutcome.INTERRUPTED, error="the daemon was stopped")
        return Result(outcome=AttemptOutcome.TIMED_OUT, error="too slow")

    def interrupt(self) -> None:
        self._patience.end()
        self._stopping.set()

    def close(self) -> None: ...

    @staticmethod
    def preview(hook: Any, invocation: Invocation, endpoint: Endpoint) -> dict[str, Any]:
        raise NotImplementedError
