"""The dead man's switch: heartbeats are earned, and what else is told of a daemon's life."""

import asyncio
import json
import threading
import time
from pathlib import Path
from signal import SIGHUP
from typing import Any
from urllib.parse import urlsplit

import pytest
from pydantic import ValidationError

from premblyd.config.load import load_config
from premblyd.daemon import Daemon
from premblyd.features.watch import checkin
from premblyd.features.watch.checkin import Checkin
from premblyd.features.watch.settings import Checkin as Settings
from premblyd.ground.databases import DatabaseAddress
from premblyd.ground.httpclient import Request, Response
from premblyd.queue.inbox import Inbox
from premblyd.receive import server as receiver
from premblyd.receive.server import Health
from tests.support.commands import run
from tests.support.configuration import configuration, shell
from tests.support.daemon import Premblyd
from tests.support.dispatching import Dispatching
from tests.support.http_server import Server, self_signed, serving
from tests.support.jobs import PLACES
from tests.support.logs import Lines
from tests.support.waiting import until, wait_until

BEAT, START, FAIL, END = "", "start", "fail", "0"
URL = "https://hc-ping.com/hook?token=hush"


def settings(url: str = URL, **keys: Any) -> Settings:
    return Settings.model_validate({"url": url, **keys}, context=PLACES)


def signal(url: str) -> str:
    """Return which signal a URL is: the end of its path."""
    return urlsplit(url).path.removeprefix("/hook").removeprefix("/")


def signals(service: Server) -> list[str]:
    return [signal(path) for path, _, _ in service.requests]


def texts(service: Server) -> list[str]:
    return [body.decode() for _, _, body in service.requests if body]


def events(lines: Lines, event: str) -> Lines:
    return [line for line in lines if line["event"] == event]


class Life:
    """A check-in of a daemon that works or not, and a service that answers or not, as a test says.
    No time passes but by `rounds`."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.can_store = self.looks = True
        self.answer = Response(200, b"OK", truncated=False)
        self.told: list[tuple[str, str]] = []
        self.checking = Checkin(self._can_store, lambda: self.looked_s)
        self.looked_s = self.now_s
        self._pause_s: float | None = 0.0

    async def _can_store(self) -> bool:
        return self.can_store

    async def send(self, request: Request, *_: object, **__: object) -> Response:
        """Stand for the HTTP client."""
        self.told.append((signal(request.url), request.body.decode()))
        return self.answer

    def close(self) -> None: ...

    async def start(self, **keys: Any) -> None:
        self.checking.start(settings(**keys))
        assert self.checking._starting
        await self.checking._starting

    async def rounds(self, for_s: float) -> list[str]:
        """Let so much time pass; return the signals of it."""
        before, until_s = len(self.told), self.now_s + for_s
        while self.now_s <= until_s:
            self.looked_s = self.now_s if self.looks else self.looked_s
            pause_s = await self.checking._round()
            assert pause_s, "it goes on, and not at once"
            self.now_s += pause_s
        return [told for told, _ in self.told[before:]]

    async def end(self) -> tuple[str, str]:
        """Stop as a daemon does; return the last signal and its text."""
        self.checking.stop()
        assert await self.checking._round() is None
        await self.checking.end(None, None, None)
        return self.told[-1]


@pytest.fixture
def life(monkeypatch: pytest.MonkeyPatch) -> Life:
    own = Life()
    monkeypatch.setattr(checkin, "boot_s", lambda: own.now_s)
    monkeypatch.setattr(checkin, "HttpClient", lambda: own)
    return own


async def test_heartbeats_come_each_period_from_the_start_to_a_good_end(
    life: Life, lines: Lines
) -> None:
    await life.start()
    assert [START, *await life.rounds(150)] == [START, BEAT, BEAT, BEAT]
    assert await life.end() == (END, "premblyd was stopped")
    assert "hush" not in str(lines)


FAULTS = [("looks", checkin.NO_LOOK), ("can_store", checkin.NO_STORE)]


@pytest.mark.parametrize(("fault", "why"), FAULTS)
async def test_no_heartbeat_is_sent_while_the_daemon_cannot_work(
    life: Life, lines: Lines, fault: str, why: str
) -> None:
    await life.start()
    assert await life.rounds(0) == [BEAT]
    setattr(life, fault, False)
    life.looked_s -= 1
    assert await life.rounds(59) == [], "what passes by itself needs nobody"
    assert set(await life.rounds(600)) == {FAIL}
    assert life.told[-1] == (FAIL, why)
    assert [line["reason"] for line in events(lines, "checkin.withheld")] == [why], "told once"
    setattr(life, fault, True)
    assert await life.rounds(0) == [BEAT]
    assert events(lines, "checkin.resumed")
    setattr(life, fault, False)
    await life.rounds(300)
    assert await life.end() == (FAIL, f"premblyd was stopped; before that, {why}")


async def test_a_long_period_excuses_no_dispatcher_that_stands(life: Life) -> None:
    await life.start(every="1h")
    life.looks, life.looked_s = False, life.now_s - checkin.LOOKED_S - 1
    assert await life.rounds(3000) == []


async def test_a_service_that_knows_no_signals_gets_heartbeats_alone(life: Life) -> None:
    await life.start(signals="none")
    assert await life.rounds(60) == [BEAT, BEAT]
    life.can_store = False
    assert await life.rounds(300) == []
    await life.end()
    assert life.told == [(BEAT, "")] * 2


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (Response(503, b"", truncated=False), "HTTP 503"),
        (Response(0, b"", truncated=False, error="timeout"), "timeout"),
        (Response(200, b"OK (not found)", truncated=False), checkin._IGNORED),
    ],
)
async def test_what_does_not_arrive_is_told_once_and_sent_again(
    life: Life, lines: Lines, answer: Response, error: str
) -> None:
    life.answer = answer
    life.checking.configure(settings())
    assert await life.rounds(200) == [BEAT] * 14, "it does work"
    [line] = events(lines, "checkin.not_sent")
    assert (line["signal"], line["error"]) == ("heartbeat", error)
    life.answer = Response(200, b"OK", truncated=False)
    assert await life.rounds(0) == [BEAT]
    assert events(lines, "checkin.resumed")


async def test_by_a_real_commit_and_a_real_look_it_is_found_that_neither_can_be_done(
    place: DatabaseAddress, gate: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("FRESH_S", 0), ("PATIENCE_S", 0.05)):
        monkeypatch.setattr(receiver, name, value)
    with serving() as service:
        async with Dispatching(place) as at:
            health = Health(Inbox(at.writer), lambda: at.writer.failed_at)
            checking = Checkin(health.check, lambda: at.dispatcher.looked_at_s)
            checking.start(settings(service.url))
            task = asyncio.create_task(checking.run())
            await until(lambda: BEAT in signals(service))
            hangs = at.writer.call(lambda _: gate.wait())
            assert await checking._lacking(60) == checkin.NO_STORE
            gate.set()
            await hangs
            async with at.dispatcher._claiming:  # no claim begins
                at.dispatcher.looked_at_s -= 61
                assert await checking._lacking(60) == checkin.NO_LOOK
            at.dispatcher.wake()
            assert not await Health(Inbox(at.writer), time.monotonic).check(), "one failed just now"
            checking.stop()
            await task
            await checking.end(None, None, None)
    assert signals(service) == [START, BEAT, END]
    assert {urlsplit(path).query for path, _, _ in service.requests} == {"token=hush"}


def test_no_heartbeat_is_earned_where_writing_failed_lately_though_a_commit_works(
    tmp_path: Path,
) -> None:
    """On a full disk a small commit may find room where those of webhooks do not."""
    path = tmp_path / "premblyd.yaml"
    own = configuration(database=f"sqlite:///{tmp_path}/own.db", listen=f"unix:{tmp_path}/socket")
    path.write_text(json.dumps(own))

    async def scene() -> list[bool]:
        async with Daemon(load_config(path), path) as daemon:
            earned = [await daemon._can_store()]
            daemon._writer._report("the disk is full")
            daemon._writer._report(None)  # by another commit
            return [*earned, await daemon._can_store()]

    assert asyncio.run(scene()) == [True, False]


@pytest.mark.process
@pytest.mark.parametrize("trusts", [True, False])
async def test_a_certificate_must_be_trusted(lines: Lines, tmp_path: Path, trusts: bool) -> None:
    pem = self_signed(tmp_path)
    with serving(certificate=pem) as service:
        keys: dict[str, Any] = {"ca_file": str(tmp_path / "certificate")} if trusts else {}
        checking = Checkin(lambda: asyncio.sleep(0, True), lambda: float("inf"))
        checking.configure(settings(service.url, **keys))
        await checking._round()
    errors = [line["error"] for line in events(lines, "checkin.not_sent")]
    assert errors == ([] if trusts else ["the TLS certificate is not trusted"])


def test_the_url_is_in_no_text_about_the_settings() -> None:
    assert "hush" not in repr(settings("https://hc-ping.com/hush"))
    for url in ("hc-ping.com/hush", "https://hc-ping.com/hush#", "https://hc-ping.com/hu sh"):
        with pytest.raises(ValidationError) as refused:
            settings(url)
        assert "hush" not in str(refused.value)
    with pytest.raises(ValidationError, match="should be at least 2s"):
        settings(every="1s")


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
from premblyd.features.watch.troublewatch import TroubleWatch
async def fails(_): raise ZeroDivisionError
TroubleWatch.run = fails
"""


# Of the process: its exit status.
@pytest.mark.process
def test_a_daemon_that_fails_tells_its_exit_status(tmp_path: Path) -> None:
    with serving() as service, Premblyd(tmp_path) as daemon:
        daemon.configure(checkin={"url": service.url})
        assert daemon.fail_to_start(DIES)[0] == 1
        assert signals(service)[-1] == "1"
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
