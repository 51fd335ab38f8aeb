"""GET /metrics on the console's listener: for whom, and as what."""

from pathlib import Path

import pytest

from tests.support.console import CONSOLE, Browser, browser, signed_in
from tests.support.daemon import Premblyd
from tests.support.requests import request

pytestmark = pytest.mark.process


def test_who_is_not_signed_in_or_under_another_name_gets_no_metrics(
    daemon: Premblyd, own: Browser
) -> None:
    page = browser(daemon).get("/metrics")
    assert page.status == 401
    assert page.text == "Unauthorized\nFor Prometheus: console: {metrics: public}\n"
    assert own.get("/metrics", Host="evil.example").status == 421
    shown = own.get("/metrics")
    assert (shown.status, shown.headers["Content-Type"].partition(";")[0]) == (200, "text/plain")
    assert "premblyd_build_info" in shown.text


def test_public_metrics_need_no_sign_in_and_count_what_the_daemon_does(tmp_path: Path) -> None:
    with Premblyd(tmp_path, console={**CONSOLE, "metrics": "public"}) as public:
        public.start()
        assert public.send(b'{"response_code": "00"}').status == 200
        assert public.send(b"{}", x_prembly_signature="Zm9yZ2VkIQ==").status == 401
        page = browser(public).get("/metrics", Host="premblyd.internal:8081", Origin=None)
        assert (page.status, page.cookies) == (200, [])
        assert browser(public).get("/events").status == 303
        assert request(public.address, "GET", "/metrics", b"", {}).status == 404
    lines = dict(line.rsplit(" ", 1) for line in page.text.splitlines() if line[0] != "#")
    assert lines['premblyd_webhooks_total{endpoint="prembly",result="received"}'] == "1.0"
    assert lines['premblyd_rejections_total{reason="wrong signature"}'] == "1.0"
    assert float(lines["premblyd_answer_duration_seconds_count"]) >= 1
    assert lines['premblyd_needs_attention{kind="unmatched"}'] == "1.0"


def test_metrics_that_are_off_are_not_there(fresh: Premblyd) -> None:
    fresh.configure(console={**CONSOLE, "metrics": "off"})
    assert browser(fresh.start()).get("/metrics").status == 401
    assert signed_in(fresh).get("/metrics").status == 404
