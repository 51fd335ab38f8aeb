"""The pool of an action's worker processes, with real ones: which of them gets what, when none can
take anything, and what a reload does."""

import asyncio
import errno
import os
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest
from structlog.typing import EventDict

from premblyd.config.models import Action
from premblyd.queue.jobs import Lines, Result
from premblyd.run import ahead, starting, workerprocess
from premblyd.run.invocation import Invocation
from premblyd.run.pool import STALLED
from premblyd.run.spawn import spawn
from premblyd.run.starting import TAKEN_OVER, Permit
from premblyd.run.workerline import HAS_ABORTED
from premblyd.run.workerprocess import Input
from tests.support.jobs import action
from tests.support.logs import logged
from tests.support.waiting import until
from tests.support.workers import ANSWERS_OK, WAIT, Working, end, of_delivery, outcomes, shell

ABORTED = "each worker process of the action has answered `abort`"
CHANGED = "the configuration of the action has changed"
NO_START = {
    "not_found": ["/nowhere/worker"],
    "not_started": [],
    "ended": ["sh", "-c", "exit 3"],
    "not_ready": ["sh", "-c", "exec sleep 600"],
    "other_version": ["sh", "-c", 'echo "ready 2" >&4; exec sleep 600'],
}


@pytest.mark.parametrize("reason", NO_START)
async def test_a_program_that_does_not_start_costs_nothing_and_halts_its_action(
    reason: str, tmp_path: Path
) -> None:
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
        assert at.halts == {"act": reason}
        assert (await at.run(8)).outcome == "interrupted"


def again_s(lines: list[EventDict]) -> list[float]:
    return [line["again_s"] for line in lines if line["event"] == "worker.not_started"]


async def test_it_is_started_again_and_again_until_it_is_ready(tmp_path: Path) -> None:
    there = tmp_path / "there"
    worker = shell('echo "ok $n" >&4', first='[ -e "$THERE" ] || exit 1')
    async with Working(worker=worker, env={"THERE": str(there)}) as at:
        with logged() as lines:
            assert (await at.run(5)).outcome == "interrupted"
            for number in range(1, 9):
                at.later(again_s(lines)[-1] + 1)
                await until(lambda number=number: len(again_s(lines)) > number)  # type: ignore[misc]
        assert again_s(lines) == [1, 2, 4, 8, 16, 32, 60, 60, 60]
        assert at.halts == {"act": "ended"}
        there.touch()
        at.later(61)
        await until(lambda: not at.halts)
        assert (await at.run(6)).outcome == "succeeded"


async def test_one_that_ends_without_reading_its_line_costs_nothing_but_halts() -> None:
    async with Working(worker=["sh", "-c", 'read -r hello <&3; echo "ready 1" >&4']) as at:
        result = await at.run()
        assert result.outcome == "interrupted"
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
            await at.until_unanswered(1)
            running += at.begin(6)
            await until(lambda: [line for line in lines if line["event"] == "worker.not_started"])
        assert at.halts == {}
        go.touch()
        results = await asyncio.gather(*running)
        assert outcomes(results) == {"succeeded": 2}
        assert len({result.output for result in results}) == 1


async def test_each_process_is_started_that_may_have_something_to_do(tmp_path: Path) -> None:
    go = tmp_path / "go"
    worker = shell(f'{WAIT}; echo "ok $n $pid" >&4')
    async with Working(worker=worker, batch=10, concurrency=3, env={"GO": str(go)}) as at:
        running = at.begin(5)
        await at.until_unanswered(1)
        running += at.begin(6)  # the first has room for it, but would not begin it now
        await until(lambda: len(at.conversations) == 2)
        go.touch()
        await asyncio.gather(*running)
        assert len(at.conversations) == 2


async def test_who_aborts_gets_no_more_but_may_still_answer(tmp_path: Path) -> None:
    worker = shell('[ $n = 3 ] && printf "abort 2 full\\nok 1\\nok 3\\n" >&4')
    async with Working(worker=worker, batch=3) as at:
        first, aborted, third = await at.run_all([5, 6, 7])
        assert outcomes([first, third]) == {"succeeded": 2}
        assert end(aborted) == ("interrupted", "the worker answered `abort`", "full")
        await at.until_gone()
        assert at.halts == {"act": "aborted"}
        assert end(await at.run(6)) == ("interrupted", ABORTED, None)


async def test_what_it_does_not_answer_after_an_abort_costs_nothing() -> None:
    async with Working(worker=shell('[ $n = 2 ] && echo "abort 1" >&4'), batch=2) as at:
        aborted, unanswered = at.begin(5, 6)
        assert (await aborted).outcome == "interrupted"
        at.later(31)
        assert end(await unanswered) == ("interrupted", HAS_ABORTED, "")


async def test_an_aborted_process_is_not_replaced_until_a_reload(tmp_path: Path) -> None:
    aborts = tmp_path / "aborts"
    aborts.touch()
    worker = shell(
        'if [ "$delivery" = 6 ] && [ -e "$ABORTS" ]; then echo "abort $n" >&4; else'
        f' {WAIT}; echo "ok $n $pid" >&4; fi'
    )
    files = {"ABORTS": str(aborts), "GO": str(tmp_path / "go")}
    async with Working(worker=worker, concurrency=2, env=files) as at:
        kept, aborted = at.begin(5, 6)
        assert (await aborted).outcome == "interrupted"
        await at.until_unanswered(1)
        assert at.halts == {}
        waiting = at.begin(7, 8)
        (tmp_path / "go").touch()
        pids = {(await each).output for each in (kept, *waiting)}
        assert len(pids) == 1
        assert (await at.run(6)).outcome == "interrupted"
        await until(lambda: at.halts == {"act": "aborted"})
        at.configure(*at.actions)
        assert at.halts == {}
        aborts.unlink()
        assert (await at.run(6)).outcome == "succeeded"


async def test_a_reload_keeps_processes_whose_hook_is_the_same() -> None:
    def same() -> Action:
        return action("act", worker=ANSWERS_OK, env={"A": "1"}, concurrency=1)

    async with Working(same()) as at:
        before = (await at.run(5)).output
        at.configure(same())
        assert (await at.run(6)).output == before


@pytest.mark.parametrize(("ready", "lines"), [("ready 1 batch", 20), ("ready 1 busy abort", 2)])
async def test_an_action_takes_batches_once_a_process_says_that_it_does(
    ready: str, lines: int
) -> None:
    worker = shell('echo "ok $n" >&4', ready=ready)
    async with Working(worker=worker, concurrency=2, batch=10) as at:
        assert at.children.halts.lines == {"act": Lines(2)}
        await at.run()
        assert at.children.halts.lines == {"act": Lines(lines)}
        at.configure(*at.actions)
        assert at.children.halts.lines == {"act": Lines(lines)}
        at.configure(action("other", worker=worker, concurrency=3, batch=10))
        assert at.children.halts.lines == {"other": Lines(3)}


def test_lines_are_quick_when_many_were_and_until_they_are_much_slower() -> None:
    pace = ahead.Pace()
    quick = [pace.took(0.001) for _ in range(100)]
    assert [changed for changed in quick if changed] == [True]
    assert quick.index(True) > 20
    assert pace.lines(3, 1) == Lines(3, 12)
    assert pace.lines(3, 10) == Lines(30, 30)
    assert pace.lines(200, 50) == Lines(10_000, 100)
    assert not any(pace.took(0.03) for _ in range(100))
    assert pace.took(1)
    assert not any(pace.took(0.03) for _ in range(100))
    assert pace.lines(3, 1) == Lines(3, 0)


async def test_what_waits_for_processes_that_were_quick_goes_back_when_they_answer_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ahead, "QUICK_S", 600)  # however busy this machine is
    go = tmp_path / "go"
    worker = shell(f'[ $n = 1 ] || {WAIT}; echo "ok $n" >&4')
    async with Working(worker=worker, env={"GO": str(go)}) as at:
        await at.run()
        assert at.children.halts.lines == {"act": Lines(1, 4)}
        first, *others = at.begin(5, 6, 7, 8)
        await at.until_unanswered(1)
        at.later(2)
        assert [end(each) for each in await asyncio.gather(*others)] == 3 * [
            ("interrupted", STALLED, None)
        ]
        assert at.children.halts.lines == {"act": Lines(1)}
        late = at.begin(9, 10)  # of a claim that had begun before
        at.later(2)
        assert outcomes(await asyncio.gather(*late)) == {"interrupted": 2}
        go.touch()
        assert (await first).outcome == "succeeded"


async def test_a_quick_process_that_has_left_does_not_say_what_those_of_the_new_hook_take(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ahead, "QUICK_S", 600)
    go = tmp_path / "go"
    worker = shell(f'{WAIT}; echo "ok $n" >&4')
    async with Working(worker=worker, env={"GO": str(go)}) as at:
        [running] = at.begin(5)
        await at.until_unanswered(1)
        at.configure(action("act", worker=worker, concurrency=3))
        go.touch()
        assert (await running).outcome == "succeeded"
        assert at.children.halts.lines == {"act": Lines(3)}


async def test_alerts_that_wait_for_their_process_do_not_go_back_when_it_is_slow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ahead, "QUICK_S", 600)
    go = tmp_path / "go"
    worker = shell(f'[ $n = 1 ] || {WAIT}; echo "ok $n" >&4')
    async with Working(worker=worker, env={"GO": str(go)}) as at:
        alert = Invocation(action="act", id="x-act", body=b"text", environment={"TITLE": "x"})

        def run() -> Coroutine[Any, Any, Result]:
            return at.runner.run(at.actions[0].hook, alert)  # type: ignore[arg-type]

        await run()
        running = [asyncio.create_task(run()) for _ in range(3)]
        await at.until_unanswered(1)
        at.later(2)
        go.touch()
        assert outcomes(await asyncio.gather(*running)) == {"succeeded": 3}


async def test_what_waits_here_is_not_given_once_another_host_may_have_it(tmp_path: Path) -> None:
    go = tmp_path / "go"
    worker = shell(f'{WAIT}; echo "ok $n $n" >&4')
    async with Working(worker=worker, env={"GO": str(go)}) as at:
        [running] = at.begin(5)
        await at.until_unanswered(1)
        permit = Permit()
        [waiting] = at.begin(6, permit=permit)
        await asyncio.sleep(0)  # until it waits
        permit.revoke()
        [behind] = at.begin(7)
        go.touch()
        assert end(await waiting) == ("interrupted", TAKEN_OVER, None)
        assert [(await each).output for each in (running, behind)] == ["1", "2"]


CHANGES: list[dict[str, Any]] = [{"env": {"A": "2"}}, {"concurrency": 3}, {"max_runs": 9}]


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
        await at.until_unanswered(1)
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


async def test_a_reload_ends_the_processes_of_an_action_that_is_gone() -> None:
    async with Working(worker=ANSWERS_OK) as at:
        assert (await at.run(5)).outcome == "succeeded"
        at.configure()
        await at.until_gone()


async def test_a_reload_ends_what_halts() -> None:
    async with Working(worker=["/nowhere/worker"]) as at:
        await at.run(5)
        assert at.halts == {"act": "not_found"}
        at.configure(action("other", shell="true"))
        assert at.halts == {}


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


async def test_lines_that_come_together_are_written_by_one_write_for_each_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write, writes = Input._write, list[int]()

    def counted(self: Input, text: bytes) -> int | None:
        writes.append(text.count(b"\n"))
        return write(self, text)

    async with Working(worker=ANSWERS_OK, concurrency=2, batch=10) as at:
        await at.run_all([5, 6])
        await until(lambda: [each.phase for each in at.conversations] == ["ready", "ready"])
        monkeypatch.setattr(Input, "_write", counted)
        assert outcomes(await at.run_all(range(7, 13))) == {"succeeded": 6}
    assert writes == [3, 3]


async def test_a_suspect_is_next_and_alone_where_others_always_come(tmp_path: Path) -> None:
    worker = shell(
        'if [ ! -e "$DIED" ]; then [ $n = 2 ] && >"$DIED" && exit 1; else'
        ' while [ ! -e "$GO$n" ]; do sleep 0.01; done; echo "ok $n" >&4; fi'
    )
    files = {"DIED": f"{tmp_path}/died", "GO": f"{tmp_path}/go"}
    async with Working(worker=worker, batch=2, env=files) as at:
        assert outcomes(await at.run_all([5, 6])) == {"interrupted": 2}
        first, second = at.begin(7, 8)
        await at.until_unanswered(2)
        suspect, other = at.begin(5, 9)
        (tmp_path / "go1").touch()
        assert (await first).outcome == "succeeded"
        await asyncio.sleep(0)  # by then is given what may be
        assert at.unanswered == [1]
        for number in (2, 3):
            (tmp_path / f"go{number}").touch()
        assert outcomes([await second, await suspect]) == {"succeeded": 2}
        (tmp_path / "go4").touch()
        assert (await other).outcome == "succeeded"


async def test_two_suspects_are_alone_in_two_processes(tmp_path: Path) -> None:
    go, died = tmp_path / "go", tmp_path / "died"
    worker = shell(
        f'if [ -e "$DIED" ]; then {WAIT}; echo "ok $n" >&4;'
        f" elif [ $n = 2 ]; then {WAIT}; exit 1; fi"
    )
    files = {"DIED": str(died), "GO": str(go)}
    async with Working(worker=worker, batch=2, concurrency=2, env=files) as at:
        running = at.begin(5, 6, 7, 8)
        await at.until_unanswered(2, 2)
        go.touch()
        assert outcomes(await asyncio.gather(*running)) == {"interrupted": 4}
        died.touch()
        go.unlink()
        again = at.begin(5, 6, 9, 10)
        await at.until_unanswered(1, 1)
        go.touch()
        assert outcomes(await asyncio.gather(*again)) == {"succeeded": 4}


LACKING = [
    (workerprocess, "spawn", OSError(errno.EAGAIN, "")),
    (os, "pidfd_open", OSError(errno.EMFILE, "")),
    (os, "pipe", OSError(errno.ENFILE, "")),
    (os, "pidfd_open", MemoryError()),
]


@pytest.mark.parametrize(("where", "name", "error"), LACKING)
async def test_a_process_that_can_not_start_now_starts_later(
    where: object, name: str, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    work, failures = getattr(where, name), list[Exception]()

    def short(*args: Any, **keys: Any) -> Any:
        if len(failures) < 3:
            failures.append(error)
            raise error
        return work(*args, **keys)

    async with Working(worker=ANSWERS_OK) as at:
        monkeypatch.setattr(where, name, short)
        assert (await at.run()).outcome == "succeeded"
        assert at.halts == {}


async def test_a_process_that_has_started_but_can_not_be_watched_is_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    watch, unwatched = os.pidfd_open, list[int]()

    def fail_once(pid: int) -> int:
        if unwatched:
            return watch(pid)
        unwatched.append(pid)
        raise OSError(errno.EMFILE, "")

    monkeypatch.setattr(os, "pidfd_open", fail_once)
    async with Working(worker=ANSWERS_OK) as at:
        assert (await at.run()).outcome == "succeeded"
        with pytest.raises(ChildProcessError):  # it was waited for
            os.waitpid(unwatched[0], 0)


async def test_while_the_machine_lacks_what_a_process_needs_nothing_is_spent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def lack(*_: object, **__: object) -> int:
        raise OSError(errno.EMFILE, "")

    monkeypatch.setattr(workerprocess, "spawn", lack)
    monkeypatch.setattr(starting, "PATIENCE_S", 0.1)
    async with Working(worker=ANSWERS_OK) as at:
        error = "the machine lacks file descriptors"
        assert end(await at.run()) == ("interrupted", error, None)
        assert at.halts == {}


async def test_processes_idle_for_longest_end_where_all_hold_too_many_files(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("premblyd.run.worker._most_processes", lambda: 2)
    names = ("one", "two", "three")
    async with Working(*(action(name, worker=ANSWERS_OK) for name in names)) as at:
        for name in (*names, "two"):
            assert (await at.run(name=name)).outcome == "succeeded"
        await until(lambda: len(at.conversations) == 2)
        left = {pool.action for pool in at.runner._pools() if pool.conversations}
        assert left == {"two", "three"}


async def test_an_idle_process_ends_for_one_that_the_machine_has_no_room_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:

    def scarcely(*arguments: Any, **more: Any) -> int:
        if at.conversations:
            raise OSError(errno.EMFILE, "")
        return spawn(*arguments, **more)

    monkeypatch.setattr(workerprocess, "spawn", scarcely)
    names = ("one", "two")
    async with Working(*(action(name, worker=ANSWERS_OK) for name in names)) as at:
        for name in (*names, "one"):
            assert (await at.run(name=name)).outcome == "succeeded"


async def test_processes_that_were_at_work_when_there_were_too_many_end_once_they_are_idle(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("premblyd.run.worker._most_processes", lambda: 2)
    go, names = tmp_path / "go", ("one", "two", "three")
    worker = shell(f'{WAIT}; echo "ok $n" >&4')
    actions = [action(name, worker=worker, env={"GO": str(go)}) for name in names]
    async with Working(*actions) as at:
        running = [asyncio.create_task(at.run(name=name)) for name in names]
        await at.until_unanswered(1, 1, 1)
        go.touch()
        assert outcomes(await asyncio.gather(*running)) == {"succeeded": 3}
        at.later(2)
        await until(lambda: len(at.conversations) < 3)


async def test_a_process_that_answers_abort_for_each_of_its_lines_empties_one_place(
    tmp_path: Path,
) -> None:
    # The first process takes two lines, and aborts both.
    aborts = 'read -r line <&3; echo "abort 1" >&4; echo "abort 2" >&4'
    first = tmp_path / "first"
    worker = shell(f'mkdir {first} 2>&- && {{ {aborts}; }} || echo "ok $n" >&4')
    async with Working(worker=worker, concurrency=2, batch=2) as at:
        running = at.begin(1)
        await until(lambda: at.unanswered == [1])
        assert outcomes(await asyncio.gather(*running, at.run(2))) == {"interrupted": 2}
        assert (await at.run(3)).outcome == "succeeded"
        assert at.halts == {}
