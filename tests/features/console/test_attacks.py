"""What somebody on the network, or another site in the operator's browser, can try."""

import re
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from types import SimpleNamespace
from typing import Any, cast
from urllib.parse import urlencode

import pytest
from tornado.web import RequestHandler

from premblyd.features.console import app
from premblyd.features.console.signin import SignIn
from tests.support.console import Browser, Page, browser, new_link, signed_in
from tests.support.daemon import Premblyd
from tests.support.rows import for_each
from tests.support.waiting import wait_until

pytestmark = pytest.mark.process
# A path for each page. A new page needs its line: a test says so.
READ = (
    "/ /overview.json /dead /dead.json /replays/1 /replays/1.json /deliveries /deliveries.json"
    " /deliveries/1 /rejections /rejections.json /rejections.csv /actions /actions.json /operators"
    " /operators.json /days /days.json /sessions /sessions.json /events /events.json /events.csv"
    " /events/1 /events/1.json /metrics"
).split()
# What changes something, or shows a person.
FORMS = (
    "/events/1/reveal /deliveries/1/replay /deliveries/1/cancel /dead/replay /dead/cancel"
    " /replays/1/stop"
    " /sessions/1/end"
).split()
CHANGE = [*FORMS, *(f"{path}.json" for path in FORMS), "/sign-out"]
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


def connected(address: str) -> socket.socket:
    host, _, port = address.rpartition(":")
    return socket.create_connection((host, int(port)))


def raw(address: str, request: bytes) -> bytes:
    """Return the head of what is answered to bytes that no browser sends."""
    with connected(address) as connection:
        connection.sendall(request)
        return connection.recv(65536)


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


def send(own: Browser, path: str, token: str, **headers: Any) -> Page:
    """Send a form with this token."""
    more = {"Content_Type": "application/x-www-form-urlencoded", **headers}
    return own.request("POST", path, urlencode({"_xsrf": token}).encode(), **more)


@pytest.fixture(name="nothing_done")
def changes_nothing(daemon: Premblyd) -> Iterator[None]:
    kept = daemon.rows(RECORD)
    yield
    assert daemon.rows(RECORD) == kept


@for_each(("pattern", "handler"), handlers().items())
def test_every_page_and_every_form_is_attacked_below(
    pattern: str, handler: type[RequestHandler]
) -> None:
    has_form = handler.post is not RequestHandler.post and handler is not SignIn
    paths = CHANGE if has_form else [*READ, *PUBLIC]
    assert [path for path in paths if re.match(pattern, path)], "give it a line above"


@pytest.mark.promise
@pytest.mark.usefixtures("nothing_done")
def test_a_stranger_gets_nothing_and_changes_nothing(daemon: Premblyd) -> None:
    """Though a form is the console's own, with the token of this browser."""
    stranger = browser(daemon)
    token = stranger.xsrf()
    (form,) = stranger.cookies
    cookies = {form: stranger.cookies[form], form.removesuffix("-form"): "A" * 43}
    for more in (cookies, {form: stranger.cookies[form]}):
        stranger.cookies = more
        for path in CHANGE:
            page = send(stranger, path, token)
            assert (page.status, "Sign in first" in page.text) == (401, True), path
        for path in [*READ, *CHANGE, "/nothing"]:
            page = stranger.get(path)
            is_json = path.endswith(".json") or path == "/metrics"
            assert page.status == (401 if is_json else 303), path
            assert page.cookies == [], "a session of no use to anybody"
            if page.status == 303:
                assert (page.body, page.location) == (b"", f"/sign-in?next={path}")
            elif path != "/metrics":
                assert list(page.json) == ["error"]
    for method in ("HEAD", "POST", "OPTIONS", "PUT", "DELETE", "FOO"):
        for path in ("/events", "/events/1.json", "/dead/replay", "/nothing"):
            page = browser(daemon).request(method, path)
            assert page.status in {401, 403, 405}, (method, path)
            assert len(page.body) < 1000


OTHERS: list[dict[str, Any]] = [
    {"Sec_Fetch_Site": "cross-site"},
    {"Sec_Fetch_Site": "same-site"},
    *({"Origin": origin} for origin in ("https://evil.example", "http://127.0.0.1:1", "null")),
    *({"Sec_Fetch_Site": None, "Origin": f"http://evil{by}HOST"} for by in ("-", ".", "@", "/")),
    {"Sec_Fetch_Site": None, "Origin": "http://HOST.evil.example"},
    {"Host": "evil.example", "Origin": "http://evil.example"},
]


@pytest.mark.promise
@pytest.mark.usefixtures("nothing_done")
def test_no_other_site_changes_anything(own: Browser) -> None:
    """Not even with the cookies and the form's token of who is signed in."""
    token = own.xsrf()
    attempts = [("/dead/replay", headers) for headers in OTHERS]
    attempts += [(path, {"Sec_Fetch_Site": "cross-site", "Origin": None}) for path in CHANGE]
    for path, headers in attempts:
        sent = {
            name: value and value.replace("HOST", own.address) for name, value in headers.items()
        }
        assert send(own, path, token, **sent).status in {403, 421}, (path, sent)
    assert own.get("/events").status == 200, "still signed in"


@pytest.mark.usefixtures("nothing_done")
def test_a_form_needs_the_token_of_its_own_browser_and_its_own_method(
    daemon: Premblyd, own: Browser
) -> None:
    stolen, token = signed_in(daemon).xsrf(), own.xsrf()
    override: dict[str, Any] = {"X_Http_Method_Override": "POST", "X_Method_Override": "POST"}
    for path in CHANGE:
        for wrong in ("", "x", stolen):
            assert send(own, path, wrong).status == 403, path
        assert send(own, f"{path}?_xsrf={stolen}", "").status == 403, path
        page = own.get(f"{path}?_xsrf={token}&_method=POST", **override)
        assert page.status in {303, 404, 405}, path
    for method in ("HEAD", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "FOO"):
        page = own.request(method, f"/dead/replay?_xsrf={token}&_method=POST", **override)
        assert page.status in {403, 404, 405}, method


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
    own, thief = browser(daemon), browser(daemon)
    own.xsrf()
    (form,) = own.cookies
    name = form.removesuffix("-form")
    own.cookies[name] = thief.cookies[name] = chosen = "A" * 43
    assert own.sign_in(new_link(daemon)).status == 303
    assert own.cookies[name] != chosen
    assert thief.get("/events").status == 303


AWAY = ["//evil.example", "/\\evil.example", "javascript:alert(1)", "https://evil.example"]


def test_no_address_and_no_signing_in_leads_elsewhere(daemon: Premblyd) -> None:
    """As `http://127.0.0.1:8081//evil.example` in a chat would."""
    own = browser(daemon)
    for target in AWAY:
        for site in ("cross-site", "none"):
            head = f"GET {target} HTTP/1.1\r\nHost: {own.address}\r\nSec-Fetch-Site: {site}\r\n"
            answer = raw(own.address, f"{head}Connection: close\r\n\r\n".encode())
            assert not re.search(b"evil|javascript:", answer), target
    for target in [*AWAY, "/\r\nSet-Cookie: a=b", "x"]:
        fields = {"link": new_link(daemon).partition("link=")[2], "next": target}
        page = own.post("/sign-in", fields)
        assert (page.status, page.location, len(page.cookies)) == (303, "/", 1), target


@for_each(
    "path",
    "../app.py %2e%2e/app.py ..%2fapp.py /etc/passwd console.css%00 console.css/../../app.py"
    " . ..\\app.py console.css~".split(),
)
def test_static_is_three_files(daemon: Premblyd, path: str) -> None:
    address = browser(daemon).address
    head = f"GET /static/{path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
    answer = raw(address, head.encode())
    assert (status(answer), b"import " in answer) == (303, False)


GET, POST = (f"{method} HTTP/1.1\r\n".encode() for method in ("GET /events", "POST /sign-in"))
LOCAL, CHUNKED = b"Host: localhost\r\n", b"Transfer-Encoding: chunked\r\n"


@for_each(
    "request_bytes",
    [
        GET + b"\r\n",
        b"GET /events HTTP/1.0\r\n\r\n",
        GET + b"Host: a\r\nHost: b\r\n\r\n",
        GET + LOCAL + b"Cookie: \xff\xfe; a=\x01\r\n\r\n",
        GET + LOCAL + b"X-A: " + b"a" * 40_000 + b"\r\n\r\n",
        b"GET /events?" + b"a&" * 15_000 + b" HTTP/1.1\r\n" + LOCAL + b"\r\n",
        *(POST + LOCAL + b"Content-Length: %d\r\n\r\n" % length for length in (-1, 99999999999)),
        POST + LOCAL + CHUNKED + b"Content-Length: 5\r\n\r\n0\r\n\r\n",
        POST + LOCAL + CHUNKED + b"\r\nzz\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"\0" * 100 + b"\r\n\r\n",
    ],
)
def test_a_broken_request_breaks_nothing(daemon: Premblyd, request_bytes: bytes) -> None:
    with connected(browser(daemon).address) as connection:
        connection.sendall(request_bytes)
        connection.shutdown(socket.SHUT_WR)
        try:
            answer = connection.recv(65536)
        except ConnectionResetError:
            answer = b""
    assert answer == b"" or status(answer) in {303, 400, 403, 413, 421, 431}
    assert "Traceback" not in daemon.log_text()
    assert not daemon.log("console.failed")


def test_many_slow_clients_hold_up_no_webhook(fresh: Premblyd) -> None:
    """The console takes so many connections and no more, so that files are left for webhooks."""
    own = signed_in(fresh.start())
    half = POST + LOCAL + b"Content-Length: 1000\r\n\r\na"
    clients: list[socket.socket] = []
    with ExitStack() as held:
        for number in range(app.MAX_CONNECTIONS + MORE):
            clients.append(held.enter_context(connected(own.address)))
            if number < app.MAX_CONNECTIONS:
                clients[-1].sendall(half if number % 2 else half[:20])
        wait_until(lambda: sum(map(_is_closed, clients)) >= MORE)
        assert fresh.send(b'{"response_code":"00"}').status == 200
    wait_until(lambda: _answers(own))


def test_where_files_lack_the_console_leaves_them_to_webhooks_and_waits_without_a_storm_in_the_log(
    fresh: Premblyd,
) -> None:
    own = signed_in(fresh.start(before=FEW_FILES))
    with ExitStack() as held:
        for _ in range(MORE):
            held.enter_context(connected(own.address))
        assert fresh.send(b'{"response_code":"00"}').status == 200
    with ExitStack() as held:
        for _ in range(MORE):
            held.enter_context(connected(fresh.address))
        held.enter_context(connected(own.address))
        wait_until(lambda: fresh.log("daemon.waits"))
    wait_until(lambda: _answers(own))
    assert fresh.send(b'{"response_code":"00"}').status == 200
    assert not fresh.log("library.message")


def test_bodies_of_strangers_hold_up_no_webhook(fresh: Premblyd) -> None:
    own = browser(fresh.start())
    huge = b"a=" + b"%41" * (app.MAX_BODY_BYTES // 3 - 10)
    with ThreadPoolExecutor(4) as pool:
        sent = [pool.submit(own.request, "POST", "/sign-in", huge) for _ in range(8)]
        assert fresh.send(b'{"response_code":"00"}').status == 200
        assert {each.result().status for each in sent} == {403}
    assert own.get("/sign-in").status == 200


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
