"""Who gets in, and who doesn't."""

import json
import re
import socket
from pathlib import Path

import pytest

from premblyd.config.console import Console
from premblyd.config.values import listen
from premblyd.console import strangers
from tests.support.commands import run
from tests.support.console import CONSOLE, Browser, browser, new_link, signed_in
from tests.support.daemon import Premblyd
from tests.support.database import by_hand
from tests.support.rows import for_each

SECURITY = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
}


def change(daemon: Premblyd, sql: str) -> None:
    by_hand(daemon.place, sql)


@pytest.mark.process
@pytest.mark.promise
def test_a_link_signs_in_once(daemon: Premblyd) -> None:
    link = new_link(daemon)
    first, second = browser(daemon), browser(daemon)
    assert first.sign_in(link).status == 303
    assert first.get("/events").status == 200
    again = second.sign_in(link)
    assert again.status == 403
    assert "This link was used before" in again.text
    assert second.get("/events").status == 303


def test_to_open_a_link_does_not_use_it_up(daemon: Premblyd) -> None:
    """Chats and mail programs open links to preview them."""
    link = new_link(daemon)
    path = "/sign-in" + link.partition("/sign-in")[2]
    for _ in range(2):
        assert "signs this browser in, once" in browser(daemon).get(path).text
    assert browser(daemon).sign_in(link).status == 303


@pytest.mark.process
def test_a_link_is_good_for_ten_minutes(fresh: Premblyd) -> None:
    fresh.start()
    link = new_link(fresh)
    change(fresh, "UPDATE console_token SET until_ms = until_ms - 600000")
    assert browser(fresh).sign_in(link).status == 403
    assert fresh.rows("SELECT kind FROM console_token") == [("link",)]


@pytest.mark.process
def test_a_session_ends_by_itself_and_by_signing_out_and_by_no_restart(fresh: Premblyd) -> None:
    fresh.start()
    own, other = signed_in(fresh), signed_in(fresh)
    kept = dict(own.cookies)
    assert own.post("/sign-out").status == 303
    own.cookies = kept  # as a thief would
    assert own.get("/events").status == 303
    assert fresh.stop() == 0
    fresh.start()
    other.address = browser(fresh).address
    assert other.get("/events").status == 200
    change(fresh, "UPDATE console_token SET until_ms = since_ms + 1")
    assert other.get("/events").status == 303


@pytest.mark.process
def test_the_record_has_who_signed_in_and_no_token(fresh: Premblyd) -> None:
    fresh.start()
    link = new_link(fresh)
    own = browser(fresh)
    own.sign_in(link)
    own.post("/sign-out")
    ((_, came, how), (_, went, _)) = fresh.rows(
        "SELECT action, actor, note FROM operator_action ORDER BY id"
    )
    assert came == went
    assert re.fullmatch(r".+ \(console session 1\)", came)
    assert how == "from 127.0.0.1, may operate"
    stored = b""
    if isinstance(fresh.place, Path):
        stored = fresh.place.read_bytes() + Path(f"{fresh.place}-wal").read_bytes()
    secrets = [link.partition("link=")[2], *own.cookies.values()]
    assert [secret for secret in secrets if secret and secret.encode() in stored] == []
    assert [secret for secret in secrets if secret and secret in fresh.log_text()] == []


@for_each("host", ["evil.example", "evil.example:8081", "localhost.evil.example"])
def test_another_name_is_refused(own: Browser, host: str) -> None:
    page = own.get("/events", Host=host)
    assert page.status == 421
    assert "<table" not in page.text


def test_own_names_are_localhost_addresses_and_the_public_one() -> None:
    settings = Console(listen="ops.internal:8081", url="https://premblyd.example.com")
    names = ["localhost:1", "127.0.0.1:8081", "[::1]:8081", "10.0.0.7", "ops.internal:8081"]
    assert all(strangers.is_own_host(name, settings) for name in [*names, "premblyd.example.com"])
    assert not strangers.is_own_host("example.com", settings)
    assert not strangers.is_own_host("a]:b[", settings)


def test_a_link_from_a_chat_to_a_page_opens_it(daemon: Premblyd, own: Browser) -> None:
    """The browser does not send a strict cookie with it, so the page opens itself once more."""
    page = browser(daemon).get("/events/1", Sec_Fetch_Site="cross-site")
    assert page.status == 200
    assert 'http-equiv="refresh" content="0"' in page.text
    assert own.get("/events/1").status == 200


@for_each("path", ["/sign-in", "/events", "/events.json", "/static/console.css", "/x"])
def test_every_answer_is_guarded(daemon: Premblyd, own: Browser, path: str) -> None:
    for page in (own.get(path), browser(daemon).get(path), own.get(path, Host="evil.example")):
        if not path.startswith("/static"):
            assert SECURITY.items() <= page.headers.items()
        policy = page.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert not [name for name in page.headers if name.lower().startswith("access-control")]
        assert "Server" not in page.headers
        assert " style=" not in page.text
        assert not re.search(r"<script(?! src=)|\son\w+=", page.text)


@pytest.mark.process
def test_cookies_are_for_this_console_alone(fresh: Premblyd) -> None:
    fresh.configure(console=CONSOLE | {"url": "https://premblyd.example.com"})
    fresh.start()
    link = new_link(fresh)
    assert link.startswith("https://premblyd.example.com/sign-in?link=")
    own = browser(fresh)
    public = {"Host": "premblyd.example.com", "Origin": "https://premblyd.example.com"}
    form = own.get("/sign-in?link=x", Host="premblyd.example.com")
    (kept,) = form.cookies
    token = re.search(r'name="_xsrf" value="([^"]+)"', form.text)
    assert token
    fields = {"_xsrf": token[1], "link": link.partition("link=")[2]}
    page = own.post("/sign-in", fields, **public)
    assert page.status == 303
    for cookie in (kept, *page.cookies):
        assert {"HttpOnly", "SameSite=Strict", "Path=/", "Secure"} <= set(cookie.split("; "))
    assert signed_in(fresh).get("/events").status == 200, "over ssh, without TLS"


def test_the_public_port_has_no_page(daemon: Premblyd) -> None:
    for path in ("/", "/sign-in", "/events", "/static/console.css"):
        page = Browser(daemon.address).get(path)
        assert page.status in (404, 405)
        assert not page.cookies
        assert b"<" not in page.body


def test_the_link_comes_as_json_too(daemon: Premblyd) -> None:
    link = json.loads(run("console", "--json", "--config", daemon.config).out)
    assert set(link) == {"url", "listen", "role", "expires_in_s"}
    assert link["url"].startswith(f"http://{link['listen']}/sign-in?link=")
    assert browser(daemon).sign_in(link["url"]).status == 303


@pytest.mark.process
def test_off_there_is_no_console(fresh: Premblyd) -> None:
    fresh.configure(console="off")
    fresh.start()
    done = run("console", "--config", fresh.config)
    assert done.code == 1
    assert "The console is off" in done.err
    fresh.stop()
    done = run("console", "--config", fresh.config)
    assert done.code == 75


@pytest.mark.process
def test_a_console_that_could_not_be_opened_is_not_called_off_and_stops_no_webhook(
    fresh: Premblyd,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        fresh.configure(console={"listen": f"127.0.0.1:{taken.getsockname()[1]}"})
        fresh.start()
        done = run("console", "--config", fresh.config)
    assert done.code == 75
    assert "restart premblyd; if not, its log says why (console.not_opened)." in done.err
    assert len(fresh.log("console.not_opened")) == 1
    assert fresh.send(b"{}").status == 200


@pytest.mark.process
def test_it_listens_on_a_unix_socket(fresh: Premblyd) -> None:
    path = fresh.folder / "c.sock"
    fresh.configure(console={"listen": f"unix:{path}"})
    fresh.start()
    assert browser(fresh).address == f"unix:{path}"
    assert path.stat().st_mode & 0o007 == 0
    fresh.stop()
    assert not path.exists()


def test_listen_defaults_to_this_machine() -> None:
    assert Console().listen == listen("127.0.0.1:8081")
