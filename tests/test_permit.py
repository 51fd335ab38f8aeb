"""Hooks whose delivery another host may have taken over meanwhile: not started, or ended."""

import asyncio
import contextlib
import shutil
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from premblyd.errors import StoreUnavailableError
from premblyd.model.states import AttemptOutcome
from premblyd.queue.jobs import Result
from premblyd.run import spawn
from premblyd.run.http import HttpRunner
from premblyd.run.process import Children
from premblyd.run.shell import ShellRunner
from premblyd.run.starting import NOT_OURS, NOT_PROVED, TAKEN_OVER, Permit
from tests.support.http_server import Handler, Server, self_signed, serving
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


class Lapses:
    """A claim that another host takes over as soon as somebody says so."""

    is_taken_over = False

    def is_sure(self) -> bool:
        return not self.is_taken_over

    async def prove(self) -> bool:
        return False

    def before(self, act: Callable[..., Any]) -> Callable[..., Any]:
        """Return `act`, before which this daemon stands still for so long."""

        def late(*about: Any, **named: Any) -> Any:
            self.is_taken_over = True
            return act(*about, **named)

        return late


@pytest.mark.process
def test_a_hook_is_not_started_when_its_claim_lapses_while_its_start_is_prepared(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    claim = Lapses()
    # The last that is done before it: a list of the places where the program may be.
    monkeypatch.setattr(spawn, "_candidates", claim.before(spawn._candidates))

    async def main() -> Result:
        with closing(ShellRunner(Children())) as runner:
            touch = hook(shell=f"touch {tmp_path}/ran")
            return await runner.run(touch, invocation(permit=Permit(claim)))

    assert end(asyncio.run(main())) == ("interrupted", NOT_OURS)
    assert not (tmp_path / "ran").exists()


@pytest.mark.process
@pytest.mark.skipif(not shutil.which("openssl"), reason="makes a certificate")
def test_a_request_is_not_sent_when_its_claim_lapses_while_its_connection_is_made(
    tmp_path: Path,
) -> None:
    claim, received = Lapses(), list[bytes]()
    certificate = self_signed(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)

    def serve(listening: socket.socket) -> None:
        accepted, _ = listening.accept()
        claim.is_taken_over = True
        with (
            context.wrap_socket(accepted, server_side=True) as client,
            contextlib.suppress(OSError),  # it may be reset
        ):
            received.append(client.recv(1000))

    async def main(url: str) -> Result:
        with closing(HttpRunner(Children())) as runner:
            runner.configure(settings(endpoint()))
            http = {"url": url, "ca_file": str(certificate)}
            return await runner.run(hook(http=http), invocation(permit=Permit(claim)))

    with socket.create_server(("127.0.0.1", 0)) as listening:
        target = threading.Thread(target=serve, args=(listening,))
        target.start()
        ended = asyncio.run(main(f"https://127.0.0.1:{listening.getsockname()[1]}/"))
        target.join()
    assert end(ended) == ("interrupted", NOT_OURS)
    assert received in ([b""], [])


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


def test_a_request_that_waits_for_its_answer_is_given_up_when_its_permit_is_revoked() -> None:
    permit = Permit()

    async def main(server: Server) -> Result:
        with closing(HttpRunner(Children())) as runner:
            runner.configure(settings(endpoint()))
            running = asyncio.create_task(
                runner.run(
                    hook(http={"url": server.url, "timeout": "50s"}), invocation(permit=permit)
                )
            )
            await until(lambda: server.requests)
            permit.revoke()
            return await running

    with serving(Handler.reply_when_released) as server:
        assert asyncio.run(main(server)).outcome == "interrupted"


def test_a_hook_that_had_succeeded_before_its_permit_was_revoked_has_succeeded() -> None:
    """Whether that is still told of its delivery is up to the database."""
    permit = Permit()
    permit.revoke()
    done = Result(outcome=AttemptOutcome.SUCCEEDED)
    assert permit.judged(done) is done
