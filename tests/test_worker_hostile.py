"""Worker hooks that do what no worker should, each alone: all of them at once, beside good ones,
are in tests/faults/workers.py."""

from premblyd.model.tables import HaltReason
from tests.support.waiting import until
from tests.support.workers import Working, shell


async def test_one_that_floods_in_place_of_ready_is_not_started_again_at_once() -> None:
    flood = "head -c 100000 /dev/zero | tr '\\0' x >&4; sleep 60"
    async with Working(worker=shell("", first=flood)) as at:
        (running,) = at.begin(5)
        await until(lambda: at.halts == {"act": HaltReason.ENDED}, 20)
        assert (await running).outcome == "interrupted"


async def test_one_that_closes_what_it_answers_by_is_not_started_again_at_once() -> None:
    async with Working(worker=shell("", first="exec 4>&-; sleep 60")) as at:
        (running,) = at.begin(5)
        await until(lambda: at.halts == {"act": HaltReason.ENDED}, 20)
        assert (await running).outcome == "interrupted"
