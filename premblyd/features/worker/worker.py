"""Worker hooks: the runner, which has a pool of worker processes for each action, and the pool,
which decides which of them gets which line, and when one is started."""

import asyncio
import functools
import select
import time
from collections import deque

from premblyd.config.models import Config
from premblyd.features.worker.conversation import STOPPED, Conversation, Line, interrupted
from premblyd.features.worker.protocol import delivery_line
from premblyd.features.worker.settings import WorkerHook
from premblyd.queue.jobs import SMALL_BYTES, Result
from premblyd.run import process
from premblyd.run.kinds import Invocation
from premblyd.run.process import Children
from premblyd.run.shell import Threads, not_started
from premblyd.run.starting import LackError, Patience, Permit

CHANGED = "the configuration of the action has changed"


class Pool:
    """Up to `concurrency` worker processes. They start when first needed, and are kept."""

    def __init__(self, action: str, hook: WorkerHook, concurrency: int, children: Children) -> None:
        self.hook, self.concurrency = hook, concurrency
        self.conversations: list[Conversation] = []
        self._action = action
        self._children = children
        self._refusal: str | None = None  # why it takes nothing any more
        self._daemon = ""
        self._waiting: deque[Line] = deque()

    async def run(self, text: list[bytes], permit: Permit, daemon: str) -> Result:
        """Give a line to a process, and return what comes of it. Raise LapsedError or LackError
        when it was not given, see `Patience`."""
        if self._refusal is not None:
            return interrupted(self._refusal)
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

    @property
    def is_over(self) -> bool:
        """Whether it takes nothing more, and none of its processes is left."""
        return self._refusal is not None and not self.conversations

    def finish(self) -> None:
        """Take nothing more, and end the processes in good order."""
        self._refuse(CHANGED)
        for conversation in self.conversations:
            conversation.finish()

    def stop(self) -> None:
        """End the processes because the daemon stops."""
        self._refuse(STOPPED)
        for conversation in self.conversations:
            conversation.stop()

    def is_free(self) -> None:
        self._serve()

    def ended(self, conversation: Conversation, failure: Result | None) -> None:
        self.conversations.remove(conversation)
        if failure is not None and self._waiting:
            self._waiting.popleft().settle(failure)
        self._serve()

    def _serve(self) -> None:
        """Give what waits to processes that are free, and start as many as there are lines."""
        while self._waiting and (free := self._free()):
            line = self._waiting.popleft()
            if not free.give(line):
                self._waiting.appendleft(line)
        while self._lacks_one():
            try:
                started = Conversation(self._action, self.hook, self._daemon, self._children, self)
            except (OSError, MemoryError) as error:
                self._waiting.popleft().settle(_settled(error))
            else:
                self.conversations.append(started)

    def _free(self) -> Conversation | None:
        return next((each for each in self.conversations if each.is_free), None)

    def _lacks_one(self) -> bool:
        lines = len(self._waiting) + sum(each.line is not None for each in self.conversations)
        return len(self.conversations) < min(lines, self.concurrency)

    def _refuse(self, refusal: str) -> None:
        self._refusal = refusal
        while self._waiting:
            self._waiting.popleft().settle(interrupted(refusal))


def _settled(error: OSError | MemoryError) -> Result | LackError:
    """Return how a line is settled whose process could not be started."""
    try:
        return not_started(error)
    except LackError as lack:
        return lack


class WorkerRunner:
    """Runs worker hooks. Over a reload a pool is kept whose hook and `concurrency` are the same."""

    def __init__(self, children: Children) -> None:
        self._children = children
        self._patience = Patience()
        self._threads = Threads("premblyd-line")
        self._of_actions: dict[str, Pool] = {}
        self._others = set[Pool]()  # of alerts, and of hooks that actions had before a reload
        self._is_stopping = False

    def configure(self, settings: Config) -> None:
        """Use these settings from the next run on: end the processes of hooks that have changed."""
        before, self._of_actions = self._of_actions, {}
        for action in settings.actions:
            if isinstance(action.hook, WorkerHook):
                count = action.concurrency.host
                pool = before.get(action.name)
                if pool is not None and pool.concurrency == count and pool.hook == action.hook:
                    del before[action.name]
                    pool.hook = action.hook  # runs look it up by that object
                else:
                    pool = Pool(action.name, action.hook, count, self._children)
                self._of_actions[action.name] = pool
        for pool in before.values():
            self._leave(pool)

    async def run(self, hook: WorkerHook, invocation: Invocation) -> Result:
        """Run the hook once, by a process of its action; or by one of its own. Never raise for a
        hook that fails."""
        if self._is_stopping:
            return interrupted(STOPPED)
        pool = self._of_actions.get(invocation.action)
        is_of_action = pool is not None and pool.hook is hook and invocation.webhook is not None
        if pool is None or not is_of_action:
            pool = Pool(invocation.action, hook, 1, self._children)
            self._others.add(pool)
        run = self._run(pool, invocation)
        del invocation  # it has the body, which is kept no longer than it is needed
        try:
            return await run
        finally:
            if pool in self._others:
                self._leave(pool)

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
            conversation.gone()  # for premblyd: the kernel does not let it end

    async def _run(self, pool: Pool, invocation: Invocation) -> Result:
        permit = invocation.permit
        daemon = str(invocation.environment.get("PREMBLY_WORKER") or "")
        unmade, text = [invocation], list[bytes]()
        del invocation

        async def start() -> Result:
            if unmade:
                text.append(await self._make_line(unmade[0]))
                unmade.clear()
            return await pool.run(text, permit, daemon)

        return await self._patience.run(permit, start)

    def _leave(self, pool: Pool) -> None:
        """End a pool that is used no more."""
        pool.finish()
        self._others.add(pool)
        self._others -= {each for each in self._others if each.is_over}

    def _pools(self) -> tuple[Pool, ...]:
        return (*self._of_actions.values(), *self._others)

    async def _make_line(self, invocation: Invocation) -> bytes:
        """Make the line: beside the loop, if it is more than a moment's work."""
        make = functools.partial(delivery_line, 0, invocation)
        is_small = len(invocation.body) <= SMALL_BYTES
        return make() if is_small else await self._threads.run(make)


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
            running.pop(pidfd).gone()
    return list(running.values())
