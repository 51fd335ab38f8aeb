"""HTTP hooks, against a real server on the loopback."""

import asyncio
import base64
import email.utils
import gc
import gzip
import hmac
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks import Webhook

from premblyd.config.models import Endpoint
from premblyd.ground import httpclient
from premblyd.ground.httpclient import HttpClient, Request, retry_after_s
from premblyd.prembly import signature
from premblyd.prembly.signature import Scheme
from premblyd.queue.jobs import Result
from premblyd.run.http import HttpRunner
from premblyd.run.kinds import Invocation
from premblyd.run.process import Children
from tests.support.http_server import Handler, Server, answering, self_signed, serving
from tests.support.jobs import KEY, endpoint, hook, invocation, settings
from tests.support.rows import for_each

KIB = 1024
WHSEC = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
EVERY_BYTE = bytes(range(256))


def run(
    url: str, given: Invocation | None = None, to: Endpoint | None = None, **http: Any
) -> Result:
    async def main() -> Result:
        with closing(HttpRunner(Children())) as runner:
            runner.configure(settings(to or endpoint()))
            return await runner.run(hook(http={"url": url, **http}), given or invocation())

    return asyncio.run(main())


def sent(
    given: Invocation, to: Endpoint | None = None, **http: Any
) -> tuple[dict[str, str], bytes]:
    """Return the headers and the body that arrive."""
    with serving() as server:
        assert run(server.url, given, to, **http).outcome == "succeeded"
        return server.got


@for_each("body", [b"", EVERY_BYTE * 4 * KIB, b"a=%00&b"])
def test_raw_sends_the_exact_bytes_and_their_type_and_nothing_else(body: bytes) -> None:
    came = [("Content-Type", "text/x; charset=latin-1"), ("X-Hush", "1"), ("Cookie", "c")]
    headers, received = sent(invocation(body, headers=came))
    assert received == body
    assert headers["content-type"] == "text/x; charset=latin-1"
    assert headers["content-length"] == str(len(body))
    assert headers.keys() <= {
        *("accept", "accept-encoding", "connection", "content-length", "content-type", "host"),
        *("user-agent", "webhook-id", "webhook-timestamp", signature.HEADER),
    }
    assert sent(invocation(body))[0]["content-type"] == "application/json"


def test_event_sends_an_envelope() -> None:
    body = b'{"a": [1, "\xc3\xa9"], "b":1.10}'
    given = invocation(body, token="hush", response_code="00", face_match=False)
    headers, received = sent(given, send="event")
    assert headers["content-type"] == "application/json"
    assert not headers.keys() & {"token", signature.HEADER}
    assert b'"body":' + body in received, "as it came"
    envelope = json.loads(received)
    assert envelope.pop("received_at") == "2023-11-14T22:13:20+00:00"
    assert (envelope.pop("event"), envelope.pop("key")) == (17, KEY)
    assert envelope == given.context()
    assert envelope["body"] == {"a": [1, "é"], "b": 1.1}


def test_of_who_was_erased_a_receiver_is_told_nothing_but_that() -> None:
    """An empty body has no signature of Prembly's, which sent none."""
    given = invocation(b"", is_erased=True, response_code="00")
    headers, body = sent(given, send="raw")
    assert (headers["premblyd-erased"], body) == ("1", b"")
    assert signature.HEADER not in headers
    envelope = json.loads(sent(given, send="event")[1])
    assert (envelope["erased"], envelope["body"], envelope["reference"]) == (True, None, None)
    assert "body_base64" not in envelope
    assert "premblyd-erased" not in sent(invocation())[0]


@for_each(
    ("body", "read"),
    [
        (EVERY_BYTE, None),
        (b'{"a":[-Infinity,1e999]}', {"a": [None, None]}),
        (b'{"a":"\\ud800"}', {"a": "\ufffd"}),
    ],
)
def test_an_envelope_whose_body_is_not_what_came_has_the_bytes_too(body: bytes, read: Any) -> None:
    envelope = json.loads(sent(invocation(body), send="event")[1])
    assert envelope["body"] == read
    assert base64.b64decode(envelope["body_base64"]) == body


def test_a_selection_sends_what_it_selects_and_no_more() -> None:
    body = b'{"a": {"b": 2}, "photo": "hush"}'
    given = invocation(body, token="hush", reference="r", user_ref="hush")
    headers, received = sent(given, send={"select": "{ref: reference, b: body.a.b}"})
    assert json.loads(received) == {"ref": "r", "b": 2}
    assert "hush" not in str(headers)


@for_each(
    ("send", "body"),
    [
        ("event", b'{"a":"\\ud800","b":NaN}'),
        ("event", b'{"\xed\xa0\x80":%b}' % (b"9" * 4000)),
        ({"select": "[sum(body.a), to_number('nan'), to_number('-inf')]"}, b'{"a":[1e308,1e308]}'),
        ({"select": "to_string(body)"}, b'{"a":NaN}'),
    ],
)
def test_what_goes_out_is_json_that_every_reader_takes(send: Any, body: bytes) -> None:
    def refuse(constant: str) -> None:
        raise ValueError(constant)

    _, received = sent(invocation(body), send=send)
    value = json.loads(received, parse_constant=refuse)
    assert "\ud800" not in str(value)
    if isinstance(value, str):
        json.loads(value, parse_constant=refuse)


@pytest.mark.large
def test_a_selection_without_end_fails_and_sends_nothing() -> None:
    doubled = " | ".join(["[@, @]"] * 40)
    for select, error in (
        (f"body | {doubled}", "`select` makes too much of this event"),
        ("body.a[*].[@, @, @, @]", "`select` failed for this event: too many steps"),
    ):
        given = invocation(json.dumps({"a": [[]] * 60_000}).encode())
        result = run("http://127.0.0.1:9/", given, send={"select": select})
        assert (result.outcome, result.error, result.final) == ("failed", error, True)


@for_each("send", ["raw", "event", {"select": "body.a"}])
def test_the_body_of_a_hook_is_made_beside_the_loop_and_a_stop_is_heeded(send: Any) -> None:
    async def main(server: Server) -> Result:
        released = threading.Event()
        with closing(HttpRunner(Children())) as runner:
            runner.configure(settings(endpoint()))
            runner._aside.submit(released.wait)
            given = invocation(json.dumps({"a": "x" * 200_000}).encode())
            act = hook(http={"url": server.url, "send": send})
            running = asyncio.create_task(runner.run(act, given))
            for _ in range(10):  # the loop goes on
                await asyncio.sleep(0)
            runner.interrupt()
            released.set()
            return await running

    with serving() as server:
        assert asyncio.run(main(server)).outcome == "interrupted"
        assert server.requests == []


@for_each("select", ["abs(reference)", "&body"])
def test_a_selection_that_fails_ends_at_once_and_sends_nothing(select: str) -> None:
    with serving() as server:
        given = invocation(b'{"a": ["hush"]}', reference="hush")
        result = run(server.url, given, send={"select": select})
    assert (result.outcome, result.final, server.requests) == ("failed", True, [])
    assert "hush" not in str(result)


@for_each("send", ["raw", "event"])
def test_a_standard_webhooks_library_verifies_the_request(send: str) -> None:
    before = int(time.time())
    headers, body = sent(invocation('{"naïve": "✓"}'.encode()), send=send, sign_with=WHSEC)
    Webhook(WHSEC).verify(body, headers)
    assert headers["webhook-id"] == f"{KEY}-act"
    assert before <= int(headers["webhook-timestamp"]) <= time.time()
    once = invocation(idempotency_key="1ce", attempt=7)  # the same for whatever it runs once for
    assert sent(once, sign_with=WHSEC)[0]["webhook-id"] == "1ce-act"


def test_bytes_that_are_no_text_are_signed_as_they_are() -> None:
    headers, body = sent(invocation(EVERY_BYTE), sign_with=WHSEC)
    message = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    digest = hmac.digest(base64.b64decode(WHSEC.removeprefix("whsec_")), message, "sha256")
    assert headers["webhook-signature"] == "v1," + base64.b64encode(digest).decode()


@for_each("scheme", Scheme)
def test_premblys_signature_is_made_again_and_the_token_passed_on(scheme: Scheme) -> None:
    said: dict[str, Any] = {"signature": [{}, {"algorithm": "sha512", "encoding": "hex"}]}
    if scheme is Scheme.PUBLIC_KEY:
        said = {"scheme": "public-key"}
    to = endpoint(**said, header="x-own", keys={"old": "hush-1", "new": "hush-2"})
    given = invocation(EVERY_BYTE, token="t.o/k+en=", verified_by=f"{scheme}:new")
    headers, body = sent(given, to)
    assert signature.verify(body, headers, to.key_texts, to.forms) == f"{scheme}:new"
    assert headers["token"] == "t.o/k+en="


def test_a_key_or_an_endpoint_that_has_gone_leaves_the_signature_out() -> None:
    for to, key in ((endpoint(), "gone"), (endpoint(name="other"), "live")):
        headers, _ = sent(invocation(token="t", verified_by=f"hmac-sha256:{key}"), to)
        assert (signature.HEADER in headers, headers["token"]) == (False, "t")


@for_each("token", ["a\r\nX-Evil: 1", "é", "a\0", "\ud800"])
def test_a_token_that_is_no_header_value_is_left_out(token: str) -> None:
    headers, _ = sent(invocation(token=token))
    assert not headers.keys() & {"token", "x-evil"}


def test_configured_headers_win() -> None:
    own = {"Authorization": "Bearer hush", "content-type": "text/own", "Webhook-Id": "mine"}
    own |= {"X-Prembly-Signature": "mine", "TOKEN": "mine", "User-Agent": "mine"}
    headers, _ = sent(invocation(token="t"), sign_with=WHSEC, headers=own)
    assert {name.lower(): value for name, value in own.items()}.items() <= headers.items()


def status(code: int, **headers: str) -> Result:
    with serving(lambda handler: handler.reply(code, b"why", **headers)) as server:
        result = run(server.url)
        assert len(server.requests) == 1
    assert (result.http_status, result.output) == (code, "" if code == 204 else "why")
    return result


def test_2xx_is_success_any_other_status_a_failure_and_410_the_end() -> None:
    for code in (200, 204, 299):
        result = status(code)
        assert (result.outcome, result.error, result.final) == ("succeeded", None, False)
    for code in (301, 308, 400, 410, 500):
        result = status(code, Location="/elsewhere")
        assert (result.outcome, result.error) == ("failed", f"HTTP {code}")
        assert (result.final, result.retry_after_s) == (code == 410, 0)


def test_retry_after_is_read_as_seconds_or_a_date() -> None:
    assert status(503, Retry_After="120").retry_after_s == 120
    date = email.utils.formatdate(time.time() + 3600, usegmt=True)
    assert 3000 < status(429, Retry_After=date).retry_after_s <= 3600


def test_a_retry_after_that_says_nothing_usable_asks_for_nothing() -> None:
    date = "Thu, {} Jan {} 00:20:00 GMT".format
    usable: dict[str | None, float] = {date("01", 1970): 200, "0": 0, " 7 ": 7, "9" * 11: 1e11 - 1}
    nothing = [None, "", "-5", "1.5", "soon", "9" * 5000, "²", date("32", 1970), date("01", 99999)]
    for value, seconds in {**usable, **dict.fromkeys(nothing, 0), date("01", 1969): 0}.items():
        assert retry_after_s(value, 1000) == seconds


@for_each(("size", "truncated"), [(64 * KIB, False), (64 * KIB + 1, True), (5 << 20, True)])
def test_the_first_64_kib_of_the_answer_are_kept(size: int, truncated: bool) -> None:
    with serving(lambda handler: handler.reply(200, b"x" * size)) as server:
        result = run(server.url)
    assert result.output == "x" * min(size, 64 * KIB)
    assert (result.outcome, result.output_truncated) == ("succeeded", truncated)


def broken(error: str, url: str, **http: Any) -> Result:
    """Run a hook that gets no answer. Its result must not tell any secret."""
    secret: dict[str, Any] = {"headers": {"Authorization": "Bearer hush"}, "sign_with": WHSEC}
    result = run(url, invocation(b"hush", token="hush", reference="hush"), **secret, **http)
    assert (result.error, result.http_status, result.final) == (error, None, False)
    for text in ("hush", WHSEC, "127.0.0.1", "/hook"):
        assert text not in repr(result)
    return result


def test_no_answer_in_time_is_a_timeout_and_so_is_one_that_drips() -> None:
    def drip(handler: Handler) -> None:
        handler.reply(200, b"y", Content_Length="99999")
        while not handler.server.released.wait(0.02):
            handler.wfile.write(b"y")

    for answer in (Handler.reply_when_released, drip):
        with serving(answer) as server:
            result = broken("no answer in time", server.url, timeout="100ms")
        assert (result.outcome, (result.output or "").strip("y")) == ("timed_out", "")


def test_no_connection_is_a_failure() -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))  # it does not listen
        url = f"http://user:hush@127.0.0.1:{bound.getsockname()[1]}/hook"
        assert broken("connection refused or unreachable", url).outcome == "failed"
    too_long = "http://" + "x" * 64 + ".invalid/hush"  # so that no resolver is asked
    assert broken("the host name can't be resolved", too_long).outcome == "failed"
    broken("the URL is none that can be asked", "http://127.0.0.1:99999/hush")


def test_a_look_up_that_does_not_end_holds_up_no_close(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(httpclient, "CLOSE_S", 0.01)
    looked_up, closed = threading.Event(), threading.Event()

    def close() -> None:  # as libcurl's, while a resolver gets no answer
        looked_up.wait()
        closed.set()

    async def main() -> None:
        client = HttpClient()
        really_close = client._client.close
        monkeypatch.setattr(client._client, "close", close)
        client.close()
        assert not closed.is_set()
        looked_up.set()
        really_close()

    asyncio.run(main())


def test_a_server_that_hangs_up_or_talks_nonsense_is_a_failure() -> None:
    with serving(lambda handler: None) as server:
        error = "the server closed the connection without an answer"
        assert broken(error, server.url).outcome == "failed"
    with serving(lambda handler: handler.wfile.write(b"SSH-2.0\r\n")) as server:
        assert broken("no answer (libcurl error 1)", server.url).outcome == "failed"
    with serving() as server:
        url = server.url.replace("http:", "https:")
        assert broken("the TLS handshake failed", url).outcome == "failed"


def test_a_header_that_can_not_be_sent_is_a_failure_that_tells_no_value() -> None:
    for value in ("hush\x01", "hush\x7f", "hush \u2713"):
        result = run("http://127.0.0.1:9/hush", headers={"X-Own": value})
        assert (result.outcome, result.final) == ("failed", False)
        assert result.error == "the request can't be sent as configured"


@pytest.mark.process
@pytest.mark.skipif(not shutil.which("openssl"), reason="makes a certificate")
def test_a_certificate_is_trusted_by_ca_file_alone_and_for_its_host_alone(tmp_path: Path) -> None:
    certificate = self_signed(tmp_path)
    with serving(certificate=certificate) as server:
        error, other = (
            "the TLS certificate is not trusted",
            server.url.replace("127.0.0.1", "localhost"),
        )
        assert broken(error, server.url).outcome == "failed"
        assert broken(error, other, ca_file=certificate).outcome == "failed"
        assert server.requests == []
        assert run(server.url, ca_file=certificate).outcome == "succeeded"


async def start(runner: HttpRunner, server: Server, count: int) -> list["asyncio.Task[Result]"]:
    """Start hooks, and wait until the server has all their requests."""
    act = hook(http={"url": server.url, "timeout": "50s"})
    posts = [asyncio.create_task(runner.run(act, invocation())) for _ in range(count)]
    expected = len(server.requests) + count
    while len(server.requests) < expected:
        await asyncio.sleep(0.01)
    return posts


def test_interrupt_gives_up_what_runs_as_interrupted(caplog: pytest.LogCaptureFixture) -> None:
    async def main(server: Server) -> list[Result]:
        with closing(HttpRunner(Children())) as runner:
            posts = await start(runner, server, 3)
            runner.interrupt()
            return await asyncio.gather(*posts)

    with serving(Handler.reply_when_released) as server:
        for result in asyncio.run(main(server)):
            assert (result.outcome, result.error) == ("interrupted", "the daemon was stopped")
    assert caplog.messages == []


PROXY_VARIABLES = ("http_proxy", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY")
NO_BODY = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


def test_no_variable_sends_a_body_through_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    with answering(NO_BODY) as proxy, serving() as server:
        for name in PROXY_VARIABLES:
            monkeypatch.setenv(name, f"http://{proxy.address}")
        assert run(server.url).outcome == "succeeded"
        run("https://127.0.0.1:1/")
        assert (len(server.requests), proxy.requests) == (1, [])


def test_a_configured_proxy_is_used_whatever_no_proxy_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setenv("NO_PROXY", "*")
    with answering(NO_BODY) as proxy, serving() as server:
        result = run(server.url, invocation(b"hush"), proxy=f"http://user:word@{proxy.address}")
        assert (result.outcome, server.requests) == ("succeeded", [])
    (request,) = proxy.requests
    assert request.startswith(f"POST {server.url} HTTP/1.1\r\n".encode())
    assert b"Proxy-Authorization: Basic dXNlcjp3b3Jk\r\n" in request
    assert request.endswith(b"\r\n\r\nhush")


def test_what_goes_to_the_target_is_not_told_to_the_proxy() -> None:
    refusal = b"HTTP/1.1 407 No\r\nRetry-After: 9\r\nContent-Length: 0\r\n\r\n"
    with answering(refusal) as proxy:
        error, url = "connection refused or unreachable", "https://target.invalid/hook"
        broken(error, url, proxy=f"http://{proxy.address}")
    (request,) = proxy.requests
    assert request.startswith(b"CONNECT target.invalid:443 ")
    assert b"hush" not in request


@for_each(
    ("proxy", "error"),
    [
        ("socks5h://user:hush@127.0.0.1:1", "connection refused or unreachable"),
        (f"http://user:hush@{'x' * 64}.invalid", "the proxy's name can't be resolved"),
    ],
)
def test_a_proxy_that_fails_is_a_failure_that_tells_no_password(proxy: str, error: str) -> None:
    with serving() as server:
        broken(error, server.url, proxy=proxy)
        assert server.requests == []


def test_no_netrc_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    netrc = tmp_path / ".netrc"
    netrc.write_text("machine 127.0.0.1 login user password word\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(netrc))
    headers, _ = sent(invocation())
    assert "authorization" not in headers


@pytest.mark.process
@pytest.mark.skipif(not shutil.which("openssl"), reason="makes a certificate")
def test_no_variable_adds_a_certificate_or_writes_down_the_keys_of_tls(tmp_path: Path) -> None:
    certificate = self_signed(tmp_path)
    script = (
        "import asyncio, sys\n"
        "from premblyd.ground.httpclient import HttpClient, Request, retry_after_s\n"
        "async def main():\n"
        "    for ca_file in (None, sys.argv[2]):\n"
        "        request = Request(sys.argv[1], [], b'')\n"
        "        answer = await HttpClient().send(request, 9, ca_file=ca_file)\n"
        "        print(answer.status, answer.error)\n"
        "asyncio.run(main())"
    )
    surroundings = dict.fromkeys(("SSL_CERT_FILE", "CURL_CA_BUNDLE"), str(certificate))
    surroundings["SSLKEYLOGFILE"] = str(tmp_path / "keys")
    with serving(certificate=certificate) as server:
        command = [sys.executable, "-c", script, server.url, str(certificate)]
        done = subprocess.run(
            command, env=os.environ | surroundings, capture_output=True, text=True, check=True
        )
    assert done.stdout.splitlines() == ["0 the TLS certificate is not trusted", "200 None"]
    assert not (tmp_path / "keys").exists()


def test_a_request_given_up_that_fails_later_is_no_error(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        with closing(HttpClient()) as client, socket.create_server(("127.0.0.1", 0)) as server:
            server.setblocking(False)
            url = f"http://127.0.0.1:{server.getsockname()[1]}/"
            sending = asyncio.create_task(client.send(Request(url, []), 60))
            connection, _ = await loop.sock_accept(server)
            sending.cancel()
            await asyncio.wait((sending,))
            assert sending.cancelled()
            connection.close()
            while not client._client._free_list:  # until libcurl has seen that
                await asyncio.sleep(0)

    asyncio.run(main())
    gc.collect()
    assert caplog.text == ""


def test_nothing_but_http_is_spoken() -> None:
    async def main(url: str) -> str | None:
        with closing(HttpClient()) as client:
            return (await client.send(Request(url, []), 5)).error

    for scheme in ("file", "ftp", "gopher"):
        error = asyncio.run(main(f"{scheme}://127.0.0.1:1/etc/passwd"))
        assert error in ("no answer (libcurl error 1)", "the URL is none that can be asked")


@for_each("line", [b": Ada 22123456789", b"X: a\r\n Ada 22123456789", b"Retry-After: Ada\x01\xff"])
def test_a_head_that_is_no_http_is_neither_an_error_nor_printed(
    line: bytes, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    head = b"HTTP/1.1 503 Ada\r\n%b\r\nContent-Length: 0\r\n\r\n" % line
    with answering(head) as target:
        result = run(f"http://{target.address}/")
    assert (result.http_status, result.error, result.retry_after_s) == (503, "HTTP 503", 0)
    for refused in (b"HTTP/1.1 Ada OK\r\n\r\n", b"HTTP/1.1 200 OK\r\nno colon, Ada\r\n\r\n"):
        with answering(refused) as target:
            assert run(f"http://{target.address}/").outcome == "failed"
    assert (*capfd.readouterr(), caplog.text) == ("", "", "")


@for_each(
    ("head", "again"),
    [
        (b"HTTP/1.1 200 OK\r\n", b"X-Flood: %b\r\n" % (b"x" * 40)),
        (b"HTTP/1.1 200 OK\r\nX: ", b"x" * 1000),
        (b"", b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", b"X: y\r\n"),
    ],
)
def test_a_head_without_an_end_is_cut_off(head: bytes, again: bytes) -> None:
    with answering(head, again) as target:
        broken("the head of the answer is too large", f"http://{target.address}/")


def test_a_body_without_an_end_is_cut_off_and_its_status_counts() -> None:
    for code, outcome in ((200, "succeeded"), (503, "failed")):
        with answering(b"HTTP/1.1 %d x\r\nRetry-After: 7\r\n\r\n" % code, b"y" * 65536) as target:
            result = run(f"http://{target.address}/")
        assert (result.outcome, result.http_status, result.retry_after_s) == (outcome, code, 7)
        assert (result.output, result.output_truncated) == ("y" * 64 * KIB, True)


def test_what_a_target_packed_is_not_unpacked() -> None:
    packed = gzip.compress(bytes(1 << 20))
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n"
    with answering(head % len(packed) + packed) as target:
        result = run(f"http://{target.address}/")
    assert result.output == packed.decode("utf-8", "replace")
    assert b"Accept-Encoding" not in target.requests[0]
