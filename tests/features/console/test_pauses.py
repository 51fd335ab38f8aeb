"""Actions are paused and resumed on their page: a daemon is needed, whose claims heed it."""

import re

import pytest

from premblyd.features.pause.pauses import MAX_REASON
from tests.support.configuration import shell
from tests.support.console import CONSOLE, Browser, opened
from tests.support.daemon import Premblyd
from tests.support.waiting import wait_until

pytestmark = pytest.mark.process

STATES = "SELECT action, state FROM delivery ORDER BY id"
DONE = "SELECT action, note FROM operator_action WHERE action IN ('pause', 'resume') ORDER BY id"
BODY = b'{"response_code": "00", "verification": {"reference": "ref-1"}}'


def test_an_action_is_paused_and_goes_on_by_a_button(fresh: Premblyd) -> None:
    own = opened(fresh, shell("crm", "true", "*"), shell("mail", "true", "*"))
    assert "Pause crm" in own.get("/actions").text
    answer = own.post("/actions/crm/pause", {"until": "2h", "reason": "<b>moved</b>"})
    assert (answer.status, answer.location) == (303, "/actions#a-crm")
    assert fresh.send(BODY).status == 200
    wait_until(lambda: ("mail", "succeeded") in fresh.rows(STATES))
    assert ("crm", "pending") in fresh.rows(STATES)
    page = own.get("/actions").text
    assert "Its hooks don't start: paused since 20" in page
    assert "&lt;b&gt;moved&lt;/b&gt;" in page
    assert "Resume crm" in page
    assert "Pause crm" not in page
    assert '<span class="badge s-pending">paused</span>' in own.get("/").text
    assert 'Its <a href="/actions">action</a> has been paused since 20' in own.get("/events/1").text
    assert 'premblyd_action_paused{action="crm"} 1.0' in own.get("/metrics").text
    assert own.post("/actions/crm/resume").status == 303
    wait_until(lambda: fresh.rows(STATES) == [("crm", "succeeded"), ("mail", "succeeded")])
    paused, resumed = fresh.rows(DONE)
    assert re.fullmatch("crm until 20.* UTC: <b>moved</b>", paused[1])
    assert resumed == ("resume", "crm")
    assert "<b>moved" not in own.get("/operators").text


def test_what_the_console_does_not_take_pauses_nothing(own: Browser, daemon: Premblyd) -> None:
    for fields, message in (
        ({"until": "soon"}, "A pause ends at a time such as"),
        ({"until": "2020-01-01"}, "is in the past"),
        ({"reason": "x" * (MAX_REASON + 1)}, "A reason has at most 200 characters"),
    ):
        answer = own.post("/actions/archive/pause", fields)
        assert (answer.status, message in answer.text) == (400, True), fields
    assert own.post("/actions/archiv/pause").status == 400, "it is in no configuration"
    assert own.post("/actions/arch%2Five/pause").status == 404
    assert daemon.rows("SELECT * FROM pause") == []
    assert own.post("/actions/archive/resume.json").json == {"resumed": False}


def test_an_action_that_is_gone_can_be_resumed_on_the_page(fresh: Premblyd) -> None:
    own = opened(fresh, shell("crm", "true", "*"))
    own.post("/actions/crm/pause")
    fresh.reload(console=CONSOLE, actions=[shell("mail", "true", "*")])
    page = own.get("/actions").text
    assert "This configuration has no such action. It has been paused since 20" in page
    assert own.post("/actions/crm/resume").status == 303
    assert "crm" not in own.get("/actions").text
