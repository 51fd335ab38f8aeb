"""What somebody can't do who knows the public key and the path, against actions with `confirm` and
`once`: run a hook for what Prembly did not say, run it twice, or keep it from running."""

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import prembly_api
from tests.support.commands import run
from tests.support.configuration import ONCE, shell
from tests.support.daemon import Premblyd
from tests.support.prembly_api import PremblyApi, Shape
from tests.support.waiting import wait_until

pytestmark = pytest.mark.process

UNFINISHED = "SELECT count(*) FROM delivery WHERE state IN ('pending', 'running')"
STATES = "SELECT state FROM delivery ORDER BY id"
UUID = "3fa85f64-5717-4562-b3fc-2c963f66afa6"
OWN_SESSION = "sdk_session_0123456789abcdef"  # the attacker's, who was verified himself


@pytest.fixture
def daemon(tmp_path: Path, api: PremblyApi) -> Iterator[Premblyd]:
    """A daemon that activates whom Prembly verified."""
    with Premblyd(tmp_path, **settings(tmp_path, api, when="outcome == 'verified'")) as daemon:
        yield daemon.start()


def settings(folder: Path, api: PremblyApi, **action: Any) -> dict[str, Any]:
    """Return what activates, and notes in a file for which reference."""
    record = f'echo "$PREMBLY_REFERENCE" >> {folder}/ran'
    (folder / "prembly-api-key").write_text(api.key)
    more: dict[str, Any] = {"confirm": True, "once": "reference", "retry": ONCE, **action}
    return {
        "actions": [shell("activate", record, "*", **more)],
        "prembly": {"url": api.url, "api_key": {"file": "prembly-api-key"}, "rate": 100},
    }


def ran(folder: Path) -> list[str]:
    path = folder / "ran"
    return path.read_text().splitlines() if path.exists() else []


def body(reference: str, status: str = "VERIFIED", **more: Any) -> bytes:
    verification = {"reference": reference, "status": status}
    return json.dumps({"response_code": "00", "verification": verification} | more).encode()


def send(daemon: Premblyd, *bodies: bytes) -> None:
    for each in bodies:
        assert daemon.send(each, token="t").status == 200


def test_a_session_confirms_no_reference(tmp_path: Path, api: PremblyApi, daemon: Premblyd) -> None:
    """A reference that is no id of Prembly's is not asked for. The session that is asked for
    instead says nothing of whom the reference may mean to a careless hook."""
    api.know("own-1", session_id=OWN_SESSION, shape=Shape.SESSION)
    spoilt = ["victim-1 ", "victim-1\n", "victim\u00ad-1", "x" * 201]
    send(daemon, *(body(reference, session_id=OWN_SESSION) for reference in spoilt))
    asked = "SELECT count(DISTINCT delivery_id) FROM inquiry WHERE result = 'unsettled'"
    daemon.wait_for_rows([(4,)], asked)
    daemon.wait_for_rows([("pending",)] * 4, STATES)
    assert ran(tmp_path) == []


def test_an_invented_session_keeps_nothing_from_its_result(tmp_path: Path, api: PremblyApi) -> None:
    """Whoever is first with a reference begins the waiting for it; the session beside it may be
    anything."""
    answer = json.loads(api.know("victim-1").answer())
    answer["data"]["session_id"] = "sdk_session_true"
    api.know("victim-1", body=json.dumps(answer).encode())
    changes = settings(tmp_path, api)
    with Premblyd(tmp_path, **changes, pending={"ask": ["1ms", "1s"]}) as daemon:
        daemon.start()
        send(daemon, body("victim-1", "PENDING", session_id="sdk_session_invented"))
        daemon.wait_for_rows([("settled",)], "SELECT state FROM awaited")
        types = "SELECT type, reference FROM event ORDER BY id DESC LIMIT 1"
        daemon.wait_for_rows([("prembly.status", "victim-1")], types)


def test_no_forgery_hides_that_the_true_event_never_came(tmp_path: Path, api: PremblyApi) -> None:
    api.know("victim-1")
    all_sent = threading.Event()

    def delay(handler: Any) -> None:
        all_sent.wait()
        prembly_api.status(404)(handler)

    api.fail(delay, "delays-the-others", times=1)
    changes = settings(tmp_path, api, concurrency=1)
    changes["prembly"]["timeout"] = "1h"
    with Premblyd(tmp_path, **changes) as daemon:
        daemon.start()
        forged = [body("victim-1", "NOT-VERIFIED", n=number) for number in range(3)]
        send(daemon, body("delays-the-others"), *forged)
        all_sent.set()
        daemon.wait_for_rows([(3,)], "SELECT count(*) FROM delivery WHERE state = 'dead'")
        listed = run("reconcile", "-", "--config", daemon.config, stdin=b"victim-1\n")
        assert (listed.code, "victim-1" in listed.out) == (1, True)
        assert run("reconcile", "-", "--store", "--config", daemon.config, stdin=b"victim-1\n")
        daemon.wait_for_rows([("prembly.status",)], "SELECT type FROM event WHERE token IS NULL")
        wait_until(lambda: ran(tmp_path) == ["victim-1"])


# What whoever has the public key may send to hide that the true event was lost.
HIDES: dict[str, dict[str, Any]] = {
    "bare-1": {"reference": "bare-1"},
    "acknowledged-1": {"verification": {"reference": "acknowledged-1", "status": True}},
    "00-alone-1": {"response_code": "00", "reference": "00-alone-1"},
    "unknown-word-1": {"verification": {"reference": "unknown-word-1", "status": "COMPLETED"}},
    "01-alone-1": {"response_code": "01", "reference": "01-alone-1"},
    "03-alone-1": {"response_code": "03", "reference": "03-alone-1"},
}


def test_nothing_without_a_result_hides_a_lost_event(tmp_path: Path, api: PremblyApi) -> None:
    """The recipe's hook runs for what Prembly says, once, when `reconcile` has asked."""
    for reference in HIDES:
        api.know(reference, created_at_s=time.time() - 3600)
    changes = settings(tmp_path, api, when="outcome == 'verified'")
    with Premblyd(tmp_path, **changes) as daemon:
        send(daemon.start(), *(json.dumps(forged).encode() for forged in HIDES.values()))
        assert run("reconcile", "--config", daemon.config).code == 1
        assert run("reconcile", "--store", "--config", daemon.config).code == 0
        daemon.wait_for_rows([(0,)], UNFINISHED)
        assert sorted(ran(tmp_path)) == sorted(HIDES)


def test_a_late_answer_runs_no_action_a_second_time(tmp_path: Path, api: PremblyApi) -> None:
    """It is listed, with the event that it ran for. After PENDING it runs: that was no result."""
    for reference in ("thin-1", "pending-1"):
        api.know(reference)
    archive = shell("archive", f'echo "$PREMBLY_REFERENCE" >> {tmp_path}/archived', "*")
    changes = settings(tmp_path, api, when="outcome == 'verified'")
    changes["actions"].append(archive)
    with Premblyd(tmp_path, **changes, pending={"ask": ["1ms", "1s"]}) as daemon:
        daemon.start()
        send(daemon, b'{"reference": "thin-1"}', body("pending-1", "PENDING"))
        wait_until(lambda: sorted(ran(tmp_path)) == ["pending-1", "thin-1"])
        daemon.wait_for_rows([(0,)], UNFINISHED)
        archived = (tmp_path / "archived").read_text().split()
        assert sorted(archived) == ["pending-1", "pending-1", "thin-1"]
        skipped = """SELECT later.event_id > 2, later.action, first.event_id FROM delivery later
            JOIN delivery first ON first.id = later.ran_instead_id WHERE later.state = 'skipped'"""
        assert daemon.rows(skipped) == [(1, "archive", 1)]
        stored = "SELECT id FROM event WHERE type = 'prembly.status' AND reference = 'thin-1'"
        [(number,)] = daemon.rows(stored)
        assert "(event 1) ran instead" in run("show", str(number), "--config", daemon.config).out


def test_what_comes_before_the_true_event_does_not_keep_it_from_running_once(
    tmp_path: Path, api: PremblyApi, daemon: Premblyd
) -> None:
    true: dict[str, Any] = {
        "widget_info": {"user_ref": "customer-1"},
        "face_data": {"status": True},
    }
    api.know("r-1", user_ref="customer-1", face_match=True, shape=Shape.WEBHOOK)
    false: list[dict[str, Any]] = [
        {"response_code": "99"},
        {"widget_info": {"user_ref": "somebody-else"}},
        {"face_data": {"status": False}},
        {"event": "transaction.processed"},
        {"event": "prembly.status", "response_code": "01"},
    ]
    send(daemon, *(body("r-1", **true | more) for more in false))
    daemon.wait_for_rows([(0,)], UNFINISHED)
    assert ran(tmp_path) == []
    send(daemon, body("r-1", **true), *(body("r-1", **true, n=number) for number in range(30)))
    daemon.wait_for_rows([(0,)], UNFINISHED)
    assert ran(tmp_path) == ["r-1"]
    states = "SELECT state, count(*) FROM delivery GROUP BY state ORDER BY state"
    # The transaction has no outcome, and what is doubted none but unknown: no action is for it.
    assert daemon.rows(states) == [("dead", 1), ("skipped", 30), ("succeeded", 1)]


# Python that the daemon runs first: it asks as often as always, and not for minutes.
IMPATIENT = (
    "from premblyd.features.asking import confirm; confirm.GRACE_S, confirm._WAITS_S = 0, (0.02,)"
)


@pytest.mark.parametrize("status", ["NOT-VERIFIED", "PENDING", None])
def test_what_prembly_does_not_confirm_holds_up_nothing_of_its_reference(
    tmp_path: Path, api: PremblyApi, status: str | None
) -> None:
    """It contradicts the forged event, does not know yet, or knows no such verification."""
    if status is not None:
        api.know("r-1", status=status)
    changes = settings(tmp_path, api, order={"by": "reference", "then": "wait"})
    with Premblyd(tmp_path, **changes) as daemon:
        send(daemon.start(before=IMPATIENT), body("r-1"))
        daemon.wait_for_rows([("dead",)], STATES)
        api.know("r-1", status="NOT-VERIFIED")
        send(daemon, body("r-1", "NOT-VERIFIED"))
        daemon.wait_for_rows([("dead",), ("succeeded",)], STATES)
        assert ran(tmp_path) == ["r-1"]
