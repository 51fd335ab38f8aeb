"""Who is signed in: until when, and who ends it."""

import json
from typing import Any

import pytest

from tests.support.commands import run
from tests.support.console import Browser, browser, new_link, signed_in
from tests.support.daemon import Premblyd
from tests.support.waiting import wait_until

pytestmark = pytest.mark.process

RECORDED = "SELECT actor, action, note FROM operator_action WHERE action = 'end-session'"


def is_in(own: Browser) -> bool:
    return own.get("/overview.json").status == 200


def test_sessions_are_listed_and_ended(fresh: Premblyd) -> None:
    fresh.start()
    first, second = signed_in(fresh), signed_in(fresh)

    def console(*arguments: str) -> Any:
        done = run("console", *arguments, "--config", fresh.config, SUDO_USER="ada")
        assert done.code == 0, done.err
        return done.out

    console()  # a link that nobody has used is no session
    listed = console("--sessions", "--json")
    rows = [(row["id"], row["remote_ip"]) for row in json.loads(listed)]
    assert rows == [(2, "127.0.0.1"), (1, "127.0.0.1")]
    assert "digest" not in listed
    assert console("--end", "1") == "Ended 1 session.\n"
    assert (is_in(first), is_in(second)) == (False, True)
    assert console("--end", "all") == "Ended 1 session.\n"
    assert not is_in(second)
    assert console("--sessions") == "Nobody is signed in.\n"
    ((actor, _, note), _) = fresh.rows(RECORDED)
    assert (actor, note.partition(" (")[2]) == ("ada", "console session 1)")
    for wrong, code in (("--end 7", 1), ("--end x", 2), ("--end 7 --sessions", 2)):
        assert run("console", *wrong.split(), "--config", fresh.config).code == code


def test_wrong_links_of_a_stranger_are_few_lines_of_the_log(fresh: Premblyd) -> None:
    own = browser(fresh.start())
    token = own.xsrf()
    for number in range(30):
        assert own.post("/sign-in", {"_xsrf": token, "link": f"x{number}"}).status == 403
        assert own.get("/events.json").status == 401
    own.sign_in(new_link(fresh))
    wait_until(lambda: len(fresh.log("console.signed_in")) == 1)  # and so all before it
    assert len(fresh.log("console.sign_in_failed")) == 20
    assert len(fresh.log("console.refused")) == 20
