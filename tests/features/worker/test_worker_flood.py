"""What a worker process writes that settles nothing: a flood of it keeps the loop from nothing."""

import asyncio
import time

import pytest

from tests.features.worker.working import Working, end, shell

pytestmark = pytest.mark.process


async def most_late_s(running: "asyncio.Task[object]") -> float:
    """Return how late the loop is at most while this runs, but for what a busy machine does."""
    most = 0.0
    while not running.done():
        began, began_s = time.monotonic(), time.thread_time()
        await asyncio.sleep(0.01)
        most = max(most, min(time.monotonic() - began, time.thread_time() - began_s))
    return most


async def test_a_flood_of_answers_is_a_fault() -> None:
    async with Working(worker=shell('yes "ok $n" >&4')) as at:
        first, second = at.begin(5, 6)
        assert (await first).outcome == "succeeded"
        fault = "the worker broke the protocol: it answers a number that it does not have"
        assert end(await second) == ("failed", fault, "ok 1")


async def test_what_floods_standard_output_is_read_slowly_and_its_answer_counts() -> None:
    flood = 'yes "a line" | head -c 2000000; echo "ok $n" >&4'
    async with Working(worker=shell(flood)) as at:
        (running,) = at.begin(5)
        assert await most_late_s(running) < 0.05
        result = await running
        assert (result.outcome, result.output_truncated) == ("succeeded", True)
