"""Worker hooks: the runner, which has a pool of worker processes for each action."""

import asyncio
import functools
import os
import resource
import select
import shlex
import sys
import time
from collections.abc import Iterator

from premblyd.config.models import Config, Endpoint
from premblyd.features.worker.conversation import Conversation
from premblyd.features.worker.pool import CHANGED, Pool
from premblyd.features.worker.protocol import delivery_line, hello
from premblyd.features.worker.settings import WorkerHook
from premblyd.features.worker.workerline import STOPPED, interrupted
from premblyd.queue.jobs import SMALL_BYTES, Result
from premblyd.run import process
from premblyd.run.halts import Halts
from premblyd.run.invocation import Invocation, Preview, masked
from premblyd.run.process import Children
from premblyd.run.shell import Threads, environment
from premblyd.run.starting import Patience

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
                    pool.hook = action.hook  # by which runs find it at once
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
