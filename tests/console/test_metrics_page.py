"""GET /metrics on the console's listener: for whom, and as what."""

from collections.abc import Iterator

import pytest

from tests.support.console import CONSOLE, Browser, browser, signed_in
from tests.support.daemon import Premblyd
from tests.support.requests import request


@pytest.fixture(scope="module")
def public(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Premblyd]:
    console = {**CONSOLE, "metrics": "public"}
    with Premblyd(tmp_path_factory.mktemp("public"), console=console) as daemon:
        yield daemon.start()


@pytest.mark.process
def test_who_is_not_signed_in_gets_no_metrics(daemon: Premblyd, own: Browser) -> None:
    page = browser(daemon).get("/metrics")
    assert page.status == 401
    assert page.text == "Unauthorized\nFor Prometheus: console: {metrics: public}\n"
    shown = own.get("/metrics")
    assert (shown.status, shown.headers["Content-Type"].partition(";")[0]) == (200, "text/plain")
    assert "premblyd_build_info" in shown.text


def test_private_metrics_answer_to_the_consoles_own_names_alone(own: Browser) -> None:
    assert own.get("/metrics", Host="evil.example").status == 421


@pytest.mark.process
def test_public_metrics_need_no_sign_in_and_any_name_will_do(public: Premblyd) -> None:
    page = browser(public).get("/metrics", Host="premblyd.internal:8081", Origin=None)
    assert page.status == 200
    assert 'premblyd_webhooks_total{endpoint="prembly",result="received"}' in page.text
    assert browser(public).get("/events").status == 303
    assert page.cookies == []


def test_metrics_count_what_the_daemon_does(public: Premblyd) -> None:
    assert public.send(b'{"response_code": "00"}').status == 200
    assert public.send(b"{}", x_prembly_signature="Zm9yZ2VkIQ==").status == 401
    text = browser(public).get("/metrics").text
    lines = dict(line.rsplit(" ", 1) for line in text.splitlines() if line[0] != "#")
    assert lines['premblyd_webhooks_total{endpoint="prembly",result="received"}'] == "1.0"
    assert lines['premblyd_rejections_total{reason="wrong signature"}'] == "1.0"
    assert float(lines["premblyd_commit_duration_seconds_count"]) >= 1
    assert lines["premblyd_requests_in_flight"] == "0.0"
    assert lines['premblyd_needs_attention{kind="unmatched"}'] == "1.0"


def test_the_public_listener_has_no_metrics(public: Premblyd) -> None:
    assert request(public.address, "GET", "/metrics", b"", {}).status == 404


@pytest.mark.process
def test_metrics_that_are_off_are_not_there(fresh: Premblyd) -> None:
    fresh.configure(console={**CONSOLE, "metrics": "off"})
    fresh.start()
    assert browser(fresh).get("/metrics").status == 401
    assert signed_in(fresh).get("/metrics").status == 404
