"""What a request leaves that never becomes a webhook: a line and a row, and not too many."""

import threading
from collections import Counter
from collections.abc import Mapping
from typing import Any

import orjson
import pytest
import yaml
from tornado.httpclient import AsyncHTTPClient

from premblyd.config.models import Endpoint
from premblyd.ground import telemetry
from premblyd.ground.times import Clock
from premblyd.prembly.signature import Form, Scheme, sign
from premblyd.queue import rejections
from premblyd.receive import evidence
from premblyd.receive.evidence import LINES_PER_MINUTE, difference
from tests.support.logs import Lines
from tests.support.receiving import Client, Reception, post
from tests.support.rows import for_each
from tests.support.waiting import until
from tests.support.webhooks import BODY, KEY, PATH, head, signed, webhook

pytestmark = pytest.mark.usefixtures("http_server")
SECRET_PATH = "/webhooks/prembly-7Zk4hushQ2"


WRONG = [
    ("POST", PATH + "/", "", "no such path", "differs from endpoint prembly's path by"),
    ("GET", "/.env", "", "no such path", "unlike every endpoint's path"),
    ("GET", PATH, "prembly", "method not allowed", "takes POST: a redirect makes GET"),
    ("POST", "/healthz", "", "method not allowed", "takes GET, HEAD"),
]


async def test_a_wrong_path_or_method_leaves_a_line_that_helps_and_a_row(
    client: Client, reception: Reception, lines: Lines
) -> None:
    reception.use()
    for method, target, *_ in WRONG:
        await client.send(head({}, method, target))
        await client.answer()
    rows = await kept_rows(reception)
    for wrong, (_, *kept), line in zip(WRONG, rows, lines, strict=True):
        method, _, endpoint, reason, hint = wrong
        assert kept == [endpoint, "127.0.0.1", reason]
        assert (line["event"], line["method"]) == ("webhook.rejected", method)
        assert (line["endpoint"], line["reason"]) == (endpoint, reason)
        assert line["hint"].startswith(hint)


async def kept_rows(reception: Reception) -> list[tuple[Any, ...]]:
    await reception.writer.call(lambda _: None)
    return reception.rows("SELECT at_ms, endpoint, remote_ip, reason FROM rejection ORDER BY id")


@for_each(
    ("target", "hint"),
    [
        (SECRET_PATH + "/", "differs from {} by a trailing slash"),
        (SECRET_PATH.upper(), "differs from {} in upper and lower case"),
        (SECRET_PATH.replace("-", "%2D"), "is {} written in another way"),
        ("/" + SECRET_PATH, "is {} written in another way"),
        (SECRET_PATH + "/more", "goes on after {}"),
        ("/proxied" + SECRET_PATH, "has something before {}"),
        (SECRET_PATH[:-1], "differs from {} by no more than 1 character"),
        (SECRET_PATH.replace("Zk4", ""), "differs from {} by no more than 3 characters"),
        ("/", None),
        ("/wp-login.php", None),
        ("", None),
    ],
)
def test_a_path_that_is_nearly_right_is_told_from_the_others(target: str, hint: str | None) -> None:
    endpoint = Endpoint.model_construct(name="prembly", path=SECRET_PATH, keys={})
    found = difference(target, [endpoint])
    if hint is None:
        assert found is None
    else:
        assert found is not None
        assert found.startswith(hint.format("endpoint prembly's path"))
        assert "hush" not in found


async def test_no_path_of_a_stranger_is_logged(
    client: Client, reception: Reception, lines: Lines
) -> None:
    reception.use(endpoint={"path": SECRET_PATH})
    for path in (SECRET_PATH + "/", SECRET_PATH[:-1], SECRET_PATH + "?hush"):
        await client.send(head({}, "HUSH", path))
        await client.answer()
    assert len(lines) == 3
    assert "hush" not in str(lines).lower()


@pytest.fixture
def counts(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """What is told of refusals meanwhile, by reason."""
    counts: Counter[str] = Counter()

    def hear(event: str, fields: Mapping[str, Any]) -> None:
        if event == "webhook.rejected":
            counts[fields["reason"]] += 1

    monkeypatch.setattr(telemetry, "LISTENERS", [*telemetry.LISTENERS, hear])
    return counts


async def test_a_scanner_fills_neither_the_log_nor_the_evidence_and_hides_no_typing_mistake(
    client: Client,
    reception: Reception,
    monkeypatch: pytest.MonkeyPatch,
    counts: Counter[str],
    lines: Lines,
) -> None:
    reception.use()
    for number in range(LINES_PER_MINUTE + 30):
        await client.send(head({}, "GET", f"/{number}.php"))
        await client.answer()
    await client.send(head({}, "POST", PATH + "/"))
    await client.answer()
    monkeypatch.setattr(evidence, "MINUTE_S", 0)
    await until(lambda: lines[-1]["event"] == "webhook.not_logged")
    assert [line["event"] for line in lines[:-1]] == ["webhook.rejected"] * (LINES_PER_MINUTE + 1)
    assert "trailing slash" in lines[-2]["hint"]
    assert (lines[-1]["kind"], lines[-1]["count"]) == ("no such path", 30)
    assert len(await kept_rows(reception)) == LINES_PER_MINUTE + 1
    assert counts == {"no such path": LINES_PER_MINUTE + 31}


async def test_while_the_disk_is_slow_a_bounded_number_of_rejections_waits_for_it(
    http_client: AsyncHTTPClient,
    base_url: str,
    reception: Reception,
    gate: threading.Event,
    lines: Lines,
) -> None:
    """Those beyond a thousand are only logged; and later ones are kept again."""
    evidence = reception.receiver.services.evidence
    waiting = reception.writer.call(lambda _: gate.wait())
    for _ in range(1003):
        evidence.reject("missing signature", remote_ip="::1")
    assert len(lines) == 1003
    gate.set()
    await waiting
    assert len(await kept_rows(reception)) == 1000
    assert (await post(http_client, base_url, BODY, {})).code == 401
    assert len(await kept_rows(reception)) == 1001


MALFORMED = "Malformed request"
ODD_FRAMINGS: list[dict[str, str]] = [
    {"Content-Length": "-1"},
    {"Content-Length": "5, 6"},
    {"Content-Length": "5", "Transfer-Encoding": "chunked"},
    {"Transfer-Encoding": "gzip, chunked"},
    {"Transfer-Encoding": "chunked"},
]
ODD = signed(BODY) | {"Content-Length": "-1"}
LONG_HEAD = head({f"x-{number}": "y" * 1000 for number in range(40)})
CHUNKED = {"Transfer-Encoding": "chunked"}
LONG_LINE = b"1;" + b"x" * 100 + b"\r\n"  # before a chunk


@pytest.mark.parametrize(
    ("sent", "end", "expected"),
    [
        (b"nonsense\r\n\r\n", False, ("", "malformed request", None)),
        (head(ODD), False, ("prembly", "malformed request", None)),
        (head({"x" * 3000: "y"}), False, ("", "malformed request", None)),
        (LONG_HEAD, False, ("", "head too large", None)),
        (head(signed(BODY) | CHUNKED) + LONG_LINE, False, ("prembly", "malformed request", None)),
        (webhook(BODY)[:-1], True, ("prembly", "cut short", len(BODY))),
        (webhook(BODY)[:-1], False, ("prembly", "too slow", len(BODY))),
        (b"POST", True, None),
        (b"", True, None),
    ],
)
async def test_what_comes_to_nothing_says_why(
    http_port: int,
    reception: Reception,
    sent: bytes,
    end: bool,
    expected: tuple[str, str, int | None] | None,
    lines: Lines,
) -> None:
    if expected and expected[1] == "too slow":  # on a busy machine others may be
        reception.use(request_timeout="100ms")
    client, other = await Client.to(http_port), await Client.to(http_port)
    await client.send(sent)
    if end:
        client.end()
    await until(lambda: lines or not expected)
    await other.send(head({}, "GET", "/healthz"))
    await other.answer()
    for one in (client, other):
        await one.close()
    await until(lambda: not reception.receiver.connections)
    found = [(line["endpoint"], line["reason"], line["body_bytes"]) for line in lines]
    assert found == ([expected] if expected else [])
    assert len(await kept_rows(reception)) == len(found)


@pytest.mark.parametrize(
    ("sent", "status", "error"),
    [
        (b"nonsense\r\n\r\n", 400, "Malformed request"),
        *(
            (head(signed(BODY) | odd) + b"xyz\r\n", 400, "Malformed request")
            for odd in ODD_FRAMINGS
        ),
        (head(signed(BODY) | CHUNKED) + LONG_LINE, 400, "Malformed request"),
        (LONG_HEAD, 431, "Head too large"),
        (LONG_HEAD * 10, 431, "Head too large"),
        (head(CHUNKED) + LONG_LINE, 401, "Invalid signature"),  # and nothing behind it
        (head(CHUNKED) + b"no number\r\n", 401, "Invalid signature"),
    ],
)
async def test_what_cannot_be_read_is_answered_once_and_the_connection_is_closed(
    client: Client, sent: bytes, status: int, error: str
) -> None:
    await client.send(head({}, "GET", "/healthz"))
    assert (await client.answer()).status == 200
    await client.send(sent)
    answer = await client.answer()
    assert (answer.status, orjson.loads(answer.body)) == (status, {"error": error})
    assert answer.headers.get("Connection") == (None if status == 401 else "close")
    assert await client.ended()


async def test_who_scans_for_paths_does_not_push_out_who_tried_keys(
    client: Client, reception: Reception, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rejections, "MAX_NOISE", 3)
    monkeypatch.setattr(rejections, "MAX_REJECTIONS", 8)
    reception.use()
    for part in range(3):
        await client.send(webhook(BODY, signed(BODY, "another key")))
        assert (await client.answer()).status == 401
        for _ in range(5):
            await client.send(head({}, "GET", "/"))
            assert (await client.answer()).status == 404
        assert len(await kept_rows(reception)) == part + 4
    reasons = [reason for *_, reason in await kept_rows(reception)]
    assert reasons == ["wrong signature"] + ["no such path"] * 3 + ["wrong signature"] * 2


IN_HEX = {"x-prembly-signature": sign(BODY, KEY, Form(Scheme.HMAC_SHA512, "hex"))}
FORM_HINT = (
    "signed in another form by key live; to take it:"
    ' signature: [{}, {"algorithm": "sha512", "encoding": "hex"}]'
)


async def test_a_right_key_in_another_form_is_refused_and_the_line_that_takes_it_is_told(
    client: Client, reception: Reception, lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evidence, "TRY_EVERY_S", 0)
    reception.use()
    await refused(client, IN_HEX)
    assert await hints(reception) == [FORM_HINT]
    told = {line["event"]: line for line in lines}
    assert told["webhook.other_form"]["hint"] == FORM_HINT
    line = yaml.safe_load(FORM_HINT.partition("to take it: ")[2])
    for wrong in (signed(BODY, "another key"), {"x-prembly-signature": "!"}):
        await refused(client, wrong)
    await refused(client, {"x-prembly-signature": sign(BODY, KEY, Form(Scheme.PUBLIC_KEY))})
    reception.use(endpoint={"scheme": "public-key"})  # proves nothing: there is no form to add
    await refused(client, IN_HEX)
    assert await hints(reception) == [FORM_HINT, None, None, None, None]
    reception.use(endpoint=line)
    await client.send(webhook(BODY, IN_HEX))
    assert (await client.answer()).status == 200


async def test_another_form_is_tried_once_a_while_and_for_no_large_body(
    client: Client, reception: Reception, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evidence, "TRY_EVERY_S", float("inf"))
    reception.use()
    for _ in range(2):
        await refused(client, IN_HEX)
    monkeypatch.setattr(evidence, "TRY_EVERY_S", 0)
    monkeypatch.setattr(evidence, "MOST_TRIED_BYTES", len(BODY) - 1)
    await refused(client, IN_HEX)
    assert await hints(reception) == [FORM_HINT, None, None]


async def test_no_form_is_told_while_the_endpoint_accepts_webhooks(
    client: Client, reception: Reception, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else who has the key could have the operator believe that Prembly has changed its form."""
    monkeypatch.setattr(evidence, "TRY_EVERY_S", 0)
    days, now_ms = rejections.HINTED_AFTER_MS, [0]
    monkeypatch.setattr(Clock, "now_ms", lambda _: now_ms[0])
    reception.use()
    await client.send(webhook(BODY, signed(BODY)))
    assert (await client.answer()).status == 200
    for now_ms[0] in (0, days - 1, days):
        await refused(client, IN_HEX)
    assert await hints(reception) == [None, None, FORM_HINT]


async def refused(client: Client, headers: dict[str, str]) -> None:
    await client.send(webhook(BODY, headers))
    answer = await client.answer()
    assert (answer.status, answer.body) == (401, b'{"error":"Invalid signature"}')


async def hints(reception: Reception) -> list[str | None]:
    await reception.writer.call(lambda _: None)
    return [hint for (hint,) in reception.rows("SELECT hint FROM rejection ORDER BY id")]
