"""Who gets in, and who doesn't."""

import json
import re
import socket
from pathlib import Path

import pytest

from premblyd.config.values import listen
from premblyd.features.console import access
from premblyd.features.console.settings import Console
from tests.support.commands import run
from tests.support.console import CONSOLE, Browser, browser, new_link, signed_in
from tests.support.daemon import Premblyd
from tests.support.database import by_hand

pytestmark = pytest.mark.process

SECURITY = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
}


@pytest.mark.promise
def test_a_link_signs_in_once_within_ten_minutes_however_often_it_is_opened(
    daemon: Premblyd,
) -> None:
    """Chats and mail programs open links to preview them."""
    link = new_link(daemon)
    first, second = browser(daemon), browser(daemon)
    for _ in range(2):
        page = second.get("/sign-in" + link.partition("/sign-in")[2])
        assert "signs this browser in, once" in page.text
    assert first.sign_in(link).status == 303
    assert first.get("/events").status == 200
    again = second.sign_in(link)
    assert (again.status, "This link was used before" in again.text) == (403, True)
    assert second.get("/events").status == 303
    link = new_link(daemon)
    by_hand(daemon.place, "UPDATE console_token SET until_ms = until_ms - 600000")
    assert second.sign_in(link).status == 403
    assert daemon.rows("SELECT count(*) FROM console_token WHERE kind = 'link'") == [(1,)]


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
    by_hand(fresh.place, "UPDATE console_token SET until_ms = since_ms + 1")
    assert other.get("/events").status == 303


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


def test_own_names_are_localhost_addresses_and_the_public_one() -> None:
    settings = Console(listen="ops.internal:8081", url="https://premblyd.example.com")
    names = ["localhost:1", "127.0.0.1:8081", "[::1]:8081", "10.0.0.7", "ops.internal:8081"]
    assert all(access.is_own_host(name, settings) for name in [*names, "premblyd.example.com"])
    for other in ("example.com", "a]:b[", "localhost.evil.example", "evil.example:8081"):
        assert not access.is_own_host(other, settings), other
    assert Console().listen == listen("127.0.0.1:8081")


def test_a_link_from_a_chat_to_a_page_opens_it(daemon: Premblyd, own: Browser) -> None:
    """The browser does not send a strict cookie with it, so the page opens itself once more."""
    page = browser(daemon).get("/events/1", Sec_Fetch_Site="cross-site")
    assert page.status == 200
    assert 'http-equiv="refresh" content="0"' in page.text
    assert own.get("/events/1").status == 200


def test_every_answer_is_guarded(daemon: Premblyd, own: Browser) -> None:
    for path in ("/sign-in", "/events", "/events.json", "/static/console.css", "/x"):
        other = own.get(path, Host="evil.example")
        assert path.startswith("/static") or (other.status, "<table" in other.text) == (421, False)
        for page in (own.get(path), browser(daemon).get(path), other):
            if not path.startswith("/static"):
                assert SECURITY.items() <= page.headers.items()
            policy = page.headers["Content-Security-Policy"]
            assert ("default-src 'none'" in policy, "unsafe" in policy) == (True, False)
            names = {name.lower() for name in page.headers}
            assert not [name for name in names if re.match("access-control|server$", name)]
            assert not re.search(r" style=|<script(?! src=)|\son\w+=", page.text)


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
    assert browser(daemon).sign_in(link["url"]).status == 303


def test_off_there_is_no_console(fresh: Premblyd) -> None:
    fresh.configure(console="off")
    fresh.start()
    done = run("console", "--config", fresh.config)
    assert (done.code, "The console is off" in done.err) == (1, True)
    fresh.stop()
    assert run("console", "--config", fresh.config).code == 75


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


def test_it_listens_on_a_unix_socket(fresh: Premblyd) -> None:
    path = fresh.folder / "c.sock"
    fresh.configure(console={"listen": f"unix:{path}"})
    fresh.start()
    assert browser(fresh).address == f"unix:{path}"
    assert path.stat().st_mode & 0o007 == 0
    fresh.stop()
    assert not path.exists()
