"""Bodies of running hooks are bounded: large ones wait for room, in order, small ones do not."""

import asyncio
from pathlib import Path

from premblyd.config.hooks import Hook
from premblyd.queue.jobs import SMALL_BYTES, Result
from premblyd.run.invocation import Invocation
from tests.support.dispatching import Dispatching, FakeRunner
from tests.support.jobs import action

MIB = 1 << 20


def body(size: int) -> bytes:
    return bytes(size)


class Weighing(FakeRunner):
    """A runner that knows how much its hooks hold at once."""

    def __init__(self, *, takes_s: float = 0) -> None:
        super().__init__(takes_s=takes_s)
        self.held_bytes = self.most_bytes = 0

    async def run(self, hook: Hook, invocation: Invocation) -> Result:
        size = len(invocation.body)
        self.held_bytes += size
        self.most_bytes = max(self.most_bytes, self.held_bytes)
        try:
            return await super().run(hook, invocation)
        finally:
            self.held_bytes -= size


async def test_running_hooks_hold_no_more_than_allowed_and_all_run(path: Path) -> None:
    actions = [action(f"a{number}") for number in range(5)]
    weighing = Weighing(takes_s=0.02)
    async with Dispatching(path, *actions, runner=weighing, max_bytes=4 * MIB) as at:
        for _ in range(4):
            await at.add(*(one.name for one in actions), body=body(MIB))
        await at.until_states(succeeded=20)
    assert weighing.most_bytes == 3 * MIB  # as some is kept for what comes next


async def test_a_body_larger_than_all_room_runs_alone(path: Path) -> None:
    weighing = Weighing(takes_s=0.02)
    async with Dispatching(
        path, action("a", concurrency=50), runner=weighing, max_bytes=3 * MIB
    ) as at:
        for size in (MIB, 4 * MIB, MIB, 4 * MIB, 4 * MIB, MIB, MIB):
            await at.add("a", body=body(size))
        await at.until_states(succeeded=7)
    assert weighing.most_bytes == 4 * MIB


async def test_large_bodies_do_not_keep_small_ones_waiting(path: Path) -> None:
    actions = [action("large", concurrency=50), action("small", concurrency=50)]
    async with Dispatching(path, *actions, max_bytes=3 * MIB) as at:
        at.shell.hold("large")
        for _ in range(4):
            await at.add("large", body=body(MIB))
        for _ in range(30):
            await at.add("small", body=body(SMALL_BYTES))
        await at.until(lambda: at.states("small") == {"succeeded": 30})
        assert at.states("large") == {"running": 2, "pending": 2}
        at.shell.release()
        await at.until_states(succeeded=34)


async def test_a_large_body_is_not_overtaken_for_ever_by_lesser_ones(path: Path) -> None:
    actions = [action("large", concurrency=50), action("medium", concurrency=50)]
    async with Dispatching(path, *actions, max_bytes=3 * MIB) as at:
        at.shell.hold("medium")
        at.shell.hold("large")
        await at.add("medium", body=body(MIB))
        await at.until(lambda: at.shell.running["medium"] == 1)
        await at.add("large", body=body(3 * MIB))
        for _ in range(3):
            await at.add("medium", body=body(MIB))  # each would fit, but the large one was first
        await asyncio.sleep(0.3)
        assert (at.shell.running["medium"], at.shell.running["large"]) == (1, 0)
        at.shell.hold("medium").set()
        await at.until(lambda: at.shell.running["large"] == 1)
        assert at.states("medium") == {"succeeded": 1, "pending": 3}
        at.shell.release()
        await at.until_states(succeeded=5)


async def test_a_failing_hook_gives_its_room_back(path: Path) -> None:
    failing = Weighing()
    failing.result = ValueError()
    async with Dispatching(path, action("a"), runner=failing, max_bytes=MIB) as at:
        for _ in range(3):
            await at.add("a", attempts=1, body=body(MIB))
        await at.until_states(dead=3)
    assert failing.most_bytes == MIB
