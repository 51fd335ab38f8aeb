"""Hooks whose delivery another host may have taken over meanwhile: not started, or ended."""

import asyncio
import shutil
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from premblyd.ground.errors import StoreUnavailableError
from premblyd.queue.jobs import Result
from premblyd.run import process
from premblyd.run.http import HttpRunner
from premblyd.run.process import Children
from premblyd.run.shell import ShellRunner
from premblyd.run.starting import NOT_OURS, NOT_PROVED, TAKEN_OVER, Permit
from premblyd.store.states import AttemptOutcome
from tests.support.http_server import Handler, Server, serving
from tests.support.jobs import endpoint, hook, invocation, settings
from tests.support.waiting import until


class FakeClaim:
    """A claim that is not sure, and what the database says of it."""

    def __init__(self, said: bool | Exception) -> None:
        self._said, self._is_sure = said, False

    def is_sure(self) -> bool:
        return self._is_sure

    async def prove(self) -> bool:
        if isinstance(self._said, Exception):
            raise self._said
        self._is_sure = self._said
        return self._said


# Runs a hook that leaves a mark, by a permit.
Run = Callable[[Permit], Result]


@pytest.fixture(name="server")
def serve() -> Iterator[Server]:
    with serving() as server:
        yield server


@pytest.fixture(name="run", params=["shell", "http"])
def make_run(request: pytest.FixtureRequest, tmp_path: Path, server: Server) -> Run:
    async def by_shell(permit: Permit) -> Result:
        with closing(ShellRunner(Children())) as runner:
            return await runner.run(hook(shell=f"touch {tmp_path}/ran"), invocation(permit=permit))

    async def by_http(permit: Permit) -> Result:
        with closing(HttpRunner(Children())) as runner:
            runner.configure(settings(endpoint()))
            return await runner.run(hook(http={"url": server.url}), invocation(permit=permit))

    run = by_shell if request.param == "shell" else by_http
    return lambda permit: asyncio.run(run(permit))


@pytest.fixture(name="has_run")
def make_has_run(tmp_path: Path, server: Server) -> Callable[[], bool]:
    return lambda: (tmp_path / "ran").exists() or bool(server.requests)


def end(result: Result) -> tuple[str, str | None]:
    return str(result.outcome), result.error


@pytest.mark.process
@pytest.mark.parametrize(
    ("said", "ended", "has_started"),
    [
        (True, ("succeeded", None), True),
        (False, ("interrupted", NOT_OURS), False),  # which costs no attempt
        (StoreUnavailableError("gone"), ("interrupted", NOT_PROVED), False),
        (None, ("interrupted", TAKEN_OVER), False),  # it is revoked before
    ],
)
def test_a_hook_starts_only_by_a_claim_that_is_proved(
    run: Run,
    has_run: Callable[[], bool],
    said: bool | Exception | None,
    ended: tuple[str, str | None],
    has_started: bool,
) -> None:
    permit = Permit() if said is None else Permit(FakeClaim(said))
    if said is None:
        permit.revoke()
    assert (end(run(permit)), has_run()) == (ended, has_started)


@pytest.mark.process
def test_a_hook_is_not_started_when_its_claim_lapses_while_its_start_is_prepared(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    claim, which = FakeClaim(False), shutil.which
    claim._is_sure = True

    def late(*about: Any, **more: Any) -> str | None:
        """The last that is done before it: to look where the program is."""
        claim._is_sure = False
        return str(which(*about, **more))

    monkeypatch.setattr(process.shutil, "which", late)  # type: ignore[attr-defined]

    async def main() -> Result:
        with closing(ShellRunner(Children())) as runner:
            touch = hook(command=["touch", f"{tmp_path}/ran"])
            return await runner.run(touch, invocation(permit=Permit(claim)))

    assert end(asyncio.run(main())) == ("interrupted", NOT_OURS)
    assert not (tmp_path / "ran").exists()


@pytest.mark.process
def test_a_process_that_runs_ends_at_once_when_its_permit_is_revoked(tmp_path: Path) -> None:
    """With all of its group, however it takes a SIGTERM."""
    script = f"trap '' TERM; (sleep 60; echo) & touch {tmp_path}/ran; sleep 60"
    permit = Permit()

    async def main() -> Result:
        with closing(ShellRunner(Children())) as runner:
            running = asyncio.create_task(runner.run(hook(shell=script), invocation(permit=permit)))
            await until((tmp_path / "ran").exists)
            permit.revoke()
            return await running

    ended = asyncio.run(main())
    assert (ended.outcome, ended.error) == ("failed", "ended by signal SIGKILL")
    assert end(permit.judged(ended)) == ("interrupted", TAKEN_OVER)
    done = Result(outcome=AttemptOutcome.SUCCEEDED)
    assert permit.judged(done) is done, "whether that is still told is up to the database"


def test_a_request_is_not_sent_when_its_claim_lapses_while_it_connects(server: Server) -> None:
    claim, is_sure = FakeClaim(False), iter([True, False])
    claim.is_sure = lambda: next(is_sure)  # type: ignore[method-assign]

    async def main() -> Result:
        with closing(HttpRunner(Children())) as runner:
            runner.configure(settings(endpoint()))
            post = hook(http={"url": server.url})
            return await runner.run(post, invocation(permit=Permit(claim)))

    assert end(asyncio.run(main())) == ("interrupted", NOT_OURS)
    assert server.requests == []


def test_a_request_that_waits_for_its_answer_is_given_up_when_its_permit_is_revoked() -> None:
    permit = Permit()

    async def main(server: Server) -> Result:
        with closing(HttpRunner(Children())) as runner:
            runner.configure(settings(endpoint()))
            post = hook(http={"url": server.url, "timeout": "50s"})
            running = asyncio.create_task(runner.run(post, invocation(permit=permit)))
            await until(lambda: server.requests)
            permit.revoke()
            return await running

    with serving(Handler.reply_when_released) as server:
        assert asyncio.run(main(server)).outcome == "interrupted"
