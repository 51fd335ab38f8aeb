"""The dead man's switch: heartbeats are earned, and what else is told of a daemon's life."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from signal import SIGHUP
from typing import Any
from urllib.parse import urlsplit

import pytest
from pydantic import ValidationError

from premblyd.alerts import checkin
from premblyd.alerts.checkin import Checkin
from premblyd.config.checkin import Checkin as Settings
from premblyd.databases import DatabaseAddress
from premblyd.queue.inbox import Inbox
from premblyd.receive import server as receiver
from premblyd.receive.server import Health
from premblyd.run import dispatcher
from premblyd.times import boot_s
from tests.support.commands import run
from tests.support.configuration import configuration, shell
from tests.support.daemon import Premblyd
from tests.support.dispatching import Dispatching
from tests.support.http_server import Handler, Server, self_signed, serving
from tests.support.jobs import PLACES, action
from tests.support.logs import Lines
from tests.support.rows import for_each
from tests.support.waiting import until, wait_until

BEAT, FAIL = "", "fail"


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatcher, "POLL_S", 0.05)
    monkeypatch.setattr(receiver, "FRESH_S", 0)
    monkeypatch.setattr(checkin, "AGAIN_S", 0.1)


def settings(url: str, every_ms: int = 60_000, **keys: Any) -> Settings:
    """Return settings, whose period may be shorter than any that a file may have."""
    read = Settings.model_validate({"url": url, **keys}, context=PLACES)
    return read.model_copy(update={"every_ms": every_ms})


@asynccontextmanager
async def checking_in(at: Dispatching, own: Settings) -> AsyncIterator[Checkin]:
    """Check in for a dispatcher and its database, as a daemon does."""
    health = Health(Inbox(at.writer), lambda: at.writer.failed_at)

    async def can_store() -> bool:
        return await asyncio.shield(health.check())

    checking = Checkin(can_store, lambda: at.dispatcher.looked_at_s)
    checking.start(own)
    task = asyncio.create_task(checking.run())
    yield checking
    checking.stop()
    await task
    await checking.end(None, None, None)


def signals(service: Server) -> list[str]:
    """Return what a service was told: the ends of the paths."""
    paths = [urlsplit(path).path for path, _, _ in service.requests]
    return [path.removeprefix("/hook").removeprefix("/") for path in paths]


def texts(service: Server) -> list[str]:
    """Return what a service was told in words."""
    return [body.decode() for _, _, body in service.requests if body]


def events(lines: Lines, event: str) -> Lines:
    return [line for line in lines if line["event"] == event]


async def test_a_daemon_tells_its_start_that_it_works_and_its_end(
    place: DatabaseAddress, lines: Lines
) -> None:
    with serving() as service:
        async with Dispatching(place) as at, checking_in(at, settings(service.url)):
            await until(lambda: BEAT in signals(service))
    assert signals(service) == ["start", BEAT, "0"]
    assert texts(service) == ["premblyd was stopped"]
    assert {urlsplit(path).query for path, _, _ in service.requests} == {"token=hush"}
    assert "hush" not in str(lines)


async def fails_and_goes_on_failing(service: Server, lines: Lines) -> None:
    """Wait for two failures in a row: the second is of a period that began after the fault. Then
    there is nothing else, and the log has it."""
    since = len(service.requests)
    await until(lambda: signals(service)[since:][-2:] == [FAIL, FAIL])
    since = len(service.requests)
    lines.clear()
    await until(lambda: len(service.requests) >= since + 2)
    assert set(signals(service)[since:]) == {FAIL}
    assert lines == events(lines, "checkin.sent"), "told once"


async def test_no_heartbeat_is_sent_while_the_dispatcher_stands(
    place: DatabaseAddress, lines: Lines
) -> None:
    with serving() as service:
        async with Dispatching(place) as at, checking_in(at, settings(service.url, 400)):
            await until(lambda: signals(service).count(BEAT) >= 2)
            async with at.dispatcher._claiming:  # no claim begins
                await fails_and_goes_on_failing(service, lines)
            assert texts(service)[-1] == checkin.NO_LOOK
            await until(lambda: signals(service)[-1] == BEAT)
    assert events(lines, "checkin.resumed")


async def test_a_long_period_excuses_no_dispatcher_that_stands(
    place: DatabaseAddress, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkin, "LOOKED_S", 1)
    with serving() as service:
        async with Dispatching(place) as at:
            await at.dispatcher._claiming.acquire()  # no claim begins
            at.dispatcher.looked_at_s = boot_s() - 10
            async with checking_in(at, settings(service.url)) as checking:  # each minute
                await until(lambda: checking._lack == checkin.NO_LOOK)
            at.dispatcher._claiming.release()
    assert BEAT not in signals(service)


async def test_no_heartbeat_is_sent_while_the_writer_hangs(
    place: DatabaseAddress, lines: Lines, gate: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receiver, "PATIENCE_S", 0.1)
    with serving() as service:
        async with Dispatching(place) as at, checking_in(at, settings(service.url, 400)):
            await until(lambda: BEAT in signals(service))
            hangs = at.writer.call(lambda _: gate.wait())
            await fails_and_goes_on_failing(service, lines)
            assert texts(service)[-1] == checkin.NO_STORE
            gate.set()
            await hangs
            await until(lambda: signals(service)[-1] == BEAT)
    assert events(lines, "checkin.resumed")


async def test_what_passes_within_a_period_is_no_failure(
    place: DatabaseAddress, gate: threading.Event
) -> None:
    with serving() as service:
        async with Dispatching(place) as at:
            hangs = at.writer.call(lambda _: gate.wait())
            async with checking_in(at, settings(service.url)) as checking:
                await until(lambda: checking._lack is not None)
                gate.set()
                await hangs
                await until(lambda: BEAT in signals(service))
    assert signals(service) == ["start", BEAT, "0"]


async def test_a_stop_of_what_could_not_work_is_no_good_end(
    place: DatabaseAddress, gate: threading.Event
) -> None:
    with serving() as service:
        async with Dispatching(place) as at:
            async with checking_in(at, settings(service.url)) as checking:
                await until(lambda: BEAT in signals(service))
                hangs = at.writer.call(lambda _: gate.wait())
                checking.configure(settings(service.url, 400))
                await until(lambda: checking._lack is not None)
            gate.set()
            await hangs
    assert signals(service)[-1] == FAIL
    assert texts(service)[-1] == f"premblyd was stopped; before that, {checkin.NO_STORE}"


async def test_a_service_that_does_not_answer_stops_nothing_and_is_told_once(
    place: DatabaseAddress, lines: Lines
) -> None:
    refuses = threading.Event()
    refuses.set()

    def answer(handler: Handler) -> None:
        handler.reply(503 if refuses.is_set() else 200)

    with serving(answer) as service:
        async with (
            Dispatching(place, action("true", shell="true")) as at,
            checking_in(at, settings(service.url)),
        ):
            await until(lambda: signals(service).count(BEAT) >= 3)
            await at.add("true")
            await at.until_states(succeeded=1)
            refuses.clear()
            await until(lambda: events(lines, "checkin.resumed"))
    assert events(lines, "checkin.not_sent") == [
        {
            "event": "checkin.not_sent",
            "log_level": "warning",
            "signal": "start",
            "http_status": 503,
            "error": "HTTP 503",
        }
    ]
    assert FAIL not in signals(service), "it does work"


async def test_a_silent_service_stops_nothing(place: DatabaseAddress) -> None:
    with serving(Handler.reply_when_released) as service:
        async with (
            Dispatching(place, action("true", shell="true")) as at,
            checking_in(at, settings(service.url)),
        ):
            await until(lambda: signals(service) == ["start"])
            await at.add("true")
            await at.until_states(succeeded=1)
            service.released.set()
            await until(lambda: BEAT in signals(service))


async def test_an_answer_that_it_was_ignored_is_a_failure(
    place: DatabaseAddress, lines: Lines
) -> None:
    def answer(handler: Handler) -> None:
        handler.reply(body=b"OK (not found)")

    with serving(answer) as service:
        async with Dispatching(place) as at, checking_in(at, settings(service.url)):
            await until(lambda: BEAT in signals(service))
    assert "is the URL right" in str(events(lines, "checkin.not_sent")[0]["error"])


async def test_a_service_that_knows_no_signals_gets_heartbeats_alone(
    place: DatabaseAddress, gate: threading.Event
) -> None:
    with serving() as service:
        own = settings(service.url, 400, signals="none")
        async with Dispatching(place) as at:
            async with checking_in(at, own) as checking:
                await until(lambda: signals(service).count(BEAT) >= 2)
                hangs = at.writer.call(lambda _: gate.wait())
                await until(lambda: checking._lack is not None)
            gate.set()
            await hangs
    assert {BEAT} == set(signals(service))
    assert texts(service) == []


@pytest.mark.process
@pytest.mark.parametrize("trusts", [True, False])
async def test_a_certificate_must_be_trusted(
    place: DatabaseAddress, lines: Lines, tmp_path: Path, trusts: bool
) -> None:
    pem = self_signed(tmp_path)
    with serving(certificate=pem) as service:
        keys: dict[str, Any] = {"ca_file": str(tmp_path / "certificate")} if trusts else {}
        own = settings(service.url, **keys)
        async with Dispatching(place) as at, checking_in(at, own):
            if trusts:
                await until(lambda: BEAT in signals(service))
            else:
                await until(lambda: events(lines, "checkin.not_sent"))
    errors = {line["error"] for line in events(lines, "checkin.not_sent")}
    assert errors == (set() if trusts else {"the TLS certificate is not trusted"})


def test_the_url_is_in_no_text_about_the_settings() -> None:
    assert "hush" not in repr(settings("https://hc-ping.com/hush"))
    for url in ("hc-ping.com/hush", "https://hc-ping.com/hush#", "https://hc-ping.com/hu sh"):
        with pytest.raises(ValidationError) as refused:
            settings(url)
        assert "hush" not in str(refused.value)


def test_a_period_is_no_shorter_than_the_dispatchers() -> None:
    with pytest.raises(ValidationError, match="should be at least 2s"):
        settings("https://hc-ping.com/x", every="1s")


# Of the process: its exit status, and what it reads again when it is told to.
@pytest.mark.process
def test_a_daemon_takes_up_a_new_service_and_tells_both_how_it_ends(tmp_path: Path) -> None:
    with serving() as first, serving() as second, Premblyd(tmp_path) as daemon:
        (tmp_path / "checkin-url").write_text(f"{first.url}\n")
        daemon.configure(checkin={"url": {"file": "checkin-url"}, "every": "1m"})
        daemon.start()
        wait_until(lambda: BEAT in signals(first))
        (tmp_path / "checkin-url").write_text(f"{second.url}\n")
        daemon.signal(SIGHUP)
        wait_until(lambda: BEAT in signals(second))
        assert daemon.stop() == 0
        wait_until(lambda: signals(second)[-1] == "0")
        assert signals(first)[0] == "start"
        assert "0" not in signals(first)
        assert "hush" not in daemon.log_text()


DIES = """
from premblyd.alerts.watch import TroubleWatch
async def fails(_): raise ZeroDivisionError
TroubleWatch.run = fails
"""
REMOVED_PARTS = """
from premblyd.errors import CannotStartError
from premblyd import listening
def fails(_): raise CannotStartError("nowhere")
listening.listen = fails
"""


# Of the process: its exit status.
@pytest.mark.process
@for_each(("before", "status"), [(DIES, 1), (REMOVED_PARTS, 78)])
def test_a_daemon_that_fails_tells_its_exit_status(
    tmp_path: Path, before: str, status: int
) -> None:
    with serving() as service, Premblyd(tmp_path) as daemon:
        daemon.configure(checkin={"url": service.url})
        assert daemon.fail_to_start(before)[0] == status
        assert signals(service)[-1] == str(status)
        assert texts(service) == ["premblyd has ended by a fault; its log says which"]


# Of two processes.
@pytest.mark.process
@pytest.mark.sqlite
def test_a_daemon_that_finds_another_at_work_does_not_speak_for_it(tmp_path: Path) -> None:
    with serving() as service, Premblyd(tmp_path) as daemon:
        daemon.start()
        daemon.configure(checkin={"url": service.url})
        assert daemon.fail_to_start()[0] == 75
        assert signals(service) == []


def test_check_says_where_it_is_not_safe(tmp_path: Path) -> None:
    path = tmp_path / "premblyd.yaml"
    (tmp_path / "checkin-url").write_text("https://status.internal/ping/hush\n")
    data = configuration(actions=[shell("true", "true")])
    path.write_text(json.dumps(data | {"checkin": {"url": {"file": "checkin-url"}}}))
    path.chmod(0o644)
    ran = run("--config", str(path), "check")
    assert "Sends a check-in every 1m." in ran.out
    assert "hush" not in ran.out + ran.err
    path.write_text(json.dumps(data | {"checkin": {"url": "https://status.internal/hush"}}))
    ran = run("--config", str(path), "check")
    assert f"{path} holds secrets and others can read it" in ran.err
