"""A whole daemon that asks what became of what is pending."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support import prembly_api
from tests.support.configuration import shell
from tests.support.daemon import Premblyd
from tests.support.database import by_hand
from tests.support.prembly_api import PremblyApi
from tests.support.waiting import wait_until

pytestmark = pytest.mark.process

SETTLED = "SELECT state, settled_by_id FROM awaited"
EVENTS = "SELECT type, outcome FROM event ORDER BY id"
FINISHED = "SELECT event_id, state FROM delivery ORDER BY id"


def settings(folder: Path, api: PremblyApi, ask: str = "50ms", **changes: Any) -> dict[str, Any]:
    script = f'echo "$PREMBLY_TYPE $PREMBLY_REFERENCE $PREMBLY_OUTCOME" >> {folder}/ran; cat'
    return {
        "prembly": {"url": api.url, "api_key": prembly_api.KEY, "rate": 200},
        "pending": {"ask": [ask], "give_up": "1h"},
        "actions": [shell("activate", script, "00", types=["prembly.status"])],
        **changes,
    }


def change(daemon: Premblyd, sql: str) -> None:
    """Change the record of a stopped daemon by hand."""
    by_hand(daemon.place, sql)


def pending_body(reference: str = "r-1") -> bytes:
    verification = {"status": "PENDING", "reference": reference}
    return json.dumps({"response_code": "02", "verification": verification}).encode()


@pytest.mark.promise
def test_a_pending_webhook_is_settled_and_its_action_runs(tmp_path: Path, api: PremblyApi) -> None:
    known = api.know("r-1", status="PENDING", code="02")
    with Premblyd(tmp_path, **settings(tmp_path, api)) as daemon:
        daemon.start()
        assert daemon.send(pending_body()).status == 200
        wait_until(lambda: api.asked("r-1") >= 3)
        known.status, known.code = "VERIFIED", "00"
        daemon.wait_for_rows([(2, "succeeded")], FINISHED)
        assert daemon.rows(EVENTS) == [
            ("verification.direct", "pending"),
            ("prembly.status", "verified"),
        ]
        assert daemon.rows(SETTLED) == [("settled", 2)]
        assert (tmp_path / "ran").read_text() == "prembly.status r-1 verified\n"
        assert daemon.stop() == 0
        assert prembly_api.KEY not in daemon.log_text()


@pytest.mark.promise
def test_a_kill_while_prembly_is_asked_loses_nothing(tmp_path: Path, api: PremblyApi) -> None:
    api.know("r-1")
    api.fail(prembly_api.hang)
    with Premblyd(tmp_path, **settings(tmp_path, api)) as daemon:
        daemon.start()
        assert daemon.send(pending_body()).status == 200
        wait_until(lambda: api.asked("r-1") == 1)
        daemon.kill()
        assert daemon.rows(SETTLED) == [("waiting", None)]
        api.mend()
        daemon.start()
        daemon.wait_for_rows([("settled", 2)], SETTLED)
        daemon.wait_for_rows([(2, "succeeded")], FINISHED)
        assert (tmp_path / "ran").read_text().count("\n") == 1


def test_a_forged_webhook_runs_nothing_and_hides_nothing(tmp_path: Path, api: PremblyApi) -> None:
    known = api.know("r-1", status="PENDING", code="02")
    actions = settings(tmp_path, api)["actions"]
    actions[0] |= {"types": ["verification.*", "prembly.status"], "confirm": True}
    forged = {"response_code": "00", "verification": {"status": "VERIFIED", "reference": "r-1"}}
    with Premblyd(tmp_path, **settings(tmp_path, api, "1h", actions=actions)) as daemon:
        daemon.start()
        assert daemon.send(pending_body()).status == 200
        assert daemon.send(json.dumps(forged).encode()).status == 200
        daemon.wait_for_rows([("waiting", None)], SETTLED)
        wait_until(lambda: daemon.rows("SELECT count(*) FROM inquiry") == [(1,)])
        daemon.stop()
        assert not (tmp_path / "ran").exists()
        known.status, known.code = "NOT-VERIFIED", "00"
        change(daemon, "UPDATE awaited SET due_at_ms = 1")
        daemon.start()
        daemon.wait_for_rows([("settled", 3)], SETTLED)
        daemon.wait_for_rows([("succeeded",)], "SELECT state FROM delivery WHERE event_id = 3")
        assert "prembly.status r-1 not_verified" in (tmp_path / "ran").read_text()
