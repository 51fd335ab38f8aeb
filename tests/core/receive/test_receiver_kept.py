"""What is kept of a webhook: its bytes, who signed and sent it, the headers that are no secret."""

import asyncio
import json
from pathlib import Path

import pytest
from tornado.httputil import HTTPHeaders
from tornado.netutil import bind_unix_socket

from premblyd.ground.privacy import safe_id
from premblyd.prembly.signature import Form, Scheme, sign
from premblyd.receive.server import make_server
from tests.core.receive.test_receiver import Send, make_send
from tests.support.logs import Lines
from tests.support.receiving import ACTIONS, Client, Reception
from tests.support.webhooks import BODY, KEY, signed, webhook

__all__ = ["make_send"]  # a fixture


@pytest.mark.parametrize("body", [b"", b"[1]", b"not JSON", b"\xff\xfe\0", bytes(range(256))])
async def test_an_authentic_body_that_is_no_json_object_is_stored_and_takes_the_missing_route(
    send: Send, reception: Reception, body: bytes
) -> None:
    reception.use(actions=ACTIONS)
    assert (await send(body)).code == 200
    assert reception.rows("SELECT body, kind, response_code FROM event") == [(body, "raw", None)]
    assert reception.rows("SELECT action FROM delivery ORDER BY id") == [("all",), ("none",)]


async def test_the_legacy_header_counts_only_if_asked_for(send: Send, reception: Reception) -> None:
    legacy = {"X-Old": sign(b"", KEY, Form(Scheme.PUBLIC_KEY))}
    reception.use(endpoint={"scheme": "public-key", "header": "x-old"})
    assert (await send(BODY, legacy)).code == 200
    assert (await send(BODY, signed(BODY))).code == 401
    reception.use(endpoint={"header": "x-old"})
    assert (await send(BODY, legacy)).code == 401
    assert reception.rows("SELECT verified_by FROM event ORDER BY id") == [("public-key:live",)]


async def test_any_of_the_endpoints_forms_is_taken_and_handed_on_in_no_header(
    send: Send, reception: Reception
) -> None:
    reception.use(endpoint={"signature": [{}, {**HEX, "header": "date"}]})
    other = Form(Scheme.HMAC_SHA512, "hex", "", "date")
    assert (await send(b"{}", {"date": sign(b"{}", KEY, other)})).code == 200
    assert (await send(BODY, signed(BODY))).code == 200
    assert (await send(BODY, {"x-prembly-signature": sign(BODY, KEY, other)})).code == 401
    names = [("hmac-sha512:live",), ("hmac-sha256:live",)]
    assert reception.rows("SELECT verified_by FROM event ORDER BY id") == names
    [(kept,)] = reception.rows("SELECT headers FROM event WHERE id = 1")
    assert sign(b"{}", KEY, other) not in kept


HEX = {"algorithm": "sha512", "encoding": "hex"}


FORWARDED, REAL = "X-Forwarded-For", "X-Real-Ip"
PROXIED = [
    (["127.0.0.1"], [(FORWARDED, "192.0.2.1, 198.51.100.7")], "198.51.100.7"),
    (["127.0.0.1"], [(REAL, "198.51.100.7")], "198.51.100.7"),
    (
        ["127.0.0.1", "10.0.0.0/8"],
        [(FORWARDED, "192.0.2.1, 198.51.100.7"), (FORWARDED, "10.1.1.1")],
        "198.51.100.7",
    ),
    (["10.0.0.0/8"], [(FORWARDED, "192.0.2.1")], "127.0.0.1"),
    ([], [(REAL, "192.0.2.1"), (FORWARDED, "192.0.2.1")], "127.0.0.1"),
]


async def test_only_trusted_proxies_say_who_the_client_is(send: Send, reception: Reception) -> None:
    for number, (trusted, headers, remote_ip) in enumerate(PROXIED):
        reception.use(trusted_proxies=trusted)
        body = b"%d" % number
        sent = HTTPHeaders(signed(body))
        for name, value in headers:
            sent.add(name, value)
        assert (await send(body, sent)).code == 200
        newest = "SELECT remote_ip FROM event ORDER BY id DESC LIMIT 1"
        assert reception.rows(newest) == [(remote_ip,)]


@pytest.mark.parametrize("header", ["x-prembly-signature", "X-Proof", "X-Request-Id"])
async def test_of_the_headers_only_those_are_kept_that_never_hold_a_secret(
    send: Send, reception: Reception, header: str
) -> None:
    reception.use(endpoint={"header": header})
    right = sign(BODY, KEY)
    names = (
        "Token Authorization Proxy-Authorization Cookie X-Api-Key X-Session-Id X-Signature"
        " X-Jwt X-Client-Cert X-Passwd X-Pin X-Bvn Referer"
    )
    sent = dict.fromkeys(names.split(), "hush") | {"User-Agent": "Prembly", "Date": "today"}
    answer = await send(BODY, {**sent, header: right})
    assert answer.code == 200
    ((headers, token),) = reception.rows("SELECT headers, token FROM event")
    kept = dict(json.loads(headers))
    assert (kept["User-Agent"], kept["Date"], token) == ("Prembly", "today", "hush")
    assert kept["Content-Length"] == str(len(BODY))
    assert not {"hush", right} & set(kept.values())


async def test_each_webhook_is_one_line(send: Send, reception: Reception, lines: Lines) -> None:
    reception.use()
    for headers in (signed(BODY), signed(BODY), {}):
        await send(headers=headers)
    words = [line["event"] for line in lines]
    assert words == ["webhook.received", "webhook.duplicate", "webhook.rejected"]
    assert (lines[0]["event_id"], lines[0]["response_code"], lines[0]["actions"]) == (1, "00", 0)
    assert lines[0]["reference"] == lines[1]["reference"] == safe_id("r-1")
    assert "doubt" not in lines[0]


async def test_what_is_doubted_is_said(send: Send, reception: Reception, lines: Lines) -> None:
    doubted = b'{"response_code": "00", "face_data": {"status": "failed"}, "verification":'
    doubted += b' {"status": "VERIFIED", "reference": "sample-doubted-0001"}}'
    reception.use()
    await send(doubted, signed(doubted))
    assert (lines[0]["outcome"], lines[0]["doubt"]) == ("unknown", "face")
    assert reception.rows("SELECT outcome, doubt FROM event") == [("unknown", "face")]


async def test_a_unix_sockets_proxy_is_believed(reception: Reception, tmp_path: Path) -> None:
    reception.use(trusted_proxies=[])
    server = make_server(reception.receiver)
    server.add_socket(bind_unix_socket(str(tmp_path / "s")))
    client = Client(*await asyncio.open_unix_connection(tmp_path / "s"))
    for body, headers in ((BODY, {}), (b"another", {"X-Forwarded-For": "192.0.2.9"})):
        await client.send(webhook(body, signed(body) | headers))
        assert (await client.answer()).status == 200
    await client.close()
    server.stop()
    await server.close_all_connections()
    assert reception.rows("SELECT remote_ip FROM event ORDER BY id") == [("unix",), ("192.0.2.9",)]
