"""How worker processes end, with real ones: by themselves, by their faults, in good order, and what
that costs the deliveries which they had."""

import asyncio
from pathlib import Path

import pytest

from premblyd.features.worker import conversation
from premblyd.features.worker.conversation import UNHEARD
from premblyd.features.worker.protocol import numbered
from premblyd.run import process
from premblyd.run.starting import NOT_OURS, TAKEN_OVER, Permit
from premblyd.run.strays import kill_marked, read_mark
from tests.features.worker.working import WAIT, Working, end, runs, shell
from tests.support.jobs import action
from tests.support.waiting import until

pytestmark = pytest.mark.process

DEATHS = {
    "echo half; exit 3": ("exit status 3", 3),
    "echo half; kill -KILL $pid": ("ended by signal SIGKILL", -9),
}


@pytest.mark.parametrize("does", DEATHS)
async def test_a_process_that_dies_spends_the_attempt_it_was_at_alone(does: str) -> None:
    """It alone: those that waited for the process run by another."""
    worker = shell(f'[ "$delivery" = 6 ] && {{ {does}; }}; echo "ok $n $pid" >&4')
    async with Working(worker=worker, concurrency=1) as at:
        before, died, after = await asyncio.gather(*at.begin(5, 6, 7))
    why, code = DEATHS[does]
    assert end(died) == ("failed", f"the worker process ended: {why}", "half")
    assert (died.exit_code, before.outcome, after.outcome) == (code, "succeeded", "succeeded")
    assert before.output != after.output


FAULTS = {
    "done with 1": "its line does not begin with one of ok, retry, dead",
    "ok 2": "it answers a number that it does not have",
}


@pytest.mark.parametrize("written", FAULTS)
async def test_what_is_not_of_the_protocol_fails_its_attempt_alone(written: str) -> None:
    """Nothing counts that is written after it."""
    breaks = f'[ "$delivery" = 6 ] && printf "{written}\\nok $n\\n" >&4 && sleep 60'
    async with Working(worker=shell(f'{breaks}; echo "ok $n" >&4')) as at:
        broken, after = [await at.run(delivery) for delivery in (6, 7)]
    assert end(broken) == ("failed", f"the worker broke the protocol: {FAULTS[written]}", written)
    assert after.outcome == "succeeded"


async def test_a_line_without_an_end_is_a_fault() -> None:
    async with Working(worker=shell("cat /dev/zero >&4")) as at:
        broken = await at.run()
    assert broken.error == "the worker broke the protocol: its line does not end"


async def test_an_answer_in_the_pipe_counts_when_the_process_is_gone(tmp_path: Path) -> None:
    go = tmp_path / "go"
    worker = shell(f'{WAIT}; echo "ok $n" >&4; kill -KILL $pid')
    async with Working(worker=worker, env={"GO": str(go)}) as at:
        (running,) = at.begin(5)
        await at.until_busy(1)
        (conversation,) = at.conversations
        # Now its end is seen first.
        asyncio.get_running_loop().remove_reader(conversation._process.answers)
        go.touch()
        assert (await running).outcome == "succeeded"


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


async def test_who_can_answer_no_more_is_ended() -> None:
    async with Working(worker=shell("exec 4>&-; sleep 600")) as at:
        (running,) = at.begin(5)
        await at.until_busy(1)
        (conversation,) = at.conversations
        await until(lambda: conversation.phase == "ending")
        at.later(2)
        assert end(await running) == ("failed", "the worker closed its descriptor 4", "")


async def test_an_orphan_wedges_nothing_and_what_is_left_is_killed(tmp_path: Path) -> None:
    pid, left = tmp_path / "pid", tmp_path / "left"
    worker = shell(
        'setsid -f sh -c \'echo $$ >"$PID.new"; mv "$PID.new" "$PID"; exec sleep 600\';'
        ' while [ ! -e "$PID" ]; do sleep 0.01; done; sleep 600 & echo $! >"$LEFT"; exit 7'
    )
    async with Working(worker=worker, env={"PID": str(pid), "LEFT": str(left)}) as at:
        assert (await at.run()).error == "the worker process ended: exit status 7"
        await until(lambda: not runs(int(left.read_text())))  # of its group
        orphan = int(pid.read_text())
        assert kill_marked({mark for mark in [read_mark(orphan)] if mark}) == 1
        await until(lambda: not runs(orphan))


async def test_who_does_not_end_by_itself_gets_sigterm_and_then_sigkill(tmp_path: Path) -> None:
    worker = shell('trap \'>"$TERMINATED"\' TERM; echo "ok $n" >&4; while :; do sleep 0.01; done')
    term = tmp_path / "term"
    async with Working(worker=worker, env={"TERMINATED": str(term)}) as at:
        assert (await at.run()).outcome == "succeeded"
        (conversation,) = at.conversations
        at.configure(action("other", shell="true"))
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
    monkeypatch.setattr(process, "KILL_AFTER_S", 0.05)
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
    async with Working(worker=shell(f'{WAIT}; echo "ok $n" >&4'), env={"GO": str(go)}) as at:
        (lost,) = at.begin(5, permit=permit)
        await at.until_busy(1)
        await asyncio.to_thread(permit.revoke)
        assert end(await lost) == ("interrupted", TAKEN_OVER, "")
        go.touch()
        assert (await at.run(6)).outcome == "succeeded"


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


async def test_a_line_is_not_written_when_its_claim_lapses_while_it_is_prepared(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    claim = Doubtful(is_ours=False)
    claim.proofs = 1

    def late(number: int, line: bytes) -> bytes:
        claim.proofs = 0
        return numbered(number, line)

    monkeypatch.setattr(conversation, "numbered", late)
    async with Working(worker=shell('echo "ok $n $n" >&4')) as at:
        assert end(await at.run(5, permit=Permit(claim))) == ("interrupted", NOT_OURS, None)
        assert end(await at.run(6)) == ("succeeded", None, "1")
