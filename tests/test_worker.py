"""Worker hooks, with real processes: what comes of a line by its answer."""

import asyncio
from collections import Counter
from pathlib import Path

from tests.support.waiting import until
from tests.support.workers import ANSWERS_OK, Working, end, shell


async def test_a_worker_answers_what_becomes_of_a_delivery() -> None:
    answers = {1: "ok $n all is well", 2: "retry $n 7.5 not now", 3: "dead $n never"}
    cases = " ".join(f'{number}) echo "{text}" >&4;;' for number, text in answers.items())
    async with Working(worker=shell(f"case $n in {cases} esac")) as at:
        ok, retry, dead = [await at.run(delivery) for delivery in (5, 6, 7)]
    assert end(ok) == ("succeeded", None, "all is well")
    assert end(retry) == ("failed", "the worker answered `retry`", "not now")
    assert (retry.retry_after_s, retry.final) == (7.5, False)
    assert end(dead) == ("failed", "the worker answered `dead`", "never")
    assert dead.final


async def test_a_process_is_kept_for_further_deliveries() -> None:
    async with Working(worker=ANSWERS_OK) as at:
        pids = {(await at.run(delivery)).output for delivery in range(20)}
    assert len(pids) == 1


async def test_what_is_printed_is_the_output_and_breaks_nothing() -> None:
    async with Working(worker=shell('echo "for $delivery"; echo "ok $n done" >&4')) as at:
        results = [await at.run(delivery) for delivery in (5, 6)]
    assert [result.output for result in results] == ["for 5\ndone", "for 6\ndone"]


async def test_two_processes_work_side_by_side_and_no_third_is_started(tmp_path: Path) -> None:
    waits = 'while [ ! -e "$GO" ]; do sleep 0.01; done; echo "ok $n $pid" >&4'
    go = tmp_path / "go"
    async with Working(worker=shell(waits), concurrency=2, env={"GO": str(go)}) as at:
        running = at.begin(*range(6))
        (pool,) = at.runner._pools()
        await until(lambda: [len(each.unanswered) for each in pool.conversations] == [1, 1])
        go.touch()
        pids = Counter(result.output for result in await asyncio.gather(*running))
    assert len(pids) == 2


async def test_a_process_that_dies_spends_the_attempt_it_was_at() -> None:
    worker = shell('[ "$delivery" = 6 ] && exit 3; echo "ok $n $pid" >&4')
    async with Working(worker=worker) as at:
        before, died, after = [await at.run(delivery) for delivery in (5, 6, 7)]
    assert end(died) == ("failed", "the worker process ended: exit status 3", "")
    assert died.exit_code == 3
    assert after.outcome == "succeeded"
    assert before.output != after.output


async def test_a_worker_that_breaks_the_protocol_is_killed(tmp_path: Path) -> None:
    worker = shell('[ "$delivery" = 6 ] && echo "done with $n" >&4 && sleep 60; echo "ok $n" >&4')
    async with Working(worker=worker) as at:
        broken, after = [await at.run(delivery) for delivery in (6, 7)]
    assert broken.outcome == "failed"
    assert "the worker broke the protocol" in (broken.error or "")
    assert broken.output == "done with 1"
    assert after.outcome == "succeeded"
