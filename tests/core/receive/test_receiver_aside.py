"""What is much work to recognise is recognised beside the loop, and all else stays as it is."""

import asyncio
import contextlib
import json
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from premblyd.config.routing import Routing
from premblyd.prembly import bodies
from tests.support.configuration import shell
from tests.support.logs import Lines
from tests.support.receiving import ACTIONS, Client, Reception
from tests.support.webhooks import BODY, webhook

pytestmark = pytest.mark.usefixtures("http_server")
LARGE = json.dumps(
    {"response_code": "00", "reference": "r-large", "photo": "x" * (bodies.LARGE_BYTES + 1)}
).encode()
# A body of few bytes in which much is searched for a no.
OBJECTS = [
    json.dumps({"reference": "r-objects", "a": [each] * bodies.QUICK_HOLDERS}).encode()
    for each in ({"b": 1}, [1])
]
# A small body over which an expression takes more steps than a trial has.
MANY = json.dumps({"reference": "r-many", "a": [0] * 20_000}).encode()
GREEDY = "body.a[?@ == `0`] | [?@ == `0`] | [?@ == `0`]"


@contextlib.contextmanager
def held(reception: Reception) -> Iterator[None]:
    """Keep the thread beside the loop busy."""
    begun, released = threading.Event(), threading.Event()

    def hold() -> None:
        begun.set()
        released.wait()

    reception.receiver.services.recogniser.run_beside(hold)
    begun.wait()
    try:
        yield
    finally:
        released.set()


async def test_a_large_body_is_stored_as_any_other(client: Client, reception: Reception) -> None:
    reception.use(actions=ACTIONS)
    for duplicate in (False, True):
        await client.send(webhook(LARGE))
        answer = await client.answer()
        assert answer.json == {"status": "received", "event": 1, "duplicate": duplicate}
    digest = reception.digest_of(LARGE)
    sql = "SELECT body, body_digest, body_bytes, reference, verified_by FROM event"
    assert reception.rows(sql) == [(LARGE, digest, len(LARGE), "r-large", "hmac-sha256:live")]
    assert reception.rows("SELECT action FROM delivery ORDER BY id") == [("all",), ("ok",)]


@pytest.mark.parametrize("slow", [LARGE, *OBJECTS], ids=["large", "objects", "lists"])
async def test_no_small_one_waits_for_a_large_one(
    http_port: int, reception: Reception, slow: bytes
) -> None:
    large, small = await Client.to(http_port), await Client.to(http_port)
    with held(reception):
        await large.send(webhook(slow))
        await reception.until_in_flight(1, len(slow))
        await small.send(webhook(BODY))
        assert (await small.answer()).json["event"] == 1
        assert reception.in_flight == (1, len(slow))
    assert (await large.answer()).json["event"] == 2
    await large.close()
    await small.close()


async def test_answers_of_a_connection_keep_order(client: Client, reception: Reception) -> None:
    with held(reception):
        await client.send(webhook(LARGE) + webhook(BODY))
        await reception.until_in_flight(1, len(LARGE))
    assert [(await client.answer()).json["event"] for _ in range(2)] == [1, 2]
    assert reception.rows("SELECT reference FROM event ORDER BY id") == [("r-large",), ("r-1",)]
    # The kernel keeps none back until the one before is acknowledged.
    [exchange] = reception.receiver._exchanges.values()
    assert exchange._stream.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


async def test_of_who_goes_away_meanwhile_it_is_kept(client: Client, reception: Reception) -> None:
    with held(reception):
        await client.send(webhook(LARGE))
        await reception.until_in_flight(1, len(LARGE))
        client.abort()
        await asyncio.sleep(0.05)
    await reception.until_in_flight(0, 0)
    assert reception.rows("SELECT reference FROM event") == [("r-large",)]


@pytest.mark.parametrize("body", [BODY, LARGE], ids=["small", "large"])
async def test_a_fault_of_our_own_is_answered_503_logged_and_stores_nothing(
    client: Client, reception: Reception, monkeypatch: pytest.MonkeyPatch, body: bytes, lines: Lines
) -> None:
    def fail(*_: object, **__: object) -> list[Any]:
        raise ZeroDivisionError("hush")

    monkeypatch.setattr(Routing, "actions_for", fail)
    reception.use()  # its logger is bound now
    await client.send(webhook(body))
    assert (await client.answer()).status == 503
    assert [line["event"] for line in lines] == ["webhook.failed"]
    assert reception.rows("SELECT * FROM event") == []


async def test_an_expression_that_is_much_work_is_moved_and_each_failure_logged_once(
    http_port: int, reception: Reception, lines: Lines
) -> None:
    reception.use(
        endpoint={"fields": {"user_ref": "abs(reference)"}},
        actions=[
            shell("fails", "true", when="abs(reference)"),
            shell("many", "true", when="length(body.a[?@ == `0`]) == `20000`"),
            shell("greedy", "true", when=GREEDY),
            shell("simple", "true", when="reference == 'r-many'"),
        ],
    )
    client, other = await Client.to(http_port), await Client.to(http_port)
    with held(reception):
        await client.send(webhook(MANY))
        await reception.until_in_flight(1, len(MANY))
        await other.send(webhook(b"{}"))
        assert (await other.answer()).json["event"] == 1
        lines.clear()
    assert (await client.answer()).json["event"] == 2
    await client.close()
    await other.close()
    sql = "SELECT action FROM delivery WHERE event_id = 2 ORDER BY id"
    assert reception.rows(sql) == [("many",), ("simple",)]
    told = [(line["event"], line.get("action"), line.get("error")) for line in lines[:-1]]
    assert told == [
        ("action.when_failed", "fails", "JMESPathTypeError"),
        ("action.when_failed", "greedy", "too many steps"),
        ("webhook.field_failed", None, "JMESPathTypeError"),
    ]


async def test_a_body_of_too_many_values_is_stored_as_raw_and_said(
    client: Client, reception: Reception, lines: Lines
) -> None:
    reception.use(actions=ACTIONS)
    body = b'{"response_code":"00","a":[' + b"1," * bodies.MAX_VALUES + b"1]}"
    await client.send(webhook(body))
    assert (await client.answer()).status == 200
    assert reception.rows("SELECT kind, response_code, body FROM event") == [("raw", None, body)]
    assert reception.rows("SELECT action FROM delivery ORDER BY id") == [("all",), ("none",)]
    assert [line["event"] for line in lines] == ["webhook.too_complex", "webhook.received"]
    assert lines[0]["body_bytes"] == len(body)
