"""What a worker process writes that settles nothing: a flood of it keeps the loop from nothing."""

import asyncio
from collections import Counter

import pytest

from premblyd.features.worker import conversation
from premblyd.features.worker.workerprocess import read_now
from tests.features.worker.working import Working, end, shell

pytestmark = pytest.mark.process


async def test_a_flood_of_answers_is_a_fault() -> None:
    async with Working(worker=shell('yes "ok $n" >&4')) as at:
        first, second = at.begin(5, 6)
        assert (await first).outcome == "succeeded"
        fault = "the worker broke the protocol: it answers a number that it does not have"
        assert end(await second) == ("failed", fault, "ok 1")


async def test_what_floods_standard_output_is_read_in_portions_and_its_answer_counts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """2 MB are 31 reads: in one turn of the loop they would hold up all else."""
    reads = Counter[int]()  # by the turns of the loop
    turn = 0

    def read(descriptor: int) -> bytes | None:
        reads[turn] += 1
        return read_now(descriptor)

    monkeypatch.setattr(conversation, "read_now", read)
    flood = 'yes "a line" | head -c 2000000; echo "ok $n" >&4'
    async with Working(worker=shell(flood)) as at:
        (running,) = at.begin(5)
        while not running.done():
            turn += 1
            await asyncio.sleep(0)
        assert max(reads.values()) <= 4  # a pipe each, and what is kept where lines change
        result = await running
        assert (result.outcome, result.output_truncated) == ("succeeded", True)
