"""Confirming in a real daemon: forged webhooks, crashes, reloads, and secrets that stay where they
are."""

import json
from pathlib import Path
from signal import SIGHUP
from typing import Any

import psutil
import pytest

from tests.support import prembly_api
from tests.support.commands import run
from tests.support.configuration import ONCE, shell
from tests.support.daemon import Premblyd
from tests.support.prembly_api import PremblyApi
from tests.support.waiting import wait_until

pytestmark = pytest.mark.process

BODY = b'{"response_code":"00","verification":{"status":"VERIFIED","reference":"%b"},"n":%d}'
DELIVERY = "SELECT state, attempts_left FROM delivery ORDER BY id"


def settings(folder: Path, api: PremblyApi, **prembly: Any) -> dict[str, Any]:
    record = f'echo "$PREMBLY_REFERENCE $PREMBLY_CONFIRMED" >> {folder}/ran'
    key = folder / "prembly-api-key"
    key.write_text(api.key)
    return {
        "actions": [shell("activate", record, "00", confirm=True, retry=ONCE)],
        "prembly": {"url": api.url, "api_key": {"file": key.name}, "rate": 100, **prembly},
    }


def ran(folder: Path) -> list[str]:
    path = folder / "ran"
    return path.read_text().splitlines() if path.exists() else []


def body(reference: str, number: int = 0) -> bytes:
    return BODY % (reference.encode(), number)


@pytest.mark.promise
def test_a_forged_webhook_runs_nothing_and_show_says_why(tmp_path: Path, api: PremblyApi) -> None:
    api.know("true-1")
    api.know("22123456789", status="NOT-VERIFIED", code="01")
    with Premblyd(tmp_path, **settings(tmp_path, api)) as daemon:
        daemon.start()
        for reference in ("true-1", "22123456789"):
            assert daemon.send(body(reference), token="t").status == 200
        daemon.wait_for_rows([("succeeded",), ("dead",)], "SELECT state FROM delivery ORDER BY id")
        shows = [("show", number, "--config", daemon.config) for number in (1, 2)]
        printed = [run(*show).out for show in shows]
        exact = [json.loads(run(*show, "--json").out) for show in shows]
        assert daemon.stop() == 0  # then the log is written
        levels = {line["event_id"]: line["level"] for line in daemon.log("inquiry.answered")}
    assert ran(tmp_path) == ["true-1 true"]
    assert levels == {1: "info", 2: "warning"}
    (confirmed,), (contradicted,) = (event["inquiries"] for event in exact)
    assert (confirmed["reference"], confirmed["result"]) == ("true-1", "confirmed")
    assert exact[0]["deliveries"][0]["confirmed_at_ms"] == confirmed["at_ms"]
    assert (contradicted["reference"], contradicted["result"]) == ("•••", "contradicted")
    assert "  confirmed by Prembly 20" in printed[0]
    assert "Questions to Prembly\n" in printed[0]
    assert "UTC  confirm, reference true-1: confirmed  (HTTP 200)" in printed[0]
    words = "Prembly's answer says outcome not_verified, the event verified"
    assert f"confirm, reference •••: contradicted: {words}  (" in printed[1]
    assert "22123456789" not in printed[1] + json.dumps(exact[1])


@pytest.mark.promise
def test_no_secret_is_in_a_log_an_argument_or_an_error(tmp_path: Path, api: PremblyApi) -> None:
    api.key = "canary-of-an-api-key"
    api.organisation = "canary-of-an-organisation"
    api.know("true-1", user_ref="canary-of-a-user")
    api.know("other-1", user_ref="canary-of-a-user", code="77123456789")
    secrets = {"headers": {"X-Organisation-Id": api.organisation, "X-Own": "canary-of-a-header"}}
    arguments: list[str] = []
    with Premblyd(tmp_path, **settings(tmp_path, api, **secrets)) as daemon:
        daemon.start(is_executed=True)
        for number, reference in enumerate(["true-1", "other-1", "nobody-1"]):
            assert daemon.send(body(reference, number)).status == 200
        wait_until(lambda: len(daemon.log("inquiry.answered")) == 3)
        for fault in (prembly_api.garbage, prembly_api.status(500, api.key), prembly_api.cut):
            api.fail(fault, times=1)
        for number in range(3, 6):
            assert daemon.send(body(f"true-{number}", number)).status == 200
        wait_until(lambda: len(daemon.log("inquiry.answered")) == 6)
        arguments.append(" ".join(psutil.Process(daemon.process.pid).cmdline()))
        (tmp_path / "prembly-api-key").write_text(f"{api.key} and two\nlines")
        daemon.signal(SIGHUP)
        wait_until(lambda: daemon.log("config.reload_refused"))
        assert daemon.stop() == 0
        errors = daemon.rows(
            "SELECT error, last_error, output FROM attempt JOIN delivery"
            " ON delivery.id = delivery_id"
        )
        shown = [
            *arguments,
            daemon.log_text(),
            errors,
            daemon.rows("SELECT * FROM inquiry"),
            *(path.read_text() for path in tmp_path.glob("*.running")),
        ]
    assert api.questions[0].headers["x-own"] == "canary-of-a-header"
    for hush in ("canary", "77123456789", "22123456789", "Bad Gateway"):
        assert not [text for text in shown if hush in str(text)]
