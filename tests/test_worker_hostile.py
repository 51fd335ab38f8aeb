"""Worker hooks that do what no worker should, each alone: all of them at once, beside good ones,
are in tests/faults/workers.py."""

import asyncio
import gc
import tracemalloc

import pytest

from premblyd.model.tables import HaltReason
from premblyd.run import hearing
from tests.support.waiting import until
from tests.support.workers import Working, shell


async def test_one_that_floods_in_place_of_ready_is_not_started_again_at_once() -> None:
    flood = "head -c 100000 /dev/zero | tr '\\0' x >&4; sleep 60"
    async with Working(worker=shell("", first=flood)) as at:
        (running,) = at.begin(5)
        await until(lambda: at.halts == {"act": HaltReason.ENDED})
        assert (await running).outcome == "interrupted"


async def test_one_that_closes_what_it_answers_by_is_not_started_again_at_once() -> None:
    async with Working(worker=shell("", first="exec 4>&-; sleep 60")) as at:
        (running,) = at.begin(5)
        await until(lambda: at.halts == {"act": HaltReason.ENDED})
        assert (await running).outcome == "interrupted"


@pytest.mark.parametrize(
    ("flood", "name"),
    [
        ("head -c 300000 /dev/zero | tr '\\0' x", "printed"),
        ("yes 'ok 1' | head -c 300000 >&4", "answers"),  # which it has given already
    ],
)
async def test_who_floods_is_read_only_now_and_then(
    flood: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hearing, "FLOOD_PAUSE_S", 10)
    worker = shell(f'[ $n = 1 ] || {{ {flood}; }}; echo "ok $n" >&4')
    async with Working(worker=worker, timeout="1h", max_busy="1h") as at:
        assert (await at.run(5)).outcome == "succeeded"
        (running,) = at.begin(6)
        descriptor = getattr(at.conversations[0]._process, name)
        read = asyncio.get_running_loop()._selector.get_map()  # type: ignore[attr-defined]
        await until(lambda: descriptor not in read)

        def goes_on() -> bool:
            if descriptor not in read:
                at.later(11)
            return running.done()

        await until(goes_on)
        assert (await running).outcome == "succeeded"


async def test_of_what_a_worker_wrote_nothing_is_kept_once_it_has_ended() -> None:
    """Not until the collector comes either: it counts objects, and these are few and large."""
    flood = "head -c 100000 /dev/zero | tr '\\0' x >&4; sleep 60"
    async with Working(worker=shell(flood)) as at:
        await at.run(1)
        gc.disable()
        tracemalloc.start()
        try:
            for delivery in range(2, 22):
                assert len((await at.run(delivery)).output or "") == 64 << 10
            kept_bytes, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
            gc.enable()
    assert kept_bytes < 1 << 20
