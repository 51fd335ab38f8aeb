"""`order: reference` against a whole daemon: what runs when, and what people are told."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.commands import run
from tests.support.configuration import ONCE, shell
from tests.support.console import signed_in
from tests.support.daemon import Premblyd

WAIT = {"by": "reference", "then": "wait"}
STATES = "SELECT state FROM delivery ORDER BY id"


def body(status: str, reference: str = "r-1") -> bytes:
    verification = {"status": status, "reference": reference}
    return json.dumps({"response_code": "00", "verification": verification}).encode()


def begin(daemon: Premblyd, script: str, **more: Any) -> None:
    daemon.configure(console={"listen": "127.0.0.1:0"}, actions=[shell("crm", script, **more)])
    daemon.start()


@pytest.mark.process
@pytest.mark.promise
def test_people_are_told_who_waits_and_let_the_others_go_on(
    daemon: Premblyd, tmp_path: Path
) -> None:
    begin(daemon, f"test -e {tmp_path}/mended", order=WAIT, retry=ONCE)
    for status in ("PENDING", "NOT_VERIFIED", "VERIFIED"):
        daemon.send(body(status))
    daemon.wait_for_rows([("dead",), ("pending",), ("pending",)], STATES)
    listed = run("deliveries", "--blocked", "--config", daemon.config).out
    assert ("waits for delivery 2" in listed, "dead" in listed) == (True, False)
    assert "waits for delivery 1\n" in run("show", 2, "--config", daemon.config).out
    assert "later ones wait until it is replayed" in run("show", 1, "--config", daemon.config).out
    told = run("status", "--json", "--config", daemon.config)
    [held] = [item for item in json.loads(told.out)["attention"] if item["kind"] == "blocked"]
    assert held["text"].startswith("1 dead delivery of crm blocks later deliveries")

    own = signed_in(daemon)
    assert 'Waits for <a href="/deliveries/1">delivery 1</a>' in own.get("/events/2").text
    assert "wait until this one is replayed" in own.get("/events/1").text
    assert 'waits for <a href="/deliveries/2">2</a>' in own.get("/deliveries").text
    (tmp_path / "mended").touch()
    assert own.post("/deliveries/1/cancel.json").json["done"] == 1
    daemon.wait_for_rows([("cancelled",), ("succeeded",), ("succeeded",)], STATES)
    assert run("status", "--config", daemon.config).out.count("blocks later") == 0
