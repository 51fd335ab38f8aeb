"""How worker processes end, with real ones: by themselves, by their faults, in good order, and what
that costs the deliveries which they had."""

import asyncio
import fcntl
from pathlib import Path

import pytest

from premblyd.queue.jobs import Result
from premblyd.run import conversation, process
from premblyd.run.conversation import UNHEARD
from premblyd.run.protocol import numbered
from premblyd.run.starting import NOT_OURS, Permit
from premblyd.run.strays import kill_marked, read_mark
from tests.support.jobs import action
from tests.support.waiting import until
from tests.support.workers import ANSWERS_OK, WAIT, Working, end, outcomes, python, runs, shell

HOUR_S = 3600.0
UNREAD = "the worker process ended before it had read it"
SPLIT = "the worker process ended, perhaps of another line: it is given alone now"


async def test_a_process_that_dies_spends_the_attempt_it_was_at() -> None:
    worker = shell('[ "$delivery" = 6 ] && exit 3; echo "ok $n $pid" >&4')
    async with Working(worker=worker) as at:
        before, died, after = [await at.run(delivery) for delivery in (5, 6, 7)]
    assert end(died) == ("failed", "the worker process ended: exit status 3", "")
    assert died.exit_code == 3
    assert after.outcome == "succeeded"
    assert before.output != after.output


async def test_a_signal_that_ended_it_is_told() -> None:
    async with Working(worker=shell("echo half; kill -KILL $pid")) as at:
        died = await at.run()
    assert end(died) == ("failed", "the worker process ended: ended by signal SIGKILL", "half")


FAULTS = {
    "done with 1": "its line does not begin with one of ok, retry, dead, busy, abort",
    "ok 2": "it answers a number that was not given",
    "ok": "`ok` has no line's number behind it",
    "": "its line does not begin with one of ok, retry, dead, busy, abort",
}


@pytest.mark.parametrize("written", FAULTS)
async def test_what_is_not_of_the_protocol_fails_its_attempt_alone(written: str) -> None:
    worker = shell(f'[ "$delivery" = 6 ] && echo "{written}" >&4 && sleep 60; echo "ok $n" >&4')
    async with Working(worker=worker) as at:
        broken, after = [await at.run(delivery) for delivery in (6, 7)]
    assert end(broken) == ("failed", f"the worker broke the protocol: {FAULTS[written]}", written)
    assert after.outcome == "succeeded"


async def test_a_line_without_an_end_is_a_fault() -> None:
    async with Working(worker=shell("cat /dev/zero >&4")) as at:
        broken = await at.run()
    assert broken.error == "the worker broke the protocol: its line does not end"


async def test_nothing_counts_that_is_written_after_a_fault() -> None:
    async with Working(worker=shell('printf "what\\nok 1\\n" >&4; sleep 60')) as at:
        assert (await at.run()).outcome == "failed"


async def test_answers_that_are_in_the_pipe_count_when_the_process_is_gone(tmp_path: Path) -> None:
    go = tmp_path / "go"
    worker = shell(f'if [ $n = 3 ]; then {WAIT}; printf "ok 1\\nok 2\\n" >&4; kill -KILL $pid; fi')
    async with Working(worker=worker, batch=3, env={"GO": str(go)}) as at:
        running = at.begin(5, 6, 7)
        await at.until_unanswered(3)
        (conversation,) = at.conversations
        # Now its end is seen first.
        asyncio.get_running_loop().remove_reader(conversation._process.answers)
        go.touch()
        first, second, died = await asyncio.gather(*running)
    assert outcomes([first, second]) == {"succeeded": 2}
    assert died.error == SPLIT


async def test_only_a_line_that_a_process_dies_of_alone_is_spent() -> None:
    poison = python("if line['delivery'] == 13: os._exit(9)\n    say('ok', n)")
    async with Working(worker=poison, batch=5) as at:
        waiting, ended = list(range(11, 16)), dict[int, Result]()
        while waiting:
            results = dict(zip(waiting, await at.run_all(waiting), strict=True))
            waiting = [each for each in waiting if results[each].outcome == "interrupted"]
            assert {results[each].error for each in waiting} <= {SPLIT, UNREAD}
            ended |= {each: results[each] for each in results.keys() - set(waiting)}
    assert ended.pop(13).error == "the worker process ended: exit status 9"
    assert outcomes(list(ended.values())) == {"succeeded": 4}


async def test_after_a_death_with_several_each_of_them_is_alone_until_it_is_answered(
    tmp_path: Path,
) -> None:
    worker = shell(
        f'if [ -e "$DIED" ]; then {WAIT}; echo "ok $n" >&4;'
        ' elif [ $n = 3 ]; then >"$DIED"; exit 1; fi'
    )
    files = {"DIED": str(tmp_path / "died"), "GO": str(tmp_path / "go")}
    async with Working(worker=worker, batch=3, env=files) as at:
        died = await at.run_all([5, 6, 7])
        assert {end(result) for result in died} == {("interrupted", SPLIT, "")}
        assert {result.retry_after_s for result in died} == {0}
        again = at.begin(5, 6, 7)
        await at.until_unanswered(1)
        others = at.begin(8, 9)
        await asyncio.sleep(0)  # in which they would be given, if they were
        assert at.unanswered == [1]
        (tmp_path / "go").touch()
        results = await asyncio.gather(*again, *others)
        assert outcomes(results) == {"succeeded": 5}
        # Now that they are answered, they are no more suspect than others.
        (tmp_path / "go").unlink()
        more = at.begin(5, 6, 7)
        await at.until_unanswered(3)
        (tmp_path / "go").touch()
        assert outcomes(await asyncio.gather(*more)) == {"succeeded": 3}


async def test_who_answers_one_and_dies_may_have_died_of_that_one() -> None:
    worker = shell('[ $n = 2 ] && echo "ok 1" >&4 && exit 3; [ $delivery = 6 ] && exit 4')
    async with Working(worker=worker, batch=2) as at:
        answered, other = await at.run_all([5, 6])
        assert answered.outcome == "succeeded"
        assert end(other) == ("interrupted", SPLIT, "")
        assert end(await at.run(6)) == ("failed", "the worker process ended: exit status 4", "")


async def test_a_line_that_was_not_read_costs_nothing(tmp_path: Path) -> None:
    # A shell reads to the end of a line, and no further.
    go = tmp_path / "go"
    async with Working(worker=shell(f"{WAIT}; exit 0"), batch=3, env={"GO": str(go)}) as at:
        running = at.begin(5, 6, 7)
        await at.until_unanswered(3)
        go.touch()
        died, *others = await asyncio.gather(*running)
        assert end(died) == ("failed", "the worker process ended: exit status 0", "")
        assert {end(result) for result in others} == {("interrupted", UNREAD, "")}


async def test_a_silent_process_is_killed_with_its_whole_group(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    worker = shell('trap "" TERM; sleep 600 & echo $pid $! >"$PIDS"; sleep 600')
    async with Working(worker=worker, env={"PIDS": str(pids)}) as at:
        (running,) = at.begin(5)
        await until(lambda: pids.exists() and pids.read_text().endswith("\n"))
        at.later(31)
        assert end(await running) == ("timed_out", f"no answer within 30 s{UNHEARD}", "")
        left = [int(pid) for pid in pids.read_text().split()]
        await until(lambda: not [pid for pid in left if runs(pid)])


async def test_one_that_never_reads_keeps_no_other_waiting() -> None:
    deaf = ["sh", "-c", 'read -r hello <&3; echo "ready 1" >&4; exec sleep 600']
    actions = action("deaf", worker=deaf), action("act", worker=ANSWERS_OK)
    async with Working(*actions) as at:
        (unread,) = at.begin(5, body=b'"%b"' % (b"x" * (200 << 10)), name="deaf")
        await at.until_unanswered(1)
        assert (await at.run(6)).outcome == "succeeded"
        at.later(31)
        assert (await unread).outcome == "timed_out"


async def test_who_is_busy_has_more_time_but_not_for_ever(tmp_path: Path) -> None:
    worker = shell(
        'for each in 1 2 3; do while [ ! -e "$GO$each" ]; do sleep 0.01; done;'
        ' echo "busy $n" >&4; done; sleep 600'
    )
    hook = {"worker": worker, "timeout": "1h", "max_busy": "150m", "env": {"GO": f"{tmp_path}/"}}
    async with Working(**hook) as at:
        (running,) = at.begin(5)
        await at.until_unanswered(1)
        (conversation,) = at.conversations
        for number in (1, 2, 3):
            at.later(0.8 * HOUR_S)  # were that too much, it would be killed, and not say anything
            heard_at = conversation._silent_since
            (tmp_path / str(number)).touch()
            await until(lambda before=heard_at: conversation._silent_since > before)  # type: ignore[misc]
        at.later(0.2 * HOUR_S)
        assert end(await running) == ("timed_out", "still busy after 9000 s", "")


async def test_of_several_only_the_one_that_is_busy_for_too_long_is_spent() -> None:
    worker = shell('[ $n = 3 ] && echo "busy 2" >&4')
    async with Working(worker=worker, batch=3, timeout="1h", max_busy="1h") as at:
        running = at.begin(5, 6, 7)
        await at.until_unanswered(3)
        (conversation,) = at.conversations
        await until(lambda: conversation.unanswered[2].busy_since is not None)
        at.later(HOUR_S + 60)
        first, second, third = await asyncio.gather(*running)
    assert end(second) == ("timed_out", "still busy after 3600 s", "")
    assert {end(first), end(third)} == {("interrupted", SPLIT, "")}


async def test_who_answers_others_but_forgets_one_is_killed_too() -> None:
    worker = shell('[ $n = 1 ] || echo "ok $n" >&4')
    async with Working(worker=worker, batch=2, timeout="1h", max_busy="90m") as at:
        (forgotten,) = at.begin(5)
        await at.until_unanswered(1)
        at.later(0.8 * HOUR_S)
        assert (await at.run(6)).outcome == "succeeded"
        at.later(0.8 * HOUR_S)
        assert end(await forgotten) == ("timed_out", "no answer within 5400 s", "")


CLOSED = [
    ("exec 4>&-; sleep 600", "the worker closed its descriptor 4"),
    ("exec 4>&-; exit 3", "the worker process ended: exit status 3"),
]


@pytest.mark.parametrize(("does", "error"), CLOSED)
async def test_who_can_answer_no_more_is_ended(does: str, error: str) -> None:
    async with Working(worker=shell(does)) as at:
        (running,) = at.begin(5)
        if "sleep" in does:
            await at.until_unanswered(1)
            (conversation,) = at.conversations
            await until(lambda: conversation.phase == "ending")
            at.later(2)
        assert end(await running) == ("failed", error, "")


async def test_an_orphan_that_holds_the_descriptors_wedges_nothing(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    worker = shell(
        'setsid -f sh -c \'echo $$ >"$PID.new"; mv "$PID.new" "$PID"; exec sleep 600\';'
        ' while [ ! -e "$PID" ]; do sleep 0.01; done; exit 7'
    )
    async with Working(worker=worker, env={"PID": str(pid)}) as at:
        died = await at.run()
        assert died.error == "the worker process ended: exit status 7"
        orphan = int(pid.read_text())
        assert kill_marked({mark for mark in [read_mark(orphan)] if mark}) == 1
        await until(lambda: not runs(orphan))


async def test_max_runs_ends_a_process_in_good_order(tmp_path: Path) -> None:
    bye = tmp_path / "bye"
    worker = [*shell('echo "ok $n $pid" >&4')[:2], shell('echo "ok $n $pid" >&4')[2] + '>"$BYE"']
    async with Working(worker=worker, max_runs=2, env={"BYE": str(bye)}) as at:
        pids = [(await at.run(delivery)).output for delivery in range(4)]
        await at.until_gone()
        assert bye.exists()
    assert pids[0] == pids[1] != pids[2] == pids[3]


@pytest.mark.parametrize("key", ["max_age", "idle"])
async def test_a_process_ends_when_it_is_old_or_has_nothing_to_do(key: str) -> None:
    async with Working(worker=ANSWERS_OK, **{key: "1h"}) as at:
        before = (await at.run(5)).output
        at.later(0.5 * HOUR_S)
        assert (await at.run(6)).output == before
        at.later(0.6 * HOUR_S if key == "max_age" else 1.1 * HOUR_S)
        await at.until_gone()
        assert (await at.run(7)).output != before


async def test_one_that_is_idle_now_and_then_is_kept() -> None:
    async with Working(worker=ANSWERS_OK, idle="1h") as at:
        pids = set()
        for delivery in range(4):
            pids.add((await at.run(delivery)).output)
            at.later(0.6 * HOUR_S)
    assert len(pids) == 1


async def test_a_process_with_much_memory_ends_after_its_work() -> None:
    worker = python("text = b'x' * (64 << 20); say('ok', n, os.getpid())")
    async with Working(worker=worker, max_memory="50 MiB") as at:
        before = await at.run(5)
        at.later(2)
        await at.until_gone()
        assert before.outcome == "succeeded"
        assert (await at.run(6)).output != before.output


async def test_a_process_with_far_too_much_memory_is_killed(tmp_path: Path) -> None:
    grown = tmp_path / "grown"
    worker = python("text = b'x' * (256 << 20); open(os.environ['GROWN'], 'w'); time.sleep(600)")
    keys = {"max_memory": "50 MiB", "timeout": "10m", "env": {"GROWN": str(grown)}}
    async with Working(worker=worker, **keys) as at:
        (running,) = at.begin(5)
        await until(lambda: grown.exists() or running.done())
        while not running.done():
            at.later(1)
            await asyncio.sleep(0.01)
        error = "the worker process has more than twice `max_memory`"
        assert (await running).error == error


async def test_who_does_not_end_by_itself_gets_sigterm_and_then_sigkill(tmp_path: Path) -> None:
    worker = shell('trap \'>"$TERMINATED"\' TERM; echo "ok $n" >&4; while :; do sleep 0.01; done')
    term = tmp_path / "term"
    async with Working(worker=worker, max_runs=1, env={"TERMINATED": str(term)}) as at:
        assert (await at.run()).outcome == "succeeded"
        (conversation,) = at.conversations
        assert not term.exists()
        at.later(6)
        await until(term.exists)
        assert at.conversations == [conversation]
        at.later(6)
        await at.until_gone()


async def test_the_daemons_stop_interrupts_what_is_not_answered(tmp_path: Path) -> None:
    worker = shell(
        'trap \'[ "$delivery" = 5 ] && echo "ok $n at last" >&4; exit\' TERM;'
        ' echo "begun $delivery"; >"$BEGUN$delivery";'
        " while :; do sleep 0.01; done",
        first="exec 2>/dev/null",  # on which sh says that its `sleep` was terminated
    )
    async with Working(worker=worker, concurrency=2, env={"BEGUN": f"{tmp_path}/"}) as at:
        running = at.begin(5, 6, 7)
        await until(lambda: (tmp_path / "5").exists() and (tmp_path / "6").exists())
        at.runner.interrupt()
        answered, unanswered, waiting = await asyncio.gather(*running)
        assert end(answered) == ("succeeded", None, "begun 5\nat last")
        assert end(unanswered) == ("interrupted", "the daemon was stopped", "begun 6")
        assert end(waiting) == ("interrupted", "the daemon was stopped", None)
        assert (await at.run(8)).outcome == "interrupted"


async def test_a_stop_ends_what_is_starting_and_what_ignores_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(process, "KILL_AFTER_S", 0.2)
    trapped = tmp_path / "trapped"
    worker = shell("", first='trap "" TERM; >"$TRAPPED"; sleep 600; sleep 600')
    async with Working(worker=worker, env={"TRAPPED": str(trapped)}) as at:
        (running,) = at.begin(5)
        await until(trapped.exists)
        (conversation,) = at.conversations
        at.runner.interrupt()
        assert end(await running) == ("interrupted", "the daemon was stopped", None)
        at.runner.close()
        assert at.conversations == []
        assert conversation.phase == "ended"


async def test_a_revoked_permit_kills_its_process_and_costs_nothing(tmp_path: Path) -> None:
    go = tmp_path / "go"
    permit = Permit()
    async with Working(
        worker=shell(f'{WAIT}; echo "ok $n" >&4'), env={"GO": str(go)}, batch=2
    ) as at:
        (lost,) = at.begin(5, permit=permit)
        (beside,) = at.begin(6)
        await at.until_unanswered(2)
        await asyncio.to_thread(permit.revoke)
        assert permit.judged(await lost).error == "another host may have the delivery by now"
        error = "another host may have a delivery of its process by now"
        assert end(await beside) == ("interrupted", error, "")
        go.touch()
        again = await at.run_all([6, 7])
        assert outcomes(again) == {"succeeded": 2}


class Doubtful:
    """A claim that is not sure, until it is asked whether it stands."""

    def __init__(self, is_ours: bool = True) -> None:
        self.is_ours = is_ours
        self.proofs = 0

    def is_sure(self) -> bool:
        return self.proofs > 0

    async def prove(self) -> bool:
        self.proofs += 1
        return self.is_ours


async def test_a_claim_is_proved_before_its_line_is_written() -> None:
    claim = Doubtful()
    async with Working(worker=ANSWERS_OK) as at:
        assert (await at.run(permit=Permit(claim))).outcome == "succeeded"
        assert claim.proofs == 1


async def test_a_line_is_not_written_when_its_claim_lapses_while_it_is_prepared(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Those that are written with it are."""
    others, claim = Doubtful(), Doubtful(is_ours=False)
    others.proofs = claim.proofs = 1

    def late(number: int, line: bytes) -> bytes:
        claim.proofs = 0
        return numbered(number, line)

    monkeypatch.setattr(conversation, "numbered", late)
    async with Working(worker=shell('echo "ok $n $delivery" >&4'), batch=3) as at:
        (first,), (lapsed,), (last,) = (
            at.begin(delivery, permit=Permit(its))
            for delivery, its in ((5, others), (6, claim), (7, others))
        )
        assert end(await lapsed) == ("interrupted", NOT_OURS, None)
        assert [end(await each) for each in (first, last)] == [
            ("succeeded", None, "5"),
            ("succeeded", None, "7"),
        ]


@pytest.mark.parametrize("is_ours", [True, False])
async def test_a_line_that_waits_for_room_in_the_pipe_is_taken_back_when_its_claim_has_lapsed(
    tmp_path: Path, is_ours: bool
) -> None:
    """It is given again if the claim still stands."""
    claim = Doubtful(is_ours)
    claim.proofs = 1
    wait = 'while [ $n -lt 3 ] && [ ! -e "$GO$n" ]; do sleep 0.01; done'
    worker = shell(f'{wait}; echo "for $delivery"; echo "ok $n" >&4')
    async with Working(worker=worker, env={"GO": f"{tmp_path}/go"}, batch=3) as at:
        (first,) = at.begin(5)
        await at.until_unanswered(1)
        (conversation,) = at.conversations
        pipe = conversation._input
        await until(lambda: pipe.read_bytes == pipe.written)
        room = fcntl.fcntl(pipe._descriptor, fcntl.F_GETPIPE_SZ) - 1500
        (second,) = at.begin(6, body=b'"%b"' % (b"x" * room))
        await at.until_unanswered(2)
        was_waiting = pipe.is_waiting
        # It has no room, and is so short that the kernel writes all of it or nothing.
        (waits,) = at.begin(7, body=b'"%b"' % (b"x" * 2000), permit=Permit(claim))
        await at.until_unanswered(3)
        assert (was_waiting, pipe.is_waiting) == (False, True)
        claim.proofs = 0
        (tmp_path / "go1").touch()
        await until(lambda: claim.proofs == 1)
        (tmp_path / "go2").touch()
        assert (await first).outcome == "succeeded"
        assert end(await second) == ("succeeded", None, "" if is_ours else "for 6")
        error = None if is_ours else NOT_OURS
        assert (await waits).error == error


async def test_what_is_left_of_the_group_of_one_that_ends_is_killed(tmp_path: Path) -> None:
    left = tmp_path / "left"
    worker = shell('sleep 600 & echo $! >"$LEFT"; exit 3')
    async with Working(worker=worker, env={"LEFT": str(left)}) as at:
        assert (await at.run()).exit_code == 3
        await until(lambda: not runs(int(left.read_text())))
