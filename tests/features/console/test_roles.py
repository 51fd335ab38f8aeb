"""Who may look, and who may operate: by link, and by a proxy."""

import json
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

from premblyd.features.console.handler import Handler
from premblyd.features.console.settings import SECRET_HEADER, Role
from tests.features.console.test_attacks import handlers
from tests.support.commands import ACTIONS, record, recorded_in, run
from tests.support.console import CONSOLE, Browser, Page, browser
from tests.support.daemon import Premblyd
from tests.support.rows import for_each

pytestmark = pytest.mark.process

SECRET = "a secret of the proxy"
PROXY = {"header": "Remote-User", "secret": SECRET, "roles": {"alice": "operate", "eve": "look"}}
REVEAL, CANCEL = "/events/1/reveal", "/deliveries/1/cancel"


@pytest.fixture(scope="module", name="daemon")
def run_daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Premblyd]:
    """A daemon whose console a proxy signs people in to."""
    folder = tmp_path_factory.mktemp("roles")
    place = recorded_in(record(folder))
    console = CONSOLE | {"proxy": PROXY}
    with Premblyd(folder, place=place, actions=ACTIONS, console=console) as daemon:
        yield daemon.start()


def by_link(daemon: Premblyd, role: str) -> Browser:
    own = browser(daemon)
    done = run("console", "--role", role, "--config", daemon.config)
    assert own.sign_in(done.out.strip()).status == 303
    return own


class Proxied(Browser):
    """A browser behind a proxy that has signed in whom it names."""

    def __init__(self, address: str, person: str, secret: str = SECRET) -> None:
        super().__init__(address)
        self.own = {"Remote_User": person, SECRET_HEADER.replace("-", "_"): secret}

    def request(self, method: str, path: str, body: bytes | None = None, **headers: Any) -> Page:
        return super().request(method, path, body, **{**self.own, **headers})


def by_proxy(daemon: Premblyd, role: str) -> Browser:
    person = next(name for name, own in PROXY["roles"].items() if own == role)  # type: ignore[attr-defined]
    return Proxied(browser(daemon).address, person)


WAYS = {"link": by_link, "proxy": by_proxy}


@for_each("way", WAYS)
def test_each_may_do_what_their_role_is_for_has_a_button_for_that_and_no_more(
    daemon: Premblyd, way: str
) -> None:
    for role in Role:
        own = WAYS[way](daemon, role)
        event, dead = (own.get(path).text for path in ("/events/1", "/dead"))
        parts = ((event, REVEAL), (event, "/replay"), (dead, "/dead/replay"))
        for page, part in parts:
            assert (part in page) == (role is Role.OPERATE), (role, part)
        assert (f"(may {role})" in event) == (role is not Role.OPERATE)
        revealed, cancelled = own.post(REVEAL), own.post(CANCEL)
        refused = [revealed.status == 403, cancelled.status == 403]
        assert refused == [role is Role.LOOK] * 2, role
        if role is Role.LOOK:
            assert "This needs the role `operate`, and you have `look`." in revealed.text
    last = "SELECT actor FROM operator_action WHERE action = 'reveal' ORDER BY id DESC LIMIT 1"
    ((actor,),) = daemon.rows(last)
    assert way == "link" or actor == "alice (console, by the proxy)"


def test_what_is_new_takes_an_operator_unless_it_says_otherwise() -> None:
    """Whoever adds a form and thinks of no role gives it to nobody else."""
    less = {
        handler.__name__
        for handler in handlers().values()
        if issubclass(handler, Handler) and handler.all_may_send
    }
    assert less == {"SignOut"}


def test_who_only_looks_learns_nothing_masked_by_searching(fresh: Premblyd) -> None:
    """Else they would find a person's number by how it begins, digit by digit."""
    number, detail = "22212345678", "Refused for Adaeze"
    body = {"status": True, "response_code": "00", "reference": number, "detail": detail}
    assert fresh.start().send(json.dumps(body).encode()).status == 200
    looking, operating = by_link(fresh, "look"), by_link(fresh, "operate")
    assert looking.get("/dead.json?error=1").status == 400
    assert looking.get("/events.json?find=2221").json["events"] == []
    for pattern in ("z*", "*okafor", "z????b.okafor", "sdk.z*", "sdk.*fa*", "*"):
        for page in ("/events.json", "/deliveries.json", "/dead.json"):
            assert looking.get(f"{page}?type={pattern}").status == 400, (page, pattern)
    for pattern in ("zainab.okafor", "sdk.session"):
        assert looking.get(f"/events.json?type={pattern}").status == 200, pattern
    assert operating.get("/events.json?type=z*").status == 200
    whole = looking.get(f"/events.json?find={number}").json["events"]
    assert [row["id"] for row in whole] == [1], "who knows it may find it"
    assert looking.get("/events.json?find=1").json["events"] == whole


def test_whom_the_proxy_names_otherwise_or_does_not_name_itself_gets_nothing(
    daemon: Premblyd,
) -> None:
    address = browser(daemon).address
    for person in ("mallory", "alice,eve", "", " ", "x" * 101):
        answer = Proxied(address, person).get("/events.json")
        assert answer.status == (403 if person in ("mallory", "alice,eve") else 401), person
    for secret in ("", "another secret of it", SECRET[:-1], "\xff"):
        assert Proxied(address, "alice", secret).get("/events.json").status == 401, secret
    own = HTTPConnection(address)
    own.putrequest("GET", "/events.json")
    for name, value in (("Remote-User", "alice"), ("Remote-User", "eve"), (SECRET_HEADER, SECRET)):
        own.putheader(name, value)
    own.endheaders()
    assert own.getresponse().status == 401, "it names several"
    own.close()
    assert SECRET not in daemon.log_text()


def test_anybody_else_has_the_role_of_the_star(fresh: Premblyd) -> None:
    fresh.configure(console=CONSOLE | {"proxy": PROXY | {"roles": {"*": "look"}}})
    own = Proxied(browser(fresh.start()).address, "mallory")
    assert own.get("/events.json").status == 200
    signed_out = own.post("/sign-out")
    assert (signed_out.status, "sign out there" in signed_out.text) == (400, True)
    fresh.reload(console=CONSOLE)
    assert own.get("/events.json").status == 401, "there is no proxy any more"


def test_whom_the_configuration_names_in_any_letters_has_that_role_and_not_the_star_s(
    fresh: Premblyd,
) -> None:
    roles = {"jürgen": "look", "groß": "look", "*": "operate"}
    fresh.configure(console=CONSOLE | {"proxy": PROXY | {"roles": roles}})
    address = browser(fresh.start()).address
    for name in ("jürgen", "groß"):
        own = Proxied(address, name.encode().decode("latin-1"))  # as UTF-8, as proxies send it
        assert (own.get("/events.json").status, own.post(CANCEL).status) == (200, 403), name
    assert Proxied(address, "jürgen").get("/events.json").status == 401, "that is no UTF-8"


def test_a_mistake_is_told(tmp_path: Path) -> None:
    for change, mistake in (
        ({"secret": "short"}, "at least 16 characters"),
        ({"header": SECRET_HEADER.lower()}, "this one has the secret"),
        ({"roles": {}}, "should not be empty"),
        ({"roles": {"alice": "admin"}}, "look"),
    ):
        console = CONSOLE | {"proxy": {**PROXY, **change}}
        done = run("check", "--config", Premblyd(tmp_path, console=console).config)
        assert (done.code, mistake in done.out + done.err) == (78, True), mistake
