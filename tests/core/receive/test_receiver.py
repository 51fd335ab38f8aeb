"""What each request is answered, and what is kept of it: the contract's table, row by row."""

import contextlib
import json
import threading
import time
from collections.abc import Awaitable
from typing import Any

import pytest
from tornado.httpclient import AsyncHTTPClient, HTTPResponse
from tornado.httputil import HTTPHeaders

from premblyd.prembly import bodies
from premblyd.prembly.signature import Form, Scheme, sign
from premblyd.receive import server
from premblyd.receive.exchange import Phase
from tests.support.configuration import configuration, shell
from tests.support.database import away, by_hand
from tests.support.receiving import ACTIONS, Client, Reception, post
from tests.support.waiting import until
from tests.support.webhooks import BODY, KEY, PATH, head, signed, webhook

Headers = dict[str, str] | HTTPHeaders | None


class Send:
    """Sends signed webhooks to the receiver, and questions for its health."""

    def __init__(self, client: AsyncHTTPClient, base_url: str) -> None:
        self._client, self._base_url = client, base_url

    def __call__(self, body: bytes = BODY, headers: Headers = None) -> Awaitable[HTTPResponse]:
        return post(self._client, self._base_url, body, headers)

    def health(self, method: str = "GET") -> Awaitable[HTTPResponse]:
        url = self._base_url + "/healthz"
        return self._client.fetch(url, method=method, raise_error=False)


@pytest.fixture(name="send")
def make_send(http_client: AsyncHTTPClient, base_url: str) -> Send:
    return Send(http_client, base_url)


async def test_a_new_webhook_is_on_disk_when_answered(send: Send, reception: Reception) -> None:
    reception.use(actions=ACTIONS)
    answer = await send()
    stored = reception.rows("SELECT body, body_bytes, body_digest, remote_ip, outcome FROM event")
    assert (answer.code, answer.body) == (200, b'{"status":"received","event":1,"duplicate":false}')
    assert answer.headers["Content-Type"] == "application/json"
    digest = reception.digest_of(BODY)
    assert stored == [(BODY, len(BODY), digest, "127.0.0.1", "verified")]
    assert reception.rows("SELECT action, state FROM delivery ORDER BY id") == [
        ("all", "pending"),
        ("ok", "pending"),
    ]
    assert reception.woken == 1


async def test_an_action_can_ask_which_key_signed(send: Send, reception: Reception) -> None:
    activate = shell("activate", "true", when="verified_by == 'hmac-sha256:live'")
    reception.use(endpoint={"keys": {"sandbox": "s", "live": "l"}}, actions=[activate])
    for key in ("s", "l"):
        body = key.encode()
        assert (await send(body, signed(body, key))).code == 200
    assert reception.rows("SELECT body FROM delivery JOIN event ON event.id = event_id") == [
        (b"l",)
    ]


async def test_a_duplicate_is_answered_and_runs_nothing(send: Send, reception: Reception) -> None:
    reception.use(actions=ACTIONS)
    for duplicate in (False, True, True):
        answer = await send(headers=signed(BODY, token="t"))
        expected = {"status": "received", "event": 1, "duplicate": duplicate}
        assert (answer.code, json.loads(answer.body)) == (200, expected)
    assert reception.rows("SELECT duplicate_count FROM event") == [(2,)]
    assert reception.rows("SELECT count(*) FROM delivery") == [(2,)]
    assert reception.woken == 1


async def test_a_body_without_an_id_is_another_event(send: Send, reception: Reception) -> None:
    thin = b'{"response_code":"00"}'
    sent = [(thin, {}), (thin, {}), (BODY, {}), (BODY, {"token": "a"}), (BODY, {"token": "b"})]
    events = []
    for body, token in sent:
        answer = await send(body, signed(body, **token))
        events.append(json.loads(answer.body)["event"])
    assert events == [1, 2, 3, 3, 3]
    reception.use(duplicates={"by": "token"})
    answer = await send(headers=signed(BODY, token="b"))
    assert json.loads(answer.body)["event"] == 4


REFUSES = """CREATE TRIGGER refuses BEFORE INSERT ON event WHEN NEW.reference IS NOT NULL
BEGIN SELECT RAISE(ABORT, 'it breaks a rule'); END"""


@pytest.mark.sqlite
async def test_what_tables_refuse_is_kept_as_bytes(send: Send, reception: Reception) -> None:
    """Else Prembly would send it again, and get 503 again, until it gives up."""
    reception.use(actions=[shell("all", "true", "*"), shell("raw", "true", "missing")])
    by_hand(reception.place, REFUSES)
    answer = await send()
    assert answer.code == 200
    stored = "SELECT body, kind, response_code, reference FROM event"
    assert reception.rows(stored) == [(BODY, "raw", None, None)]
    assert reception.rows("SELECT action FROM delivery ORDER BY id") == [("all",), ("raw",)]


LOCKED: dict[str, Any] = {
    "endpoints": [
        *configuration()["endpoints"],
        {"name": "far", "path": "/far", "keys": {"k": KEY}, "allow_ips": ["203.0.113.0/24"]},
        {"name": "two", "path": "/two", "keys": {"k": KEY}, "require_token": True},
    ]
}
RIGHT = signed(BODY)["x-prembly-signature"]
REFUSED = [
    ("missing signature", PATH, None, False),
    ("missing signature", PATH, "", False),
    ("malformed signature", PATH, "!", True),
    ("malformed signature", PATH, RIGHT.rstrip("="), True),
    ("malformed signature", PATH, f"{RIGHT}, {RIGHT}", True),
    ("malformed signature", PATH, "é" * 44, True),
    ("wrong signature", PATH, sign(BODY, "another key"), True),
    ("wrong signature", PATH, sign(BODY + b" ", KEY), True),
    ("wrong signature", PATH, sign(BODY, KEY, Form(Scheme.PUBLIC_KEY)), True),
    ("address not allowed", "/far", RIGHT, False),
    ("missing token", "/two", RIGHT, False),
]


async def test_every_401_is_the_same_to_the_byte_and_its_reason_is_kept_as_evidence(
    client: Client, reception: Reception
) -> None:
    reception.use(**LOCKED)
    answers = set()
    for _, path, signature, _ in REFUSED:
        headers = {} if signature is None else {"x-prembly-signature": signature}
        await client.send(webhook(BODY, headers, path))
        answers.add(await client.read())
    (answer,) = answers
    assert answer.startswith(b"HTTP/1.1 401 Unauthorized\r\n")
    assert answer.endswith(b'\r\n\r\n{"error":"Invalid signature"}')
    digest = reception.digest_of(BODY)
    assert await reception.rejections() == [
        (reason, len(BODY), digest if was_read else None) for reason, _, _, was_read in REFUSED
    ]
    assert reception.rows("SELECT DISTINCT remote_ip FROM rejection") == [("127.0.0.1",)]
    assert reception.rows("SELECT endpoint FROM rejection ORDER BY id DESC LIMIT 3") == [
        ("two",),
        ("far",),
        ("prembly",),
    ]
    assert reception.rows("SELECT * FROM event") == []


async def test_who_brings_what_is_asked_is_received(client: Client, reception: Reception) -> None:
    reception.use(**LOCKED)
    for path, more in (("/far", {"X-Forwarded-For": "203.0.113.9"}), ("/two", {"token": "t"})):
        await client.send(webhook(BODY, signed(BODY, **more), path))
        assert (await client.answer()).status == 200


async def test_another_path_or_method_is_refused(client: Client) -> None:
    for method, url, status, allow in [
        *((method, PATH, 405, "POST") for method in ("GET", "PUT", "DELETE", "OPTIONS")),
        ("POST", "/healthz", 405, "GET, HEAD"),
        ("POST", PATH + "/", 404, None),
        ("GET", PATH + "?a=b", 405, "POST"),
    ]:
        await client.send(head({}, method, url))
        answer = await client.answer()
        assert (answer.status, answer.headers.get("Allow")) == (status, allow)


async def test_health_is_a_real_commit_and_tells_no_details(
    send: Send,
    reception: Reception,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(server, "FRESH_S", 0)
    said: list[tuple[int, bytes, str | None]] = []
    for is_away in (False, True, False):
        with away(reception.place) if is_away else contextlib.nullcontext():
            for method in ("GET", "HEAD"):
                answer = await send.health(method)
                said.append((answer.code, answer.body, answer.headers.get("Retry-After")))
    well = [(200, b'{"status":"ok"}', None), (200, b"", None)]
    ill = [(503, b'{"error":"Temporarily unavailable"}', "5"), (503, b"", "5")]
    assert said == [*well, *ill, *well]
    assert reception.commits == 4


async def test_who_asks_for_the_health_at_once_shares_one_commit(
    send: Send,
    reception: Reception,
    monkeypatch: pytest.MonkeyPatch,
    gate: threading.Event,
) -> None:
    commits = []
    prove = reception.receiver.services.inbox.prove_commit

    def watched() -> Awaitable[None]:
        commits.append(time.monotonic())
        return prove()

    monkeypatch.setattr(reception.receiver.services.inbox, "prove_commit", watched)
    reception.writer.call(lambda _: gate.wait())
    asked = [send.health() for _ in range(10)]
    exchanges = reception.receiver._exchanges
    await until(lambda: [each._phase for each in exchanges.values()] == [Phase.WORKING] * 10)
    gate.set()
    assert [(await answer).code for answer in asked] == [200] * 10
    assert len(commits) == 1


async def test_nothing_unauthenticated_is_parsed(
    send: Send, monkeypatch: pytest.MonkeyPatch
) -> None:
    parsed, parse = [], bodies.parse

    def watched(body: bytes) -> dict[str, Any] | None:
        parsed.append(body)
        return parse(body)

    monkeypatch.setattr(bodies, "parse", watched)
    for headers in ({}, {"x-prembly-signature": "!"}, signed(BODY, "another key")):
        assert (await send(b"[" * 100_000, headers)).code == 401
    assert (await send()).code == 200
    assert parsed == [BODY]
