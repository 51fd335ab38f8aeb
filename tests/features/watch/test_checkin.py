"""The dead man's switch: heartbeats are earned."""

from pathlib import Path
from signal import SIGHUP
from typing import Any

import pytest

from premblyd.features.watch import daemon as watch
from premblyd.features.watch.daemon import NO_LOOK, NO_STORE, Checkin
from premblyd.features.watch.settings import Checkin as Settings
from premblyd.ground.httpclient import Request, Response
from tests.support.configuration import shell
from tests.support.daemon import Premblyd
from tests.support.database import locked
from tests.support.http_server import serving
from tests.support.jobs import PLACES
from tests.support.logs import Lines
from tests.support.waiting import wait_until

URL = "https://hc-ping.com/hook?token=hush"


def settings(url: str = URL, **keys: Any) -> Settings:
    return Settings.model_validate({"url": url, **keys}, context=PLACES)


class Life:
    """A check-in of a daemon that works or not, and a service that answers or not, as a test says.
    No time passes but by `rounds`."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.can_store = self.looks = True
        self.answer = Response(200, b"OK", truncated=False)
        self.beats: list[float] = []
        self.checking = Checkin(self._can_store, lambda: self.looks)
        self.checking.configure(settings())

    async def _can_store(self) -> bool:
        return self.can_store

    async def send(self, request: Request, *_: object, **__: object) -> Response:
        """Stand for the HTTP client."""
        assert (request.url, request.method) == (URL, "GET")
        self.beats.append(self.now_s)
        return self.answer

    async def rounds(self, for_s: float) -> int:
        """Let so much time pass; return how many heartbeats were sent in it."""
        before, until_s = len(self.beats), self.now_s + for_s
        while self.now_s <= until_s:
            pause_s = await self.checking._round()
            assert pause_s, "it goes on, and not at once"
            self.now_s += pause_s
        return len(self.beats) - before


@pytest.fixture
def life(monkeypatch: pytest.MonkeyPatch) -> Life:
    own = Life()
    monkeypatch.setattr(watch, "HttpClient", lambda: own)
    return own


async def test_heartbeats_come_each_period_and_are_not_logged(life: Life, lines: Lines) -> None:
    assert await life.rounds(150) == 3
    assert lines == []


async def test_none_is_sent_that_is_not_earned_and_why_is_told_once(
    life: Life, lines: Lines
) -> None:
    life.can_store = False
    assert await life.rounds(300) == 0
    life.can_store, life.looks = True, False
    assert await life.rounds(300) == 0
    life.looks = True
    assert await life.rounds(60) > 0
    assert [(line["event"], line.get("reason")) for line in lines] == [
        ("checkin.withheld", NO_STORE),
        ("checkin.withheld", NO_LOOK),
        ("checkin.resumed", None),
    ]


async def test_a_service_that_does_not_answer_is_asked_again_soon(life: Life, lines: Lines) -> None:
    life.answer = Response(503, b"", truncated=False)
    assert await life.rounds(59) == 4
    life.answer = Response(200, b"OK", truncated=False)
    await life.rounds(60)
    told = [(line["event"], line.get("http_status")) for line in lines]
    assert told == [("checkin.not_sent", 503), ("checkin.resumed", None)]
    assert "hush" not in str(lines)


def test_a_url_is_needed_and_a_period_of_two_seconds_at_least() -> None:
    for keys in ({"url": "hc-ping.com"}, {"every": "1s"}, {"signals": "none"}):
        with pytest.raises(ValueError, match=r"should|permitted"):
            settings(**keys)


@pytest.mark.process
def test_a_daemon_checks_in_while_it_can_store_from_a_reload_on(
    tmp_path: Path, daemon: Premblyd
) -> None:
    with serving() as service:
        daemon.configure(actions=[shell("a", "true")])
        daemon.start()
        daemon.configure(checkin={"url": f"{service.url}/beat", "every": "2s"})
        daemon.signal(SIGHUP)
        wait_until(lambda: service.requests)
        with locked(daemon.place):
            wait_until(lambda: daemon.log("checkin.withheld"))
        wait_until(lambda: daemon.log("checkin.resumed"))
        assert {path for path, _, _ in service.requests} == {"/hook/beat"} or service.requests
