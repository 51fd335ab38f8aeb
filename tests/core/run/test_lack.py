"""The machine lacks descriptors, threads or memory for a moment: hooks wait, and nothing ends."""

import asyncio
import errno
import os
import resource
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from premblyd.queue.jobs import Result
from premblyd.run import starting
from premblyd.run.process import Children
from premblyd.run.shell import ShellRunner
from tests.support.configuration import ONCE, shell
from tests.support.daemon import Premblyd
from tests.support.jobs import hook, invocation
from tests.support.waiting import until, wait_until

pytestmark = pytest.mark.process

BODY = b'{"response_code":"00"}'
DELIVERIES = "SELECT state, attempts_left, count(*) FROM delivery GROUP BY 1, 2"


@dataclass
class Shortage:
    """Something that fails while the machine lacks it, and how often it has."""

    error: Exception
    lasts: bool = True
    failures: int = 0

    def unless_short(self, work: Callable[..., Any]) -> Callable[..., Any]:
        def attempt(*args: Any, **keys: Any) -> Any:
            if self.lasts:
                self.failures += 1
                raise self.error
            return work(*args, **keys)

        return attempt


def run_through(shortage: Shortage, runner: ShellRunner, **keys: Any) -> Result:
    """Run a hook, and end the shortage after it has failed three times."""

    async def main() -> Result:
        running = asyncio.create_task(runner.run(hook(**keys), invocation(b"the body")))
        while shortage.failures < 3:
            assert not running.done()
            await asyncio.sleep(0.01)
        shortage.lasts = False
        return await running

    return asyncio.run(main())


@pytest.mark.parametrize(
    ("where", "name", "error"),
    [
        (threading.Thread, "start", RuntimeError("can't start new thread")),
        (os, "memfd_create", MemoryError()),
        (os, "pipe", OSError(errno.ENFILE, "")),
    ],
)
def test_a_hook_that_can_not_start_now_starts_once_and_later(
    where: object, name: str, error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(starting, "PAUSE_S", 0.01)
    with closing(ShellRunner(Children())) as runner:
        shortage = Shortage(error)
        monkeypatch.setattr(where, name, shortage.unless_short(getattr(where, name)))
        result = run_through(shortage, runner, shell=f"cat >>{tmp_path}/ran; echo >>{tmp_path}/ran")
    assert (result.outcome, result.exit_code) == ("succeeded", 0)
    assert (tmp_path / "ran").read_text() == "the body\n"


def test_what_is_lacking_for_long_costs_no_attempt_and_the_hook_never_runs_late(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(starting, "PAUSE_S", 0.01)
    shortage = Shortage(RuntimeError("can't start new thread"))

    async def main(runner: ShellRunner) -> list[Result]:
        # The only thread stays busy until the others have lost their patience.
        script = "echo $PREMBLY_ATTEMPT >>ran; until [ -e over ]; do sleep 0.05; done"
        script = f"cd {tmp_path} && {script}"
        first = asyncio.create_task(runner.run(hook(shell=script), invocation(attempt=1)))
        await until((tmp_path / "ran").exists)
        monkeypatch.setattr(threading.Thread, "start", shortage.unless_short(lambda: None))
        late = [
            runner.run(hook(shell=script), invocation(attempt=number)) for number in range(2, 12)
        ]
        results = await asyncio.gather(*late)
        (tmp_path / "over").touch()
        return [*results, await first]

    with closing(ShellRunner(Children())) as runner:
        *late, first = asyncio.run(main(runner))
    assert first.outcome == "succeeded"
    assert {(str(one.outcome), one.error, one.retry_after_s) for one in late} == {
        ("interrupted", "the machine lacks threads", starting.AGAIN_S)
    }
    assert (tmp_path / "ran").read_text() == "1\n"


@contextmanager
def out_of_descriptors(daemon: Premblyd) -> Iterator[None]:
    """Let the daemon open no file more."""
    limits = resource.prlimit(daemon.process.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(daemon.process.pid, resource.RLIMIT_NOFILE, (8, limits[1]))
    try:
        yield
    finally:
        resource.prlimit(daemon.process.pid, resource.RLIMIT_NOFILE, limits)


def test_out_of_descriptors_everything_waits_and_then_goes_on(tmp_path: Path) -> None:
    script = f"echo $PREMBLY_EVENT >>{tmp_path}/ran; until [ -e {tmp_path}/go ]; do sleep 0.1; done"
    hook = shell("act", script, retry=ONCE)
    with Premblyd(tmp_path, actions=[hook | {"concurrency": 2}]) as daemon:
        daemon.start()
        for number in range(6):
            assert daemon.send(BODY, token=str(number)).status == 200
        with out_of_descriptors(daemon):
            (tmp_path / "go").touch()  # when two have ended, others are to start
            assert wait_until(lambda: daemon.log("daemon.waits"))
            answers: list[int] = []
            client = threading.Thread(
                target=lambda: answers.append(daemon.send(BODY, token="waits").status)
            )
            client.start()
            parts = {"sweep", "connections"}
            wait_until(lambda: {line["part"] for line in daemon.log("daemon.waits")} >= parts)
            time.sleep(1)  # a busy loop would fill the log now
            assert daemon.process.poll() is None
        client.join()
        assert answers == [200]
        wait_until(lambda: daemon.rows(DELIVERIES) == [("succeeded", 0, 7)])
        ran = (tmp_path / "ran").read_text().split()
        assert sorted(ran) == [str(number) for number in range(1, 8)]
        assert len(daemon.log("daemon.waits")) < 30
        assert daemon.log("library.message") == []
        assert daemon.stop() == 0
