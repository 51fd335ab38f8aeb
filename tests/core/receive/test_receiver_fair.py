"""Whoever has no key keeps nobody out who has: heads, bodies, connections that come to nothing."""

import asyncio
import itertools
import threading
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial

import pytest

from premblyd.receive import inflight
from premblyd.receive.inflight import InFlight, Limit, Share, make_room
from tests.support.needs import needs_open_files
from tests.support.receiving import Client, Reception
from tests.support.rows import large
from tests.support.waiting import until
from tests.support.webhooks import BODY, head, webhook

pytestmark = pytest.mark.usefixtures("http_server")
MADE_UP = {"x-prembly-signature": "made up"}
MANY_IPS = [f"127.0.0.{number}" for number in range(2, 52)]
# From the address of who is to get in, and from many others; from one other it is easier to tell.
IPS = pytest.mark.parametrize("ips", [["127.0.0.1"], MANY_IPS, *large(["127.0.0.2"])])


@asynccontextmanager
async def attack(
    port: int, requests: Sequence[bytes], ips: Sequence[str]
) -> AsyncIterator[list[Client]]:
    """Send the beginnings of requests, from these addresses in turn, and leave them at that."""
    clients = [await Client.to(port, ips[number % len(ips)]) for number, _ in enumerate(requests)]
    for client, request in zip(clients, requests, strict=True):
        await client.send(request)
    yield clients
    for client in clients:
        client.abort()


async def receives(port: int, count: int, ip: str, body: bytes = BODY) -> None:
    """Send good webhooks, ten at once; fail unless each is answered 200."""

    async def some(first: int) -> None:
        client = await Client.to(port, ip)
        for number in range(first, count, 10):
            await client.send(webhook(body.replace(b'"r-1"', b'"r-%05d"' % number)))
            assert (await client.answer()).status == 200
        await client.close()

    await asyncio.gather(*(some(first) for first in range(10)))


@pytest.mark.large
@needs_open_files(2500)
@IPS
async def test_a_thousand_heads_without_a_body_keep_no_webhook_out(
    http_port: int, reception: Reception, ips: list[str]
) -> None:
    slow = head(MADE_UP | {"Content-Length": "40"})
    async with attack(http_port, [slow] * 1000, ips):
        await reception.until_in_flight(1000, 0)
        await receives(http_port, 200, "127.0.0.1")
    assert reception.rows("SELECT count(*) FROM event") == [(200,)]
    await reception.until_in_flight(0, 0)


@pytest.mark.parametrize(
    ("slow_clients", "bound"),
    [(30, 15), pytest.param(2000, 1000, marks=[pytest.mark.large, needs_open_files(4500)])],
)
async def test_heads_that_come_again_from_ever_new_addresses_keep_no_webhook_out(
    http_port: int,
    reception: Reception,
    monkeypatch: pytest.MonkeyPatch,
    slow_clients: int,
    bound: int,
) -> None:
    """Nor one from an address that nobody has seen either: with the default bound the slowest are
    older than a webhook that has just begun. (Of fewer requests the slowest are younger.)"""
    monkeypatch.setattr(inflight, "QUICK_S", inflight.QUICK_S * bound / 1000)
    reception.use(max_in_flight_requests=bound)
    slow = head(MADE_UP | {"Content-Length": "40"})
    addresses = (f"127.1.{number // 250}.{number % 250 + 1}" for number in itertools.count())

    async def come_again() -> None:
        while True:
            client = await Client.to(http_port, next(addresses))
            try:
                await client.send(slow)
                assert (await client.answer()).status == 503
            finally:
                client.abort()

    async with asyncio.TaskGroup() as group:
        attackers = [group.create_task(come_again()) for _ in range(slow_clients)]
        await until(lambda: reception.in_flight[0] >= bound * 9 // 10)
        for _ in range(2):
            await asyncio.gather(*(receives(http_port, 1, next(addresses)) for _ in range(10)))
        for attacker in attackers:
            attacker.cancel()
    await reception.until_in_flight(0, 0)


@IPS
@pytest.mark.parametrize(("bodies", "slow_s"), [(5, 1.0), (50, 0.0)])
async def test_large_bodies_that_never_end_keep_no_webhook_out(
    http_port: int,
    reception: Reception,
    ips: list[str],
    bodies: int,
    slow_s: float,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(inflight, "SLOW_S", slow_s)
    reception.use(max_body="1 MiB", max_in_flight_bytes="4 MiB")
    size = (4 << 20) // bodies - 1
    slow = head(MADE_UP | {"Content-Length": str(size + 1)}) + bytes(size)
    async with attack(http_port, [slow] * bodies, ips):
        await reception.until_in_flight(bodies, bodies * size)
        await asyncio.sleep(2 * inflight.QUICK_S)
        await receives(http_port, 20, "127.0.0.1")
        await receives(http_port, 10, "127.0.0.1", BODY + b" " * 100_000)
    assert reception.rows("SELECT count(*) FROM event") == [(30,)]
    await reception.until_in_flight(0, 0)


async def test_idle_connections_keep_no_webhook_out(
    http_port: int, reception: Reception, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reception.receiver, "_max_connections", 50)
    begun = head(MADE_UP | {"Content-Length": "40"})
    requests = [(b"", b"POST /", begun)[number % 3] for number in range(100)]
    kept = await Client.to(http_port)
    await kept.send(webhook(BODY))
    assert (await kept.answer()).status == 200
    async with attack(http_port, requests, ["127.0.0.2"]):
        await receives(http_port, 20, "127.0.0.3")
        assert reception.receiver.connections <= 50
        await kept.send(webhook(BODY))  # idle too, but of a sender that holds little
        assert (await kept.answer()).status == 200
    await kept.close()
    await reception.until_in_flight(0, 0)


async def test_a_connection_that_waits_for_the_disk_is_not_closed_for_others(
    http_port: int,
    reception: Reception,
    monkeypatch: pytest.MonkeyPatch,
    gate: threading.Event,
) -> None:
    waiting = await Client.to(http_port)
    reception.writer.call(lambda _: gate.wait())
    await waiting.send(webhook(BODY))
    await reception.until_in_flight(1, len(BODY))
    monkeypatch.setattr(reception.receiver, "_max_connections", 1)
    others = [await Client.to(http_port) for _ in range(3)]
    assert all(await asyncio.gather(*(other.ended() for other in others)))
    gate.set()
    assert (await waiting.answer()).status == 200
    for client in (waiting, *others):
        await client.close()


def shares(held: Mapping[str, Sequence[float]], gone: list[tuple[str, float]]) -> list[Share]:
    """Return shares by sender, each with the moment of its bytes; `gone` takes who gives way."""
    return [
        Share(sender, lambda _, who=(sender, since): gone.append(who), since)  # type: ignore[misc]
        for sender, moments in held.items()
        for since in moments
    ]


def test_the_slowest_of_the_sender_that_holds_the_most_gives_way() -> None:
    gone: list[tuple[str, float]] = []
    held = {"many": [-5.0, -9.0, -7.0, -8.0], "few": [-100.0]}
    assert make_room(shares(held, gone), Limit.REQUESTS, 2)
    assert gone == [("many", -9.0), ("many", -8.0)]
    gone.clear()
    assert make_room(shares(held, gone), Limit.REQUESTS, 1, spare=10)
    assert gone == [("many", -9.0), ("many", -8.0), ("many", -7.0), ("many", -5.0)]
    gone.clear()
    assert make_room(shares({str(n): [-float(n)] for n in range(2, 9)}, gone), Limit.REQUESTS, 1)
    assert gone == [("8", -8.0)], "where all hold alike"
    gone.clear()
    assert not make_room(shares({"just": [float("inf")] * 9}, gone), Limit.REQUESTS, 1)
    assert not make_room([], Limit.BYTES, 1)
    assert gone == []


def test_who_alone_is_slow_does_not_give_way_to_a_crowd_that_has_just_come() -> None:
    gone: list[tuple[str, float]] = []
    lately = time.monotonic() - 0.5
    held = {"crowd": [lately] * 10, "slow": [lately - 9]}
    assert make_room(shares(held, gone), Limit.CONNECTIONS, 1, spare=10)
    assert gone == [("crowd", lately)]


def test_bytes_that_trickle_make_no_one_quick(monkeypatch: pytest.MonkeyPatch) -> None:
    bounds = InFlight()
    bounds.configure(2, 1_000_000)
    trickling, steady = (Share("a", lambda _: None, 0.0) for _ in range(2))
    for second in range(1, 10):
        monkeypatch.setattr(time, "monotonic", partial(float, second))
        assert bounds.receive(trickling, 1)
        assert bounds.receive(steady, 100_000)
    assert trickling.since < 0.1
    assert steady.since > 4


def test_what_left_is_given_back_once() -> None:
    bounds = InFlight()
    bounds.configure(2, 100)
    one, other = (Share("a", lambda _: None, float("inf")) for _ in range(2))
    assert bounds.enter(one)
    assert bounds.enter(other)
    assert not bounds.enter(Share("a", lambda _: None, float("inf")))
    assert bounds.receive(one, 60)
    assert not bounds.receive(other, 41)
    assert bounds.receive(other, 40)
    bounds.complete(one)
    assert (len(bounds.shares), bounds.held_bytes) == (2, 100)
    for _ in range(2):
        bounds.leave(one)
    assert (len(bounds.shares), bounds.held_bytes) == (1, 40)
