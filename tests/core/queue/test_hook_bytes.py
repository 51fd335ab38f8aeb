"""Bodies of running hooks are bounded: large ones wait for room, in order, small ones do not. By
which rule, says tests/core/queue/test_shares.py."""

from pathlib import Path

from premblyd.queue.jobs import SMALL_BYTES
from tests.support.dispatching import Dispatching
from tests.support.jobs import action

MIB = 1 << 20


async def test_large_bodies_wait_for_room_and_small_ones_do_not(path: Path) -> None:
    actions = [action("large", concurrency=50), action("small", concurrency=50)]
    async with Dispatching(path, *actions, max_bytes=3 * MIB) as at:
        at.shell.hold("large")
        for size in (MIB, MIB, MIB, 4 * MIB):
            await at.add("large", attempts=1, body=bytes(size))
        for _ in range(5):
            await at.add("small", body=bytes(SMALL_BYTES))
        await at.until(lambda: at.states("small") == {"succeeded": 5})
        assert at.states("large") == {"running": 2, "pending": 2}
        at.shell.result = ValueError()  # what fails gives its room back too
        at.shell.release()
        await at.until_states(succeeded=5, dead=4)


async def test_a_large_body_is_not_overtaken_for_ever_by_lesser_ones(path: Path) -> None:
    actions = [action("large", concurrency=50), action("medium", concurrency=50)]
    async with Dispatching(path, *actions, max_bytes=3 * MIB) as at:
        at.shell.hold("medium")
        at.shell.hold("large")
        await at.add("medium", body=bytes(MIB))
        await at.until(lambda: at.shell.running["medium"] == 1)
        await at.add("large", body=bytes(3 * MIB))
        for _ in range(3):
            await at.add("medium", body=bytes(MIB))  # each would fit, but the large one was first
        looks = len(at.queue.claims)
        at.dispatcher.wake()
        await at.until(lambda: len(at.queue.claims) > looks)
        await at.queue.let_go(at.clock.now_ms())  # the claim has come back
        assert (at.shell.running["medium"], at.shell.running["large"]) == (1, 0)
        at.shell.hold("medium").set()
        await at.until(lambda: at.shell.running["large"] == 1)
        assert at.states("medium") == {"succeeded": 1, "pending": 3}
        at.shell.release()
        await at.until_states(succeeded=5)
