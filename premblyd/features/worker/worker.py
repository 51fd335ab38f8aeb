"""Worker hooks: the runner, which has a pool of worker processes for each action, and the pool,
which decides which of them gets which line, and when one is started."""

import asyncio
import dataclasses
import functools
import os
import resource
import select
import shlex
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator

from premblyd.config.models import Config, Endpoint
from premblyd.features.worker.conversation import (
    STOPPED,
    Conversation,
    End,
    Line,
    Phase,
    interrupted,
)
from premblyd.features.worker.protocol import AnswerKind, delivery_line, hello
from premblyd.features.worker.settings import WorkerHook
from premblyd.ground.telemetry import tell
from premblyd.queue.jobs import SMALL_BYTES, Result
from premblyd.run import process
from premblyd.run.invocation import Invocation, Preview, masked
from premblyd.run.process import Children, Halts
from premblyd.run.shell import Threads, environment
from premblyd.run.starting import LackError, Patience, Permit, what_is_lacking
from premblyd.store.states import HaltReason

FIRST_AGAIN_S = 1.0  # after a start that failed; then twice as long each time
MAX_AGAIN_S = 60.0
CHANGED = "the configuration of the action has changed"
ABORTED = "each worker process of the action has answered `abort`"
NOT_FOUND = "the worker's program, or what its `#!` names, was not found or is not executable"


class Pool:
    """Up to `concurrency` worker processes. They start when first needed, and are kept."""

    def __init__(
        self,
        action: str,
        hook: WorkerHook,
        concurrency: int,
        children: Children,
        halts: Halts | None,
        make_room: Callable[[bool], None],
    ) -> None:
        """`halts` learns when no process takes anything; None: nobody waits for that.
        `make_room` is called before a start, and with True when the machine lacks what it needs."""
        self.hook, self.concurrency = hook, concurrency
        self.action = action
        self.conversations: list[Conversation] = []
        self._children = children
        self._halts = halts
        self._make_room = make_room
        self.used_at = 0.0  # when a line was given last
        self._halt: HaltReason | None = None
        self._refusal: str | None = None  # why it takes nothing any more
        self._daemon = ""
        self._waiting: deque[Line] = deque()
        self._aborted = set[Conversation]()
        self._failure: HaltReason | None = None  # of a start, until a process is of use
        self._not_started = interrupted("")  # what a run ends with then
        self._again_s = FIRST_AGAIN_S
        self._trial: asyncio.TimerHandle | None = None  # until then none is started

    async def run(self, text: list[bytes], permit: Permit, daemon: str) -> Result:
        """Give a line to a process, and return what comes of it. Raise LapsedError or LackError
        when it was not given, see `Patience`."""
        if self._refusal is not None:
            return interrupted(self._refusal)
        if self._halt is not None:
            return self._halted()
        self._daemon = daemon
        line = Line(text, permit)
        self._waiting.append(line)
        self._serve()
        try:
            return await line.done
        except asyncio.CancelledError:
            if line in self._waiting:
                self._waiting.remove(line)
            raise

    def begin_anew(self) -> None:
        """Forget what was aborted, and what did not start."""
        self._aborted.clear()
        self._forget_failure()
        self._judge()
        self._serve()

    def finish(self) -> None:
        """Take nothing more, and end the processes in good order."""
        self._refuse(CHANGED)
        for conversation in self.conversations:
            conversation.finish()

    def stop(self) -> None:
        """End the processes because the daemon stops."""
        self._halts = None  # what is halted is not taken up again by that
        self._refuse(STOPPED)
        for conversation in self.conversations:
            conversation.stop()

    @property
    def ending(self) -> int:
        """How many processes end now, and have nothing to do."""
        return sum(each.phase is Phase.ENDING and each.line is None for each in self.conversations)

    def end_idle(self) -> bool:
        """End a process in good order that has nothing to do. False: there is none."""
        idle = self._free()
        if idle is not None:
            idle.finish()
        return idle is not None

    # What its processes tell it

    def is_ready(self) -> None:
        self._judge()
        self._serve()

    def answered(self, conversation: Conversation, kind: AnswerKind) -> None:
        if self._failure is not None:
            self._forget_failure()
        if kind is AnswerKind.ABORT:
            self._aborted.add(conversation)
            self._judge()
        self._serve()

    def ended(self, conversation: Conversation, end: End) -> None:
        self.conversations.remove(conversation)
        if end.not_ready is not None and self._refusal is None:
            self._start_failed(end.not_ready, end.error, end.output)
        self._judge()
        self._serve()

    def _serve(self) -> None:
        """Give what waits to processes that are free, and start those that are wanted."""
        while self._waiting and (free := self._free()):
            line = self._waiting.popleft()
            self.used_at = asyncio.get_running_loop().time()
            if not free.give(line):
                self._waiting.appendleft(line)
        if len(self.conversations) < self.concurrency:
            self._start()

    def _free(self) -> Conversation | None:
        """Return a process that takes a line now: the same again and again, so that others may end
        for want of work."""
        return next((each for each in self.conversations if each.is_free), None)

    # Its starts

    def _start(self) -> None:
        """Start processes, as many as there are lines. After a start that failed, one at a time."""
        if self._refusal is not None or self._trial is not None:
            return
        lines = len(self._waiting) + sum(each.line is not None for each in self.conversations)
        wanted = max(lines, 1) if self._halt is not None else lines
        wanted = min(wanted, self.concurrency - len(self._aborted))
        if self._failure is not None:
            is_tried = any(each.phase is Phase.STARTING for each in self.conversations)
            wanted = min(wanted, 0 if is_tried else len(self.conversations) + 1)
        while len(self.conversations) < wanted and self._start_one():
            pass

    def _start_one(self) -> bool:
        """Start a process. Return whether it began: it is not ready yet."""
        self._make_room(False)
        try:
            started = Conversation(self.action, self.hook, self._daemon, self._children, self)
        except (FileNotFoundError, PermissionError, NotADirectoryError):
            self._start_failed(HaltReason.NOT_FOUND, NOT_FOUND)
            return False
        except (OSError, MemoryError) as error:
            if what := what_is_lacking(error):
                self._lacks(what)
            else:
                reason = os.strerror(error.errno or 0) if isinstance(error, OSError) else "memory"
                self._start_failed(HaltReason.NOT_STARTED, f"the worker did not start: {reason}")
            return False
        self.conversations.append(started)
        return True

    def _start_failed(self, reason: HaltReason, error: str, output: str = "") -> None:
        """Try again later. `output`: what it printed, which is about no delivery."""
        self._failure = reason
        self._not_started = dataclasses.replace(interrupted(error), output=output)
        again_s = self._again_s if self._trial is None else None
        tell("worker.not_started", action=self.action, reason=str(reason), again_s=again_s)
        if again_s is not None:
            self._try_after(again_s)
            self._again_s = min(2 * again_s, MAX_AGAIN_S)
        self._judge()

    def _lacks(self, what: str) -> None:
        """No process can be started now, through no fault of the hook."""
        self._make_room(True)
        if self._halt is not None:
            self._try_after(FIRST_AGAIN_S)
        self._empty(lambda: LackError(what))

    def _try_after(self, seconds: float) -> None:
        self._trial = asyncio.get_running_loop().call_later(seconds, self._try)

    def _try(self) -> None:
        self._trial = None
        self._serve()

    def _forget_failure(self) -> None:
        self._failure, self._again_s = None, FIRST_AGAIN_S
        if self._trial is not None:
            self._trial.cancel()
            self._trial = None

    # When it takes nothing

    def _judge(self) -> None:
        """Find out whether anything can be given, and tell when that changes."""
        phases = {each.phase for each in self.conversations}
        halt = None
        if self._refusal is None and Phase.READY not in phases:
            if len(self._aborted) >= self.concurrency:
                halt = HaltReason.ABORTED
            elif self._halt is not None or Phase.STARTING not in phases:
                halt = self._failure
        if halt is self._halt:
            return
        self._halt = halt
        if halt is not None:
            self._empty(self._halted)
        if self._halts is not None:
            if halt is not None:
                tell("worker.halted", action=self.action, reason=str(halt))
                self._halts.begin(self.action, halt)
            else:
                tell("worker.resumed", action=self.action)
                self._halts.end(self.action)

    def _halted(self) -> Result:
        """Return how a run ends that finds no process: it is due again when one may be ready."""
        if self._halt is HaltReason.ABORTED:
            return interrupted(ABORTED)
        wait_s = 0.0
        if self._trial is not None:
            wait_s = max(wait_s, self._trial.when() - asyncio.get_running_loop().time())
        return dataclasses.replace(self._not_started, retry_after_s=wait_s)

    def _refuse(self, refusal: str) -> None:
        self._refusal = refusal
        self._forget_failure()
        self._empty(lambda: interrupted(refusal))
        self._judge()

    def _empty(self, settled: Callable[[], Result | LackError]) -> None:
        """Settle what waits."""
        while self._waiting:
            self._waiting.popleft().settle(settled())


PREVIEW_CHARS = 2000
FILES_PER_PROCESS = 4
LOOK_AGAIN_S = 1.0


class WorkerRunner:
    """Runs worker hooks. Over a reload a pool is kept whose hook and `concurrency` are the same."""

    def __init__(self, children: Children) -> None:
        self._children = children
        self._patience = Patience()
        self._threads = Threads("premblyd-line")
        self._of_actions: dict[str, Pool] = {}
        self._of_others: list[Pool] = []  # of alerts, and of actions that are only tried
        self._leaving: list[Pool] = []
        self._is_stopping = False
        self._again: asyncio.TimerHandle | None = None  # until then nobody looks who is idle

    def configure(self, settings: Config) -> None:
        """Use these settings from the next run on: end the processes of hooks that have changed,
        and begin anew where processes have aborted or did not start."""
        before, self._of_actions = self._of_actions, {}
        for action in settings.actions:
            if isinstance(action.hook, WorkerHook):
                count = action.concurrency.host
                pool = before.get(action.name)
                if pool is not None and pool.concurrency == count and pool.hook == action.hook:
                    del before[action.name]
                    pool.hook = action.hook  # runs look it up by that object
                else:
                    pool = self._new_pool(action.name, action.hook, count, self._children.halts)
                self._of_actions[action.name] = pool
        leaving = [*before.values(), *self._of_others]
        self._of_others = []
        self._leaving = [pool for pool in (*self._leaving, *leaving) if pool.conversations]
        for pool in leaving:
            pool.finish()
        for pool in self._of_actions.values():
            pool.begin_anew()

    async def run(self, hook: WorkerHook, invocation: Invocation) -> Result:
        """Run the hook once, by a process of the pool. Never raise for a hook that fails."""
        if self._is_stopping:
            return interrupted(STOPPED)
        pool = self._pool(hook, invocation)
        if pool is None:
            return interrupted(CHANGED)
        permit = invocation.permit
        daemon = str(invocation.environment.get("PREMBLY_WORKER") or "")
        unmade, text = [invocation], list[bytes]()
        del invocation  # it has the body: none of the three is kept longer than it is needed

        async def start() -> Result:
            if unmade:
                text.append(await self._make_line(unmade[0]))
                unmade.clear()
            return await pool.run(text, permit, daemon)

        return await self._patience.run(permit, start)

    def interrupt(self) -> None:
        """End all processes: SIGTERM now, SIGKILL 5 s later. What they do not answer meanwhile
        counts as interrupted."""
        self._is_stopping = True
        self._patience.end()
        for pool in self._pools():
            pool.stop()

    def close(self) -> None:
        """End the processes that are left, and wait for them."""
        self.interrupt()
        self._threads.close()
        left = [each for pool in self._pools() for each in pool.conversations]
        left = _wait(left)
        for conversation in left:
            conversation.kill()
        for conversation in _wait(left):
            conversation.end()  # for premblyd: the kernel does not let it end

    @staticmethod
    def preview(hook: WorkerHook, invocation: Invocation, endpoint: Endpoint) -> Preview:
        """Return the exact command, environment and lines, with secrets masked."""
        command = list(hook.worker)
        about = {"PREMBLYD_WORKER_IN": 3, "PREMBLYD_WORKER_OUT": 4}
        variables = environment(masked(hook), about, os.environ)
        greeting = hello(invocation.action).decode().rstrip()
        line = delivery_line(1, invocation).decode().rstrip()
        is_long = len(line) > PREVIEW_CHARS
        return Preview(
            facts={"worker": command, "environment": variables, "lines": [greeting, line]},
            lines=[
                shlex.join(command),
                *(f"{name}={value}" for name, value in variables.items()),
                "descriptor 3, before its first delivery:",
                f"  {greeting}",
                "descriptor 3, for this delivery:",
                f"  {line[:PREVIEW_CHARS]}{' … and more' if is_long else ''}",
            ],
        )

    def _pool(self, hook: WorkerHook, invocation: Invocation) -> Pool | None:
        """Return the pool that runs the hook. None: the delivery's action has another by now."""
        pool = self._of_actions.get(invocation.action) if invocation.webhook else None
        if pool is not None and (pool.hook is hook or pool.hook == hook):
            return pool
        if invocation.environment.get("PREMBLY_DELIVERY"):
            return None
        for pool in self._of_others:
            if pool.action == invocation.action and pool.hook == hook:
                return pool
        self._of_others.append(self._new_pool(invocation.action, hook, 1, None))
        return self._of_others[-1]

    def _new_pool(self, action: str, hook: WorkerHook, count: int, halts: Halts | None) -> Pool:
        return Pool(action, hook, count, self._children, halts, self._make_room)

    def _make_room(self, is_lacking: bool) -> None:
        """End processes that have had nothing to do for longest, when there are too many, or one
        could not be started. They hold files, which webhooks, the database and others need."""
        pools = sorted(self._pools(), key=lambda pool: pool.used_at)
        excess = sum(len(pool.conversations) for pool in pools) + 1 - _most_processes()
        wanted = max(excess, int(is_lacking)) - sum(pool.ending for pool in pools)
        for pool in pools:
            while wanted > 0 and pool.end_idle():
                wanted -= 1
        if wanted > 0 and self._again is None and not self._is_stopping:  # the others are at work
            self._again = asyncio.get_running_loop().call_later(LOOK_AGAIN_S, self._look_again)

    def _look_again(self) -> None:
        self._again = None
        self._make_room(False)

    def _pools(self) -> Iterator[Pool]:
        yield from (*self._of_actions.values(), *self._of_others, *self._leaving)

    async def _make_line(self, invocation: Invocation) -> bytes:
        """Make the line: beside the loop, if it is more than a moment's work."""
        make = functools.partial(delivery_line, 0, invocation)
        is_small = len(invocation.body) <= SMALL_BYTES
        return make() if is_small else await self._threads.run(make)


def _most_processes() -> int:
    """Return from how many processes on an idle one is ended: together they hold a quarter of the
    files that may be open."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return sys.maxsize if soft == resource.RLIM_INFINITY else soft // (4 * FILES_PER_PROCESS)


def _wait(conversations: list[Conversation]) -> list[Conversation]:
    """Wait for the ends of processes, see each through, and return those that still run. The loop
    does not turn any more."""
    running = {conversation.pidfd: conversation for conversation in conversations}
    poll = select.poll()
    for pidfd in running:
        poll.register(pidfd, select.POLLIN)
    end = time.monotonic() + process.KILL_AFTER_S
    while running and (left_s := end - time.monotonic()) > 0:
        for pidfd, _ in poll.poll(left_s * 1000):
            poll.unregister(pidfd)
            running.pop(pidfd).end()
    return list(running.values())
