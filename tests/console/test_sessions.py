"""Who is signed in: until when, and who ends it."""

import json
from contextlib import closing
from typing import Any

import pytest

from premblyd.engines.connections import connect_operator
from premblyd.record import access
from premblyd.roles import Role
from tests.support.commands import run
from tests.support.console import CONSOLE, Browser, browser, new_link, set_password, signed_in
from tests.support.daemon import Premblyd
from tests.support.store import NOW_MS, Store
from tests.support.waiting import wait_until

FIRST, SECOND = "correct horse battery", "correct horse staple"
RECORDED = "SELECT actor, action, note FROM operator_action WHERE action = 'end-session'"


@pytest.fixture(name="guarded")
def guard(fresh: Premblyd) -> Premblyd:
    """A daemon whose console has the password FIRST."""
    set_password(fresh, FIRST)
    return fresh.start()


def by_password(daemon: Premblyd, password: str) -> Browser:
    own = browser(daemon)
    assert own.post("/sign-in", {"password": password}).status == 303
    return own


def is_in(own: Browser) -> bool:
    return own.get("/overview.json").status == 200


def test_another_password_ends_the_sessions_of_the_old_one(guarded: Premblyd) -> None:
    own, linked = by_password(guarded, FIRST), signed_in(guarded)
    guarded.reload()
    assert (is_in(own), is_in(linked)) == (True, True), "it is the same password"
    set_password(guarded, SECOND)
    guarded.reload()
    assert (is_in(own), is_in(linked)) == (False, True)
    note = "of password (console session 1): the password is another one"
    guarded.wait_for_rows([("premblyd", "end-session", note)], RECORDED)
    assert by_password(guarded, SECOND).get("/events").status == 200
    guarded.reload(console=CONSOLE)
    assert is_in(linked)
    guarded.wait_for_rows([(1,)], "SELECT count(*) FROM console_session")


def test_a_password_that_was_changed_while_it_was_stopped_ends_them_too(guarded: Premblyd) -> None:
    own = by_password(guarded, FIRST)
    guarded.stop()
    set_password(guarded, SECOND)
    guarded.start()
    own.address = browser(guarded).address
    assert not is_in(own)


def test_sessions_are_listed_and_ended(guarded: Premblyd) -> None:
    own, linked = by_password(guarded, FIRST), signed_in(guarded)

    def console(*arguments: str) -> Any:
        done = run("console", *arguments, "--config", guarded.config, SUDO_USER="ada")
        assert done.code == 0, done.err
        return done.out

    rows = json.loads(console("--sessions", "--json"))
    assert [(row["id"], row["by_password"], row["remote_ip"]) for row in rows] == [
        (2, False, "127.0.0.1"),
        (1, True, "127.0.0.1"),
    ]
    assert "digest" not in console("--sessions", "--json")
    assert console("--end", "1") == "Ended 1 session.\n"
    assert (is_in(own), is_in(linked)) == (False, True)
    assert console("--end", "all") == "Ended 1 session.\n"
    assert not is_in(linked)
    assert console("--sessions") == "Nobody is signed in.\n"
    assert guarded.rows(RECORDED)[0] == ("ada", "end-session", "of password (console session 1)")
    done = run("console", "--end", "7", "--config", guarded.config)
    assert (done.code, "There is no session 7." in done.err) == (1, True)
    assert run("console", "--end", "x", "--config", guarded.config).code == 2
    assert run("console", "--end", "7", "--sessions", "--config", guarded.config).code == 2


def test_wrong_links_of_a_stranger_are_few_lines_of_the_log(guarded: Premblyd) -> None:
    own = browser(guarded)
    token = own.xsrf()
    for number in range(30):
        assert own.post("/sign-in", {"_xsrf": token, "link": f"x{number}"}).status == 403
        assert own.get("/events.json").status == 401
    own.sign_in(new_link(guarded))
    wait_until(lambda: len(guarded.log("console.signed_in")) == 1)  # and so all before it
    assert len(guarded.log("console.sign_in_failed")) == 20
    assert len(guarded.log("console.refused")) == 20


def test_a_session_of_another_password_is_none_though_it_could_not_be_ended(store: Store) -> None:
    with closing(connect_operator(store.place)) as database:
        begin = access.begin_session(
            "token",
            password=(Role.REVEAL, "the hash"),
            remote_ip="192.0.2.7",
            now_ms=NOW_MS,
            life_ms=1000,
        )
        own = database.transact(begin)
        now = {Role.REVEAL: "the hash"}
        assert access.find_session(database, "token", NOW_MS, now) == own
        for other in ({Role.REVEAL: "another hash"}, {Role.OPERATE: "the hash"}, {}):
            assert access.find_session(database, "token", NOW_MS, other) is None
        assert access.find_session(database, "token", NOW_MS + 1000, now) is None
