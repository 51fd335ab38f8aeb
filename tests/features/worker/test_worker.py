"""Worker hooks, with real processes: what comes of a line by its answer."""

import asyncio
import json
from pathlib import Path

import pytest

from tests.features.worker.working import WAIT, Working, end, python, shell

pytestmark = pytest.mark.process


@pytest.mark.promise
async def test_a_worker_answers_what_becomes_of_a_delivery() -> None:
    answers = {1: "ok $n all is well", 2: "retry $n 7.5 not now", 3: "dead $n never"}
    cases = " ".join(f'{number}) echo "{text}" >&4;;' for number, text in answers.items())
    async with Working(worker=shell(f'echo "for $delivery"; case $n in {cases} esac')) as at:
        ok, retry, dead = [await at.run(delivery) for delivery in (5, 6, 7)]
    assert end(ok) == ("succeeded", None, "for 5\nall is well")
    assert end(retry) == ("failed", "the worker answered `retry`", "for 6\nnot now")
    assert (retry.retry_after_s, retry.final) == (7.5, False)
    assert end(dead) == ("failed", "the worker answered `dead`", "for 7\nnever")
    assert dead.final


async def test_what_is_printed_outside_of_work_is_nobodys() -> None:
    worker = shell('echo "ok $n" >&4; echo over', first="echo begun")
    async with Working(worker=worker) as at:
        before, after = [await at.run(delivery) for delivery in (5, 6)]
    assert "begun" not in (before.output or "")
    assert (before.outcome, after.outcome) == ("succeeded", "succeeded")


async def test_a_worker_hears_who_speaks_and_has_no_other_descriptors() -> None:
    worker = python(
        """
    descriptors = [int(each) for each in os.listdir("/proc/self/fd")]
    held = {each for each in descriptors if os.path.exists(f"/proc/self/fd/{each}")}
    about = {**hello, "held": sorted(held), "environment": sorted(os.environ)}
    say("ok", n, json.dumps(about))
    """
    )
    async with Working(worker=worker, env={"OWN": "x"}) as at:
        about = json.loads((await at.run()).output or "")
    assert (about["premblyd"], about["action"]) == (1, "act")
    assert about["held"] == [0, 1, 2, 3, 4]
    own = {"PREMBLYD_WORKER_IN", "PREMBLYD_WORKER_OUT", "PREMBLY_PROCESS", "PREMBLY_WORKER", "OWN"}
    assert own <= set(about["environment"])
    assert not [name for name in about["environment"] if name.startswith("PREMBLY_R")]


async def test_a_line_has_the_body_however_large_it_is() -> None:
    worker = python('say("ok", n, len(line["body"]["text"]), line["delivery"], n)')
    async with Working(worker=worker) as at:
        sizes = [5 << 20, 3, 100_000]
        results = [await at.run(7, b'{"text":"%b"}' % (b"x" * size)) for size in sizes]
    assert [result.output for result in results] == ["5242880 7 1", "3 7 2", "100000 7 3"]


@pytest.mark.promise
async def test_a_process_is_kept_and_gets_one_line_at_a_time(tmp_path: Path) -> None:
    go = tmp_path / "go"
    worker = shell(f'{WAIT}; echo "ok $n $n" >&4')
    async with Working(worker=worker, env={"GO": str(go)}) as at:
        running = at.begin(*range(1, 6))
        await at.until_busy(1)
        (conversation,) = at.conversations
        assert conversation._given == 1
        go.touch()
        results = await asyncio.gather(*running)
    assert [result.output for result in results] == list("12345")


async def test_a_runner_that_is_given_up_leaves_its_process_to_others(tmp_path: Path) -> None:
    go = tmp_path / "go"
    worker = shell(f'{WAIT}; echo "ok $n line $n" >&4')
    async with Working(worker=worker, env={"GO": str(go)}) as at:
        working, waiting, other = at.begin(5, 6, 7)
        await at.until_busy(1)
        working.cancel()
        waiting.cancel()
        go.touch()
        assert end(await other) == ("succeeded", None, "line 2")
        await asyncio.wait([working, waiting])
        assert (working.cancelled(), waiting.cancelled()) == (True, True)
