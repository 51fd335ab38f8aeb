"""Worker hooks, with real processes: what comes of a line by its answer."""

import asyncio
import fcntl
import json
import os
from pathlib import Path

from premblyd.run.workerprocess import Input
from tests.support.waiting import until
from tests.support.workers import ANSWERS_OK, WAIT, Working, end, outcomes, python, shell


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


async def test_what_was_printed_before_an_answer_is_its_also_when_that_is_read_first(
    tmp_path: Path,
) -> None:
    go = tmp_path / "go"
    worker = shell(f'{WAIT}; echo "for $delivery"; echo "ok $n" >&4')
    async with Working(worker=worker, batch=2, env={"GO": str(go)}) as at:
        first, second = at.begin(5, 6)
        await at.until_unanswered(2)
        (conversation,) = at.conversations
        # Now it is read only with an answer.
        asyncio.get_running_loop().remove_reader(conversation._process.printed)
        go.touch()
        assert end(await first) == ("succeeded", None, "")
        await second
        assert end(await at.run(7)) == ("succeeded", None, "for 7")


async def test_with_several_unanswered_what_is_printed_is_nobodys(tmp_path: Path) -> None:
    go = tmp_path / "go"
    worker = shell(
        f"""
        case $n in
            2) {WAIT}; echo "of both"; echo "ok 1 first" >&4;;
            3) {WAIT}; echo "last"; echo "ok 2 second" >&4; echo "ok 3 third" >&4;;
        esac
        """
    )
    async with Working(worker=worker, batch=2, env={"GO": str(go)}) as at:
        first, second = at.begin(5, 6)
        await at.until_unanswered(2)
        go.touch()
        assert end(await first) == ("succeeded", None, "first")
        (third,) = at.begin(7)
        assert end(await second) == ("succeeded", None, "second")
        assert end(await third) == ("succeeded", None, "third")


async def test_what_is_printed_outside_of_work_is_nobodys() -> None:
    worker = shell('echo "ok $n" >&4; echo over', first="echo begun")
    async with Working(worker=worker) as at:
        results = [await at.run(delivery) for delivery in (5, 6)]
    assert "begun" not in (results[0].output or "")
    assert [result.outcome for result in results] == ["succeeded", "succeeded"]


async def test_a_worker_hears_who_speaks_and_has_no_other_descriptors() -> None:
    worker = python(
        """
    descriptors = [int(each) for each in os.listdir("/proc/self/fd")]
    held = {each for each in descriptors if os.path.exists(f"/proc/self/fd/{each}")}
    about = {**hello, "held": sorted(held), "environment": sorted(os.environ)}
    say("ok", n, json.dumps(about))
    """
    )
    async with Working(worker=worker, batch=5, env={"OWN": "x"}) as at:
        about = json.loads((await at.run()).output or "")
    assert about["premblyd"] == 1
    assert (about["action"], about["batch"]) == ("act", 5)
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


async def test_lines_that_find_no_room_in_the_pipe_together_are_told_once_each(
    tmp_path: Path,
) -> None:
    go = tmp_path / "go"
    worker = shell(f'{WAIT}; echo "ok $n $delivery" >&4')
    async with Working(worker=worker, batch=100, env={"GO": str(go)}) as at:
        running = at.begin(*range(1000, 1080), body=b'"%b"' % (b"x" * 3000))
        await until(lambda: at.unanswered and 1 < at.unanswered[0] < 80)
        go.touch()
        results = await asyncio.gather(*running)
    assert [result.output for result in results] == [str(number) for number in range(1000, 1080)]


async def test_of_lines_that_fill_the_pipe_to_the_byte_none_waits_within_it() -> None:
    reader, writer = os.pipe()
    page = fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 1)
    given = Input(writer)
    try:
        assert (given.write([b"a" * page, b"b"]), given.is_waiting) == (1, False)
        assert (given.write([b"b" * page, b"c"]), given.is_waiting) == (1, True)
        assert os.read(reader, page) == b"a" * page
        await until(lambda: not given.is_waiting)
        assert os.read(reader, page) == b"b" * page
        assert given.write([b"d"] * 3) == 3
        os.close(reader)
        assert given.write([b"e"]) == 0
    finally:
        given.close()


async def test_without_the_word_batch_a_worker_gets_one_line_at_a_time(tmp_path: Path) -> None:
    go = tmp_path / "go"
    worker = shell(f'{WAIT}; echo "ok $n" >&4', ready="ready 1 busy")
    async with Working(worker=worker, batch=10, env={"GO": str(go)}) as at:
        running = at.begin(*range(1, 6))
        await at.until_unanswered(1)
        go.touch()
        assert outcomes(await asyncio.gather(*running)) == {"succeeded": 5}


async def test_answers_may_come_in_any_order_and_twice() -> None:
    worker = shell('[ "$n" = 3 ] && printf "ok 2\\nok 3\\nok 2\\nok 1 first\\nok 3\\n" >&4')
    async with Working(worker=worker, batch=3) as at:
        results = await at.run_all([5, 6, 7])
        assert outcomes(results) == {"succeeded": 3}
        assert results[0].output == "first"


async def test_two_processes_work_side_by_side_and_no_third_is_started(tmp_path: Path) -> None:
    go = tmp_path / "go"
    worker = shell(f'{WAIT}; echo "ok $n $pid" >&4')
    async with Working(worker=worker, concurrency=2, env={"GO": str(go)}) as at:
        running = at.begin(*range(6))
        await at.until_unanswered(1, 1)
        go.touch()
        results = await asyncio.gather(*running)
    assert len({result.output for result in results}) == 2


async def test_a_runner_that_is_given_up_leaves_its_process_to_others(tmp_path: Path) -> None:
    go = tmp_path / "go"
    worker = shell(f'{WAIT}; echo "ok $n line $n" >&4')
    async with Working(worker=worker, env={"GO": str(go)}) as at:
        working, waiting, other = at.begin(5, 6, 7)
        await at.until_unanswered(1)
        working.cancel()
        waiting.cancel()
        go.touch()
        assert end(await other) == ("succeeded", None, "line 2")
        await asyncio.wait([working, waiting])
        assert (working.cancelled(), waiting.cancelled()) == (True, True)
