"""The pool of an action's worker processes, with real ones: which of them gets what, when none can
take anything, and what a reload does."""

import asyncio
import errno
import os
from pathlib import Path
from typing import Any

import pytest

from premblyd.features.worker import conversation, workerprocess
from premblyd.features.worker.conversation import UNHEARD, UNREAD
from premblyd.run import starting
from premblyd.run.kinds import Invocation
from premblyd.run.starting import TAKEN_OVER, Permit
from tests.features.worker.working import ANSWERS_OK, WAIT, Working, end, of_delivery, shell
from tests.support.jobs import action
from tests.support.waiting import until

pytestmark = pytest.mark.process

CHANGED = "the configuration of the action has changed"
MISSING = "the command was not found or is not executable"
ENDED = "the worker process ended"
UNREADY = {  # by what a program does instead: what its delivery fails with
    "exit 3": f"{ENDED} before its `ready 1`: exit status 3",
    "exec sleep 600": f"no `ready 1` within `start_timeout`{UNHEARD}",
    'echo "ready 2" >&4; exec sleep 600': "the worker broke the protocol: it does not speak"
    " version 1 of the worker protocol",
    "head -c 100000 /dev/zero | tr '\\0' x >&4; exec sleep 600": "the worker broke the protocol:"
    " its line does not end",
    "exec 4>&-; exec sleep 600": "the worker closed its descriptor 4",
}


@pytest.mark.parametrize("does", UNREADY)
async def test_a_program_that_does_not_get_ready_fails_a_delivery_each_time(
    does: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conversation, "CLOSED_S", 0.01)
    async with Working(worker=["sh", "-c", f"echo begun; {does}"], concurrency=2) as at:
        running = at.begin(5, 6)
        if does == "exec sleep 600":
            await until(lambda: len(at.conversations) == 2)
            at.later(31)
        for result in await asyncio.gather(*running):
            assert (result.outcome, result.final, result.error) == ("failed", False, UNREADY[does])


async def test_a_program_that_is_missing_is_told_as_that_of_a_command_is() -> None:
    async with Working(worker=["/nowhere/worker"]) as at:
        for result in await at.run_all((5, 6)):
            assert (result.outcome, result.error, result.final) == ("failed", MISSING, True)


async def test_what_is_printed_before_ready_is_kept_if_it_never_comes() -> None:
    async with Working(worker=["sh", "-c", "echo no licence; exit 3"]) as at:
        assert (await at.run(5)).output == "no licence\n"


async def test_one_that_ends_without_reading_its_line_costs_nothing_if_it_has_worked(
    tmp_path: Path,
) -> None:
    first = 'read -r line <&3; echo "ok 1" >&4;'
    for works, outcome, error in (
        (first, "interrupted", UNREAD),
        ("", "failed", f"{ENDED}: exit status 0"),
    ):
        go = tmp_path / outcome
        worker = ["sh", "-c", f'read -r hello <&3; echo "ready 1" >&4; {works} {WAIT}']
        async with Working(worker=worker, env={"GO": str(go)}) as at:
            if works:
                assert (await at.run(5)).outcome == "succeeded"
            [running] = at.begin(6)
            await at.until_busy(1)
            go.touch()
            assert end(await running) == (outcome, error, "")


async def test_what_waits_here_is_not_given_once_another_host_may_have_it(tmp_path: Path) -> None:
    go = tmp_path / "go"
    worker = shell(f'{WAIT}; echo "ok $n $n" >&4')
    async with Working(worker=worker, env={"GO": str(go)}) as at:
        [running] = at.begin(5)
        await at.until_busy(1)
        permit = Permit()
        [waiting] = at.begin(6, permit=permit)
        await asyncio.sleep(0)  # until it waits
        permit.revoke()
        [behind] = at.begin(7)
        go.touch()
        assert end(await waiting) == ("interrupted", TAKEN_OVER, None)
        assert [(await each).output for each in (running, behind)] == ["1", "2"]


CHANGES: list[dict[str, Any]] = [{"env": {"A": "2"}}, {"concurrency": 3}]


@pytest.mark.parametrize("changes", CHANGES)
async def test_a_reload_replaces_the_processes_of_a_hook_that_has_changed(
    changes: dict[str, Any], tmp_path: Path
) -> None:
    go = tmp_path / "go"
    env = {"GO": str(go), "A": "1"}
    keys = {"worker": shell(f'{WAIT}; echo "ok $n $pid" >&4'), "concurrency": 1, "env": env}
    changed = {**keys, **changes, "env": env | changes.get("env", {})}
    async with Working(**keys) as at:
        old = at.actions[0].hook
        running, waiting = at.begin(5, 6)
        await at.until_busy(1)
        at.configure(action("act", **changed))
        # Its attempt is on record as of the old one; so it waits for no process of the new one.
        assert end(await waiting) == ("interrupted", CHANGED, None)
        go.touch()
        late = await at.runner.run(old, of_delivery(7))  # type: ignore[arg-type]
        assert late.outcome == "succeeded", "what was claimed before runs as it was"
        assert (await running).outcome == "succeeded"
        after = await at.run(8)
        assert after.outcome == "succeeded"
        assert after.output != (await running).output
        await until(lambda: len(at.conversations) == 1)


async def test_a_reload_keeps_what_is_the_same_and_ends_what_is_gone() -> None:
    async with Working(action("act", worker=ANSWERS_OK, env={"A": "1"})) as at:
        before = (await at.run(6)).output
        at.configure(action("act", worker=ANSWERS_OK, env={"A": "1"}))
        assert (await at.run(7)).output == before
        at.configure(action("other", shell="true"))
        await at.until_gone()


async def test_an_alert_and_an_action_that_is_tried_have_a_process_each_time() -> None:
    async with Working(worker=ANSWERS_OK) as at:
        of_action = await at.run(5)
        hook = action("tried", worker=ANSWERS_OK).hook
        alert = Invocation(action="act", id="x-act", body=b"text", environment={"TITLE": "x"})
        tried = of_delivery(0, name="tried")
        pids = {of_action.output}
        for invocation in (alert, tried):
            for _ in range(2):
                pids.add((await at.runner.run(hook, invocation)).output)  # type: ignore[arg-type]
        assert len(pids) == 5
        await until(lambda: len(at.conversations) == 1)


LACKING = [
    (workerprocess, "spawn", OSError(errno.EAGAIN, "")),
    (os, "pidfd_open", OSError(errno.EMFILE, "")),
    (os, "pidfd_open", MemoryError()),
]


@pytest.mark.parametrize(("where", "name", "error"), LACKING)
async def test_a_process_that_can_not_start_or_be_watched_now_starts_later(
    where: object, name: str, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    work, tried = getattr(where, name), list[int]()

    def short(*args: Any, **keys: Any) -> Any:
        if len(tried) < 3:
            tried.append(args[0] if name == "pidfd_open" else 0)
            raise error
        return work(*args, **keys)

    monkeypatch.setattr(starting, "PAUSE_S", 0.01)
    async with Working(worker=ANSWERS_OK) as at:
        monkeypatch.setattr(where, name, short)
        assert (await at.run()).outcome == "succeeded"
        for pid in filter(None, tried):
            with pytest.raises(ChildProcessError):  # it has started: it was ended and waited for
                os.waitpid(pid, 0)
