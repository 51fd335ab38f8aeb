"""A dispatcher at work on a real file, with fake runners and a clock that can be set."""

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from typing import Any, Self

from premblyd.config.hooks import CommandHook, Hook, HttpHook, ShellHook
from premblyd.config.models import Action, Config, Endpoint
from premblyd.ground.databases import DatabaseAddress
from premblyd.ground.errors import StoreUnavailableError
from premblyd.queue import hooks
from premblyd.queue.inbox import Inbox, NewDelivery
from premblyd.queue.jobs import Claimed, Result
from premblyd.queue.queue import Queue
from premblyd.record.operating import Operator
from premblyd.run.dispatcher import Actions, Dispatcher
from premblyd.run.kinds import Invocation, Runners
from premblyd.run.process import Children
from premblyd.store.connections import backend, connect_operator
from premblyd.store.states import AttemptOutcome
from premblyd.store.writer import Writer
from tests.support.clock import SettableClock
from tests.support.database import Looking, server_of
from tests.support.jobs import action_of
from tests.support.store import new_event
from tests.support.waiting import until

UNNAMED = {"reference": None, "session_id": None}
PROCESS_HOOKS: tuple[type[Hook], ...] = (ShellHook, CommandHook)
SUCCEEDED = Result(outcome=AttemptOutcome.SUCCEEDED)


def runners_of(by_kind: Mapping[type[Hook], Any]) -> Runners:
    """Return runners of which these are there already."""
    runners = Runners(Children())
    runners._by_kind.update(by_kind)
    return runners


class FakeRunner:
    """A runner whose hooks take `takes_s`, and longer while their action is held."""

    def __init__(self, result: Result | Exception = SUCCEEDED, *, takes_s: float = 0) -> None:
        self.result, self.takes_s = result, takes_s
        self.runs: list[tuple[Hook, Invocation]] = []
        self.interrupts = 0
        self.running: Counter[str] = Counter()
        self.most: Counter[str] = Counter()  # that ran at once
        self._held: dict[str, asyncio.Event] = {}

    def hold(self, name: str) -> asyncio.Event:
        """Let no hook of the action `name` end until the event is set."""
        return self._held.setdefault(name, asyncio.Event())

    def release(self) -> None:
        for held in self._held.values():
            held.set()

    def configure(self, settings: Config) -> None: ...

    def interrupt(self) -> None:
        self.interrupts += 1
        self.release()

    def close(self) -> None: ...

    @staticmethod
    def preview(hook: Hook, invocation: Invocation, endpoint: Endpoint) -> dict[str, Any]:
        raise NotImplementedError

    async def run(self, hook: Hook, invocation: Invocation) -> Result:
        self.runs.append((hook, invocation))
        action = action_of(invocation)
        self.running.update([action, "all"])
        self.most |= self.running
        await asyncio.sleep(self.takes_s)
        if held := self._held.get(action):
            await held.wait()
        self.running.subtract([action, "all"])
        if isinstance(self.result, Exception):
            raise self.result
        return self.result


class TroubledQueue(Queue):
    """The real queue, on a database that fails as often as `failures` says of a call, and whose
    claims come back late."""

    failures: Counter[str]
    late_s = 0.0
    claims: Sequence[tuple[Any, ...]] = ()  # what each was told

    def claim(self, *args: Any) -> "asyncio.Future[Claimed]":
        self._fail("claim")
        self.claims = (*self.claims, args)
        return asyncio.ensure_future(self._late(super().claim(*args)))

    def within_claim(self, *args: Any) -> "asyncio.Future[Any]":
        self._fail("confirm")
        return super().within_claim(*args)

    def finish(self, *args: Any) -> "asyncio.Future[bool]":
        self._fail("finish")
        return super().finish(*args)

    def shift(self, *args: Any) -> "asyncio.Future[None]":
        self._fail("shift")
        return super().shift(*args)

    def _fail(self, name: str) -> None:
        if self.failures[name] > 0:
            self.failures[name] -= 1
            raise StoreUnavailableError("database or disk is full")

    async def _late(self, claiming: "asyncio.Future[Claimed]") -> Claimed:
        claimed = await claiming
        await asyncio.sleep(self.late_s)
        self._fail("claimed")  # although it is on the disk
        return claimed


class Dispatching:
    """A dispatcher at work: `async with Dispatching(place, *actions) as at`."""

    def __init__(
        self,
        place: DatabaseAddress,
        *actions: Action,
        runner: FakeRunner | None = None,
        limit: int = 100,
        max_bytes: int = 1 << 30,
        failures: Mapping[str, int] | None = None,
    ) -> None:
        self.place, self.actions, self.limit = place, actions, limit
        self._looking = Looking(place)
        self.max_bytes = max_bytes
        self.shell, self.http = runner or FakeRunner(), FakeRunner()
        self._failures = Counter(failures)

    async def __aenter__(self) -> Self:
        self.writer = Writer(backend(self.place).engine())
        self.queue = TroubledQueue(self.writer, "test")
        self.queue.failures = self._failures
        self.clock = SettableClock()
        own: dict[type[Hook], FakeRunner] = dict.fromkeys(PROCESS_HOOKS, self.shell)
        self.runners = runners_of({HttpHook: self.http, **own})
        parts = (self.queue, self.runners, self.clock)
        self.dispatcher = Dispatcher(*parts, random.Random(0))
        self.configure(*self.actions)
        self._task = asyncio.create_task(self.dispatcher.run())
        return self

    async def __aexit__(self, *_: object) -> None:
        self.shell.release()
        await self.stop(5)
        self._looking.close()
        await self.writer.close()

    def configure(self, *actions: Action) -> None:
        gates = self.gates(actions)
        self.dispatcher.configure(Actions(actions, gates), self.limit, self.max_bytes)

    def gates(self, actions: Sequence[Action]) -> list[Any]:
        """Return what lets hooks of these actions run, or not yet."""
        return []

    async def stop(self, timeout_s: float) -> None:
        await self.dispatcher.stop(timeout_s)
        await self._task

    async def add(self, *names: str, attempts: int = 3, **changes: Any) -> None:
        """Store a webhook with a delivery for each name, as the receiver does."""
        event = {"received_at_ms": self.clock.now_ms(), "token": None, **UNNAMED, **changes}
        run_erased = {action.name for action in self.actions if hooks.runs_erased(action)}
        deliveries = [NewDelivery(name, attempts, None, name in run_erased) for name in names]
        is_server = server_of(self.place) is not None  # see Daemon._open_receiver
        inbox = Inbox(self.writer, **{"will_add": self.dispatcher.wake} if is_server else {})
        await inbox.add(new_event(**event), deliveries)
        if not is_server:
            self.dispatcher.wake()

    def replay(self, delivery_id: int) -> None:
        """Queue a delivery again, as `premblyd replay` does from its own process."""
        with closing(connect_operator(self.place)) as connection:
            (replay,) = Operator(actor="uid 0").replay({delivery_id: 1}, self.clock.now_ms())
            assert connection.transact(replay) == 1

    def states(self, *actions: str) -> dict[str, int]:
        """Return how many deliveries are in each state: of `actions`, or of all."""
        found = self._looking.rows("SELECT action, state FROM delivery")
        return Counter(state for action, state in found if not actions or action in actions)

    def delivery(self, columns: str) -> tuple[Any, ...]:
        (row,) = self._looking.rows(f"SELECT {columns} FROM delivery")
        return row

    def attempts(self, columns: str) -> list[tuple[Any, ...]]:
        return self._looking.rows(f"SELECT {columns} FROM attempt ORDER BY id")

    async def until(self, condition: Callable[[], object]) -> None:
        await until(condition)

    async def until_states(self, **states: int) -> None:
        await until(lambda: self.states() == states)
