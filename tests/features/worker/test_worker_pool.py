"""The pool of an action's worker processes, with real ones: which of them gets what, when none can
take anything, and what a reload does."""

import asyncio
import errno
import os
from pathlib import Path
from typing import Any

import pytest
from structlog.typing import EventDict

from premblyd.features.worker import conversation, workerprocess
from premblyd.features.worker.conversation import UNREAD
from premblyd.run.invocation import Invocation
from premblyd.run.starting import TAKEN_OVER, Permit
from tests.support.jobs import action
from tests.support.logs import logged
from tests.support.waiting import until
from tests.support.workers import ANSWERS_OK, WAIT, Working, end, of_delivery, outcomes, shell

pytestmark = pytest.mark.process

ABORTED = "each worker process of the action has answered `abort`"
CHANGED = "the configuration of the action has changed"
HALTS = {"flooded": "ended", "closed": "ended"}
NO_START = {
    "not_found": ["/nowhere/worker"],
    "not_started": [],
    "ended": ["sh", "-c", "exit 3"],
    "not_ready": ["sh", "-c", "exec sleep 600"],
    "other_version": ["sh", "-c", 'echo "ready 2" >&4; exec sleep 600'],
    "flooded": ["sh", "-c", "head -c 100000 /dev/zero | tr '\\0' x >&4; exec sleep 600"],
    "closed": ["sh", "-c", "exec 4>&-; exec sleep 600"],
}


@pytest.mark.parametrize("reason", NO_START)
async def test_a_program_that_does_not_start_costs_nothing_and_halts_its_action(
    reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conversation, "CLOSED_S", 0.01)
    worker = NO_START[reason]
    if reason == "not_started":
        (tmp_path / "worker").write_bytes(b"\x7fELF, but not really")
        (tmp_path / "worker").chmod(0o755)
        worker = [str(tmp_path / "worker")]
    async with Working(worker=worker, concurrency=2) as at:
        running = at.begin(5, 6, 7)
        if reason == "not_ready":
            await until(lambda: len(at.conversations) == 2)
            at.later(31)
        results = await asyncio.gather(*running)
        assert outcomes(results) == {"interrupted": 3}
        assert {0 <= result.retry_after_s <= 1 for result in results} == {True}
        assert at.halts == {"act": HALTS.get(reason, reason)}
        assert (await at.run(8)).outcome == "interrupted"


def again_s(lines: list[EventDict]) -> list[float]:
    return [line["again_s"] for line in lines if line["event"] == "worker.not_started"]


async def test_it_is_started_again_and_again_until_it_is_ready(tmp_path: Path) -> None:
    there = tmp_path / "there"
    worker = shell('echo "ok $n" >&4', first='[ -e "$THERE" ] || exit 1')
    async with Working(worker=worker, env={"THERE": str(there)}) as at:
        with logged() as lines:
            assert (await at.run(5)).outcome == "interrupted"
            for number in range(1, 8):
                at.later(again_s(lines)[-1] + 1)
                await until(lambda number=number: len(again_s(lines)) > number)  # type: ignore[misc]
        assert again_s(lines) == [1, 2, 4, 8, 16, 32, 60, 60]
        assert at.halts == {"act": "ended"}
        there.touch()
        at.later(61)
        await until(lambda: not at.halts)
        assert (await at.run(6)).outcome == "succeeded"


async def test_one_that_ends_without_reading_its_line_costs_nothing(tmp_path: Path) -> None:
    worker = ["sh", "-c", f'read -r hello <&3; echo "ready 1" >&4; {WAIT}']
    async with Working(worker=worker, env={"GO": str(tmp_path / "go")}) as at:
        [running] = at.begin(5)
        await at.until_busy(1)
        (tmp_path / "go").touch()
        assert end(await running) == ("interrupted", UNREAD, "")
        await until(lambda: at.halts == {"act": "ended"})


async def test_a_stop_does_not_take_up_again_what_is_halted() -> None:
    async with Working(worker=["sh", "-c", "exit 3"]) as at:
        assert (await at.run()).outcome == "interrupted"
        at.runner.interrupt()
        assert at.halts == {"act": "ended"}


async def test_while_another_process_is_ready_nothing_is_halted(tmp_path: Path) -> None:
    first = tmp_path / "first"
    go = tmp_path / "go"
    worker = shell(f'{WAIT}; echo "ok $n $pid" >&4', first='mkdir "$FIRST" || exit 1')
    files = {"FIRST": str(first), "GO": str(go)}
    async with Working(worker=worker, concurrency=2, env=files) as at:
        with logged() as lines:
            running = at.begin(5)
            await at.until_busy(1)
            running += at.begin(6)
            await until(lambda: [line for line in lines if line["event"] == "worker.not_started"])
        assert at.halts == {}
        go.touch()
        results = await asyncio.gather(*running)
        assert outcomes(results) == {"succeeded": 2}
        assert len({result.output for result in results}) == 1


async def test_an_aborted_process_is_not_replaced_until_a_reload(tmp_path: Path) -> None:
    aborts = tmp_path / "aborts"
    aborts.touch()
    worker = shell(
        'if [ "$delivery" = 6 ] && [ -e "$ABORTS" ]; then echo "abort $n full" >&4; else'
        f' {WAIT}; echo "ok $n $pid" >&4; fi'
    )
    files = {"ABORTS": str(aborts), "GO": str(tmp_path / "go")}
    async with Working(worker=worker, concurrency=2, env=files) as at:
        kept, aborted = at.begin(5, 6)
        assert (await aborted).outcome == "interrupted"
        await at.until_busy(1)
        assert at.halts == {}
        waiting = at.begin(7, 8)
        (tmp_path / "go").touch()
        pids = {(await each).output for each in (kept, *waiting)}
        assert len(pids) == 1
        full = ("interrupted", "the worker answered `abort`", "full")
        assert end(await at.run(6)) == full
        await until(lambda: at.halts == {"act": "aborted"})
        assert end(await at.run(6)) == ("interrupted", ABORTED, None)
        at.configure(*at.actions)
        assert at.halts == {}
        aborts.unlink()
        assert (await at.run(6)).outcome == "succeeded"


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
        if "concurrency" not in changes:
            late = await at.runner.run(old, of_delivery(7))  # type: ignore[arg-type]
            assert end(late) == ("interrupted", CHANGED, None)
        go.touch()
        assert (await running).outcome == "succeeded"
        after = await at.run(8)
        assert after.outcome == "succeeded"
        assert after.output != (await running).output
        await until(lambda: len(at.conversations) == 1)


async def test_a_reload_keeps_what_is_the_same_and_ends_what_is_gone_and_what_halts() -> None:
    halted = action("halted", worker=["/nowhere/worker"])
    async with Working(action("act", worker=ANSWERS_OK, env={"A": "1"}), halted) as at:
        await at.run(5, name="halted")
        assert at.halts == {"halted": "not_found"}
        before = (await at.run(6)).output
        at.configure(action("act", worker=ANSWERS_OK, env={"A": "1"}), halted)
        assert (await at.run(7)).output == before
        assert at.halts == {}
        at.configure(action("other", shell="true"))
        await at.until_gone()


async def test_an_alert_and_an_action_that_is_tried_have_their_own_processes() -> None:
    async with Working(worker=ANSWERS_OK) as at:
        of_action = await at.run(5)
        hook = action("tried", worker=ANSWERS_OK).hook
        alert = Invocation(action="act", id="x-act", body=b"text", environment={"TITLE": "x"})
        tried = of_delivery(0, name="tried")
        pids = {of_action.output}
        for invocation in (alert, tried):
            for _ in range(2):
                pids.add((await at.runner.run(hook, invocation)).output)  # type: ignore[arg-type]
        assert len(pids) == 3
        at.configure(*at.actions)
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

    async with Working(worker=ANSWERS_OK) as at:
        monkeypatch.setattr(where, name, short)
        assert (await at.run()).outcome == "succeeded"
        assert at.halts == {}
        for pid in filter(None, tried):
            with pytest.raises(ChildProcessError):  # it has started: it was ended and waited for
                os.waitpid(pid, 0)


async def test_processes_idle_for_longest_end_where_all_hold_too_many_files(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("premblyd.features.worker.worker._most_processes", lambda: 2)
    names = ("one", "two", "three")
    async with Working(*(action(name, worker=ANSWERS_OK) for name in names)) as at:
        for name in (*names, "two"):
            assert (await at.run(name=name)).outcome == "succeeded"
        await until(lambda: len(at.conversations) == 2)
        left = {pool.action for pool in at.runner._pools() if pool.conversations}
        assert left == {"two", "three"}
