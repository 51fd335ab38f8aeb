"""Who gets in, and who doesn't."""

import json
import re
import socket
from pathlib import Path

import pytest

from premblyd import passwords
from premblyd.config.console import Console
from premblyd.config.values import listen
from premblyd.console import strangers
from premblyd.console.strangers import ALL, EACH, PERIOD_S, Guesses
from tests.support.commands import run
from tests.support.console import CONSOLE, Browser, browser, new_link, set_password, signed_in
from tests.support.daemon import Premblyd
from tests.support.database import changing
from tests.support.rows import for_each
from tests.support.waiting import wait_until

PASSWORD = "correct horse battery"
SECURITY = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
}


def change(daemon: Premblyd, sql: str) -> None:
    with changing(daemon.place) as connection:
        connection.execute(sql)


def with_password(daemon: Premblyd) -> Browser:
    """Start the daemon with a password that costs little to try; return a browser on it."""
    set_password(daemon, PASSWORD)
    return browser(daemon.start())


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


def test_a_link_is_good_for_ten_minutes(fresh: Premblyd) -> None:
    fresh.start()
    link = new_link(fresh)
    change(fresh, "UPDATE console_link SET expires_at_ms = expires_at_ms - 600000")
    assert browser(fresh).sign_in(link).status == 403
    assert fresh.rows("SELECT count(*) FROM console_session") == [(0,)]


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
    change(fresh, "UPDATE console_session SET expires_at_ms = began_at_ms + 1")
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
    assert how == "by link, from 127.0.0.1, may operate"
    stored = b""
    if isinstance(fresh.place, Path):
        stored = fresh.place.read_bytes() + Path(f"{fresh.place}-wal").read_bytes()
    secrets = [link.partition("link=")[2], *own.cookies.values()]
    assert [secret for secret in secrets if secret and secret.encode() in stored] == []
    assert [secret for secret in secrets if secret and secret in fresh.log_text()] == []


def test_a_password_signs_in_and_wrong_ones_soon_have_to_wait(fresh: Premblyd) -> None:
    own = with_password(fresh)
    assert own.post("/sign-in", {"password": PASSWORD}).status == 303
    assert own.get("/events").status == 200
    guesser = browser(fresh)
    for _ in range(EACH):
        assert guesser.post("/sign-in", {"password": "wrong"}).status == 403
    refused = guesser.post("/sign-in", {"password": PASSWORD})
    assert refused.status == 429
    assert 0 < int(refused.headers["Retry-After"]) <= PERIOD_S + 1
    assert guesser.sign_in(new_link(fresh)).status == 303, "a link works all the same"
    assert PASSWORD not in fresh.log_text()
    wait_until(lambda: len(fresh.log("console.sign_in_failed")) == EACH + 1)


def test_without_a_password_none_is_right(daemon: Premblyd) -> None:
    page = browser(daemon).post("/sign-in", {"password": ""})
    assert page.status == 403
    assert "<input" not in re.sub(r'<input type="hidden"[^>]*>', "", page.text)


def test_guesses_are_counted_for_each_sender_and_for_all() -> None:
    now = 0.0
    guesses = Guesses(lambda: now)
    for _ in range(EACH):
        assert guesses.wait_s("a") == 0
        guesses.add("a")
    assert guesses.wait_s("a") > 0
    assert guesses.wait_s("b") == 0
    for number in range(ALL):
        guesses.add(f"sender {number}")
    assert guesses.wait_s("b") > 0
    now = PERIOD_S + 1
    assert guesses.wait_s("a") == guesses.wait_s("b") == 0


def test_a_right_password_is_no_guess() -> None:
    guesses = Guesses(lambda: 0.0)
    for _ in range(2 * EACH):
        guesses.add("a")
        guesses.forgive("a")
    assert guesses.wait_s("a") == 0


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
    plain = signed_in(fresh)
    assert plain.get("/events").status == 200, "over ssh, without TLS"


def test_the_public_port_has_no_page(daemon: Premblyd) -> None:
    for path in ("/", "/sign-in", "/events", "/static/console.css"):
        page = Browser(daemon.address).get(path)
        assert page.status in (404, 405)
        assert not page.cookies
        assert b"<" not in page.body


def test_the_link_comes_as_json_too(daemon: Premblyd) -> None:
    done = run("console", "--json", "--config", daemon.config)
    link = json.loads(done.out)
    assert set(link) == {"url", "listen", "role", "expires_in_s"}
    assert link["url"].startswith(f"http://{link['listen']}/sign-in?link=")
    assert browser(daemon).sign_in(link["url"]).status == 303


def test_off_there_is_no_console(fresh: Premblyd) -> None:
    fresh.configure(console="off")
    fresh.start()
    done = run("console", "--config", fresh.config)
    assert done.code == 1
    assert "The console is off" in done.err
    fresh.stop()
    done = run("console", "--config", fresh.config)
    assert done.code == 75


def test_a_console_that_could_not_be_opened_is_not_called_off_and_stops_no_webhook(
    fresh: Premblyd,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        fresh.configure(console={"listen": f"127.0.0.1:{taken.getsockname()[1]}"})
        fresh.start()
        done = run("console", "--config", fresh.config)
    assert done.code == 75
    assert "restart premblyd; if not, its log says why, as console.not_opened." in done.err
    assert len(fresh.log("console.not_opened")) == 1
    assert fresh.send(b"{}").status == 200


def test_it_listens_on_a_unix_socket(fresh: Premblyd) -> None:
    path = fresh.folder / "c.sock"
    fresh.configure(console={"listen": f"unix:{path}"})
    fresh.start()
    own = browser(fresh)
    assert own.address == f"unix:{path}"
    assert path.stat().st_mode & 0o007 == 0
    fresh.stop()
    assert not path.exists()


def test_a_password_in_the_file_instead_of_its_hash_is_refused(tmp_path: Path) -> None:
    daemon = Premblyd(tmp_path, console={"password": PASSWORD})
    code, told = daemon.fail_to_start()
    assert code == 78
    assert "premblyd console --hash-password" in told
    assert PASSWORD not in told


def test_a_hash_is_made_of_what_is_typed() -> None:
    done = run("console", "--hash-password", stdin=f"{PASSWORD}\n{PASSWORD}\n".encode())
    assert done.code == 0
    assert passwords.read(done.out.strip()).fits(PASSWORD)


@for_each(
    "text",
    ["", "password", "scrypt:32768:8:3:AAAA", "scrypt:4194304:64:1:AAAA:" + "A" * 44,
     "scrypt:3:8:1:AAAA:" + "A" * 44, "scrypt:16:8:1:AAAA:AAAA", "scrypt:16:8:1:A:" + "A" * 43],
)  # fmt: skip
def test_what_is_no_hash_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        passwords.read(text)


def test_listen_defaults_to_this_machine() -> None:
    assert Console().listen == listen("127.0.0.1:8081")
