"""What somebody on the network, or another site in the operator's browser, can try."""

import re
import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from types import SimpleNamespace
from typing import Any, cast

import pytest
from tornado.web import RequestHandler

from premblyd.console import app
from premblyd.console.signin import SignIn
from tests.support.console import Browser, browser, new_link, signed_in
from tests.support.daemon import Premblyd
from tests.support.rows import for_each
from tests.support.waiting import wait_until

# A path for each page. A new page needs its line: a test says so.
READ = [
    "/",
    "/overview.json",
    "/dead",
    "/dead.json",
    "/replays/1",
    "/replays/1.json",
    "/deliveries",
    "/deliveries.json",
    "/deliveries/1",
    "/rejections",
    "/rejections.json",
    "/rejections.csv",
    "/actions",
    "/actions.json",
    "/operators",
    "/operators.json",
    "/days",
    "/days.json",
    "/sessions",
    "/sessions.json",
    "/events",
    "/events.json",
    "/events.csv",
    "/events/1",
    "/events/1.json",
    "/metrics",
]
# What changes something, or shows a person.
CHANGE = [
    "/events/1/reveal",
    "/events/1/reveal.json",
    "/deliveries/1/replay",
    "/deliveries/1/replay.json",
    "/deliveries/1/cancel",
    "/deliveries/1/cancel.json",
    "/dead/replay",
    "/dead/replay.json",
    "/dead/cancel",
    "/dead/cancel.json",
    "/actions/archive/pause",
    "/actions/archive/pause.json",
    "/actions/archive/resume",
    "/actions/archive/resume.json",
    "/replays/1/stop",
    "/replays/1/stop.json",
    "/actions/explain",
    "/actions/explain.json",
    "/sessions/1/end",
    "/sessions/1/end.json",
]
MORE = 50  # connections than the console takes
FEW_FILES = "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (48, 48))"
PUBLIC = ["/sign-in", "/static/console.css", "/static/console.js", "/static/icon.svg"]
RECORD = (
    "SELECT (SELECT count(*) FROM operator_action WHERE action NOT LIKE 'sign-%'),"
    " (SELECT min(state) FROM delivery), (SELECT sum(attempts_left) FROM delivery)"
)


def handlers() -> dict[str, type[RequestHandler]]:
    """Return the pattern of every path that the console answers, and what answers there."""
    rules = app._application(cast(Any, SimpleNamespace(cookie="premblyd"))).wildcard_router.rules
    return {
        cast(Any, rule.matcher).regex.pattern: cast(type[RequestHandler], rule.target)
        for rule in rules
    }


def raw(address: str, request: bytes) -> bytes:
    """Return the head of what is answered to bytes that no browser sends."""
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(request)
        return connection.recv(65536)


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


@for_each("pattern", handlers())
def test_every_page_is_attacked_below(pattern: str) -> None:
    paths = [*READ, *CHANGE, *PUBLIC, "/sign-out"]
    assert [path for path in paths if re.match(pattern, path)], "give it a line above"


@pytest.mark.process
@for_each(("pattern", "handler"), handlers().items())
def test_no_form_is_taken_from_who_is_not_signed_in(
    daemon: Premblyd, pattern: str, handler: type[RequestHandler]
) -> None:
    """Though the form is the console's own, with the token of this browser."""
    if handler.post is RequestHandler.post or handler is SignIn:
        return
    stranger = browser(daemon)
    token = {"_xsrf": stranger.xsrf()}
    kept = daemon.rows(RECORD)
    paths = [path for path in [*CHANGE, "/sign-out"] if re.match(pattern, path)]
    assert paths, "give it a line above"
    for path in paths:
        for cookie in (None, f"{daemon_cookie(stranger)}={'A' * 43}"):
            mine = stranger._cookie_header()
            own = mine if cookie is None else f"{mine}; {cookie}"
            page = stranger.post(path, token, Cookie=own)
            assert (page.status, "Sign in first" in page.text) == (401, True), path
    assert daemon.rows(RECORD) == kept


def daemon_cookie(stranger: Browser) -> str:
    """Return the name of the cookie that a session has."""
    (name,) = (name.removesuffix("-form") for name in stranger.cookies)
    return name


@for_each("method", ["GET", "HEAD", "POST", "OPTIONS", "PUT", "DELETE", "FOO"])
def test_a_stranger_gets_nothing_by_any_method(daemon: Premblyd, method: str) -> None:
    stranger = browser(daemon)
    kept = daemon.rows(RECORD)
    for path in [*READ, *CHANGE, "/sign-out", "/nothing"]:
        for cookie in (None, f"premblyd-00000000={'A' * 43}"):
            page = stranger.request(method, path, Cookie=cookie)
            assert page.status in {303, 401, 403, 405}, path
            assert len(page.body) < 1000
            assert page.cookies == [], "a session of no use to anybody"
            if page.status == 401 and method == "GET" and path.endswith(".json"):
                assert list(page.json) == ["error"]
            if page.status == 303:
                assert (page.body, page.location) == (b"", f"/sign-in?next={path}")
    assert daemon.rows(RECORD) == kept


@for_each(
    "headers",
    [
        {"Sec_Fetch_Site": "cross-site", "Origin": None},
        {"Sec_Fetch_Site": "cross-site", "Origin": "https://evil.example"},
        {"Sec_Fetch_Site": None, "Origin": "https://evil.example"},
        {"Sec_Fetch_Site": "same-site", "Origin": None},
        {"Sec_Fetch_Site": None, "Origin": "http://127.0.0.1:1"},
        {"Sec_Fetch_Site": None, "Origin": "null"},
        {"Sec_Fetch_Site": "same-origin", "Origin": "https://evil.example"},
        {"Host": "evil.example", "Origin": "http://evil.example"},
    ],
)
def test_no_other_site_changes_anything(
    daemon: Premblyd, own: Browser, headers: dict[str, Any]
) -> None:
    """Not even with the cookies and the form's token of who is signed in."""
    kept = daemon.rows(RECORD)
    for path in [*CHANGE, "/sign-out"]:
        assert own.post(path, **headers).status in {403, 421}, path
    assert own.get("/events").status == 200, "still signed in"
    assert daemon.rows(RECORD) == kept


def test_a_form_needs_the_token_of_its_own_browser(daemon: Premblyd, own: Browser) -> None:
    kept = daemon.rows(RECORD)
    stolen = signed_in(daemon).xsrf()
    for path in [*CHANGE, "/sign-out"]:
        for token in ("", "x", stolen):
            assert own.post(path, {"_xsrf": token}).status == 403, path
            assert own.post(f"{path}?_xsrf={stolen}", {"_xsrf": ""}).status == 403, path
    assert daemon.rows(RECORD) == kept


def test_no_other_method_does_what_a_form_does(daemon: Premblyd, own: Browser) -> None:
    kept = daemon.rows(RECORD)
    fields = f"_xsrf={own.xsrf()}"
    for path in [*CHANGE, "/sign-out"]:
        for method in ("GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "FOO"):
            more: dict[str, Any] = {"X_Http_Method_Override": "POST", "X_Method_Override": "POST"}
            page = own.request(method, f"{path}?{fields}&_method=POST", **more)
            assert page.status in {303, 403, 404, 405}, (method, path)
    assert daemon.rows(RECORD) == kept


def test_a_link_is_used_once_however_many_try_at_once(daemon: Premblyd) -> None:
    link = new_link(daemon)
    thieves = [browser(daemon) for _ in range(8)]
    for thief in thieves:
        thief.xsrf()
    with ThreadPoolExecutor(len(thieves)) as pool:
        answers = list(pool.map(lambda thief: thief.sign_in(link).status, thieves))
    assert sorted(answers) == [303] + [403] * 7


def test_no_link_is_guessed(daemon: Premblyd) -> None:
    stranger = browser(daemon)
    link = new_link(daemon).partition("link=")[2]
    (digest,) = daemon.rows("SELECT digest FROM console_token ORDER BY id DESC LIMIT 1")[0]
    for guess in (link[:-1], link.lower(), f"{link}x", digest, "%", "' OR 1=1 --", "\0", "é" * 999):
        page = stranger.post("/sign-in", {"link": guess})
        assert (page.status, len(page.cookies)) == (403, 0), guess


def test_a_session_is_never_the_one_that_somebody_else_chose(daemon: Premblyd) -> None:
    chosen = "A" * 43
    own = browser(daemon)
    own.xsrf()
    name = daemon_cookie(own)
    own.cookies[name] = chosen
    assert own.sign_in(new_link(daemon)).status == 303
    assert own.cookies[name] != chosen
    thief = browser(daemon)
    thief.cookies[name] = chosen
    assert thief.get("/events").status == 303


@for_each(
    "target",
    ["/\r\nSet-Cookie: a=b", "//evil.example", "/\\evil.example", "javascript:alert(1)",
     "https://evil.example", "x"],
)  # fmt: skip
def test_signing_in_leads_nowhere_else(daemon: Premblyd, target: str) -> None:
    token = new_link(daemon).partition("link=")[2]
    page = browser(daemon).post("/sign-in", {"link": token, "next": target})
    assert (page.status, page.location, len(page.cookies)) == (303, "/", 1)


@for_each(
    "target",
    ["//evil.example/x", "http://evil.example/x", "javascript:alert(1)", "/\\evil.example"],
)
def test_no_address_makes_a_link_elsewhere(daemon: Premblyd, target: str) -> None:
    """As `http://127.0.0.1:8081//evil.example` in a chat would."""
    address = browser(daemon).address
    for site in ("cross-site", "none"):
        head = f"GET {target} HTTP/1.1\r\nHost: {address}\r\nSec-Fetch-Site: {site}\r\n"
        answer = raw(address, f"{head}Connection: close\r\n\r\n".encode())
        assert b"evil" not in answer
        assert b"javascript:" not in answer


@for_each(
    "path",
    [
        "../app.py",
        "%2e%2e/app.py",
        "..%2fapp.py",
        "/etc/passwd",
        "console.css%00",
        "console.css/../../app.py",
        "",
        ".",
        "..\\app.py",
        "console.css~",
    ],
)
def test_static_is_three_files(daemon: Premblyd, path: str) -> None:
    address = browser(daemon).address
    head = f"GET /static/{path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
    answer = raw(address, head.encode())
    assert status(answer) == 303
    assert b"import " not in answer


@for_each(
    "request_bytes",
    [
        b"GET /events HTTP/1.1\r\n\r\n",
        b"GET /events HTTP/1.0\r\n\r\n",
        b"GET /events HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET /events HTTP/1.1\r\nHost: localhost\r\nCookie: \xff\xfe; a=\x01\r\n\r\n",
        b"GET /events HTTP/1.1\r\nHost: localhost\r\nX-A: " + b"a" * 40_000 + b"\r\n\r\n",
        b"GET /events?" + b"a&" * 15_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"POST /sign-in HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        b"POST /sign-in HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999\r\n\r\n",
        b"POST /sign-in HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n"
        b"Content-Length: 5\r\n\r\n0\r\n\r\n",
        b"POST /sign-in HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"\0" * 100 + b"\r\n\r\n",
    ],
)
def test_a_broken_request_breaks_nothing(daemon: Premblyd, request_bytes: bytes) -> None:
    host, _, port = browser(daemon).address.rpartition(":")
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(request_bytes)
        connection.shutdown(socket.SHUT_WR)
        try:
            answer = connection.recv(65536)
        except ConnectionResetError:
            answer = b""
    assert answer == b"" or status(answer) in {303, 400, 403, 413, 421, 431}
    assert "Traceback" not in daemon.log_text()
    assert not daemon.log("console.failed")


@pytest.mark.process
def test_many_slow_clients_hold_up_no_webhook_and_no_operator(fresh: Premblyd) -> None:
    """The console takes so many connections and no more, so that files are left for webhooks. With
    an operator's each new one gets in, for which another goes."""
    own = signed_in(fresh.start())
    host, _, port = own.address.rpartition(":")
    clients: list[socket.socket] = []
    with ExitStack() as held:
        for number in range(app.MAX_CONNECTIONS + MORE):
            client = held.enter_context(socket.create_connection((host, int(port))))
            half = b"POST /sign-in HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\na"
            clients.append(client)
            if number < app.MAX_CONNECTIONS:
                client.sendall(half if number % 2 else half[:20])
        wait_until(lambda: sum(map(_is_closed, clients)) >= MORE)
        assert fresh.send(b'{"response_code":"00"}').status == 200
        assert own.get("/events").status == 200


@pytest.mark.process
def test_where_files_lack_the_console_leaves_them_to_webhooks(fresh: Premblyd) -> None:
    fresh.start(before=FEW_FILES)
    with ExitStack() as held:
        for _ in range(MORE):
            held.enter_context(_connected(browser(fresh).address))
        assert fresh.send(b'{"response_code":"00"}').status == 200


@pytest.mark.process
def test_the_console_waits_for_files_without_a_storm_in_the_log(fresh: Premblyd) -> None:
    own = signed_in(fresh.start(before=FEW_FILES))
    with ExitStack() as held:
        for _ in range(MORE):
            held.enter_context(_connected(fresh.address))
        held.enter_context(_connected(own.address))
        wait_until(lambda: fresh.log("daemon.waits"))
    wait_until(lambda: _answers(own))
    assert fresh.send(b'{"response_code":"00"}').status == 200
    assert not fresh.log("library.message")


@pytest.mark.process
def test_bodies_of_strangers_hold_up_no_webhook(fresh: Premblyd) -> None:
    own = browser(fresh.start())
    huge = b"a=" + b"%41" * (app.MAX_BODY_BYTES // 3 - 10)
    with ThreadPoolExecutor(4) as pool:
        sent = [pool.submit(own.request, "POST", "/sign-in", huge) for _ in range(8)]
        assert fresh.send(b'{"response_code":"00"}').status == 200
        assert {each.result().status for each in sent} == {403}
    assert own.get("/sign-in").status == 200


def _connected(address: str) -> socket.socket:
    host, _, port = address.rpartition(":")
    return socket.create_connection((host, int(port)))


def _is_closed(client: socket.socket) -> bool:
    client.settimeout(0)
    try:
        return client.recv(1) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


def _answers(own: Browser) -> bool:
    try:
        return own.get("/events").status == 200
    except OSError:  # it still has too many connections
        return False
