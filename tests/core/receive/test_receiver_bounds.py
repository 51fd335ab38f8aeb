"""What the receiver holds at once and for how long: sizes, load, time, clients that go away."""

import asyncio
import contextlib
import socket
import struct
import threading
import time
import tracemalloc
from types import SimpleNamespace
from typing import Any

import pytest

from premblyd.receive import exchange, inflight, server
from premblyd.receive.exchange import Phase
from tests.support.database import away
from tests.support.receiving import Client, Reception
from tests.support.requests import Answer, chunked
from tests.support.waiting import until
from tests.support.webhooks import head, signed, webhook

BODY = b'{"reference":"r-1","response_code":"00"}'
CHUNKED = {"Transfer-Encoding": "chunked"}
UNAVAILABLE = (503, "5", b'{"error":"Temporarily unavailable"}')
TOO_LARGE = (413, b'{"error":"Body too large"}')
pytestmark = pytest.mark.usefixtures("http_server")


def status_retry_and_body(answer: Answer) -> tuple[int, str | None, bytes]:
    return answer.status, answer.headers.get("Retry-After"), answer.body


async def test_a_chunked_body_too_large_is_not_read_whole(
    client: Client, reception: Reception, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exchange, "LINGER_S", 0.05)
    reception.use(max_body="1 KiB")
    await client.send(head(signed(BODY) | CHUNKED))
    piece = chunked(bytes(1024)).removesuffix(chunked())
    with contextlib.suppress(ConnectionError):  # the server ends it, although more would come
        while True:
            await client.send(piece)
            await asyncio.sleep(0.001)
            for refused in reception.receiver._exchanges.values():
                assert reception.in_flight[1] or not refused._body, "it counts no more"
    ((reason, size, _),) = await reception.rejections()
    assert (reason, size <= 1024) == ("body too large", True)


async def test_a_body_in_tiny_pieces_takes_no_more_memory_than_is_counted(
    client: Client, reception: Reception, no_collector: None
) -> None:
    """Whoever knows the path may send them, up to `max_in_flight_bytes`."""
    await client.send(head(signed(BODY) | CHUNKED))
    await reception.until_in_flight(1, 0)
    [receiving] = reception.receiver._exchanges.values()
    pieces = 4_000
    tracemalloc.start()
    for number in range(pieces):
        receiving.data_received(number.to_bytes(2, "big"))
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert reception.in_flight == (1, 2 * pieces)
    assert taken < 2 * 2 * pieces


async def test_a_client_that_sends_its_body_before_it_looks_gets_to_read_the_refusal(
    client: Client, reception: Reception, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exchange, "LINGER_S", 40)  # as long as a busy machine may take
    reception.use(max_body="1 KiB")
    await client.send(head(signed(BODY) | CHUNKED))
    pieces = [bytes(1000)] * 20
    for start in range(0, len(whole := chunked(*pieces)), 1000):
        await client.send(whole[start : start + 1000])
        await asyncio.sleep(0.005)
    answer = await client.answer()
    assert (answer.status, answer.body) == TOO_LARGE


async def test_a_body_of_the_limit_is_stored_to_the_byte_and_one_byte_more_is_not(
    client: Client, reception: Reception
) -> None:
    reception.use(max_body="1 KiB")
    whole = bytes(range(256)) * 4
    for body, status in ((whole, 200), (whole + b"x", 413), (whole, 200)):
        await client.send(webhook(body))
        await client.send(head(signed(body) | CHUNKED) + chunked(*(bytes([one]) for one in body)))
        assert [(await client.answer()).status for _ in range(2)] == [status] * 2
    assert reception.rows("SELECT DISTINCT body FROM event") == [(whole,)]


async def test_a_body_declared_too_large_is_refused_by_its_head_and_others_get_leave_to_come(
    http_port: int, reception: Reception, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exchange, "LINGER_S", 0.01)
    reception.use(max_body="1 KiB")
    for headers, size, status in (
        ({}, 40, 401),
        (signed(BODY), 1025, 413),
        (signed(BODY), 10**12, 413),
    ):
        for expect in ({}, {"Expect": "100-continue"}):
            client = await Client.to(http_port)
            await client.send(head(headers | expect | {"Content-Length": str(size)}))
            assert (await client.answer()).status == status
            assert await client.ended()
            await client.close()
    reasons = [
        ("missing signature", 40, None),
        *(("body too large", size, None) for size in (1025, 10**12)),
    ]
    assert await reception.rejections() == [reason for reason in reasons for _ in range(2)]
    client = await Client.to(http_port)
    await client.send(head(signed(BODY) | {"Expect": "100-continue", "Content-Length": "40"}))
    assert (await client.answer()).status == 100
    await client.send(BODY)
    assert (await client.answer()).status == 200
    await client.close()


FULL = [{"max_in_flight_requests": 1}, {"max_in_flight_bytes": f"{len(BODY)} B"}]


@pytest.mark.parametrize("bound", FULL)
async def test_too_much_in_flight_is_asked_to_come_again(
    http_port: int, reception: Reception, bound: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inflight, "QUICK_S", 60)
    reception.use(**bound)
    first, second = await Client.to(http_port), await Client.to(http_port)
    await first.send(webhook(BODY)[:-1])
    await reception.until_in_flight(1, len(BODY) - 1)
    await second.send(webhook(BODY, signed(BODY, token="2")))
    assert status_retry_and_body(await second.answer()) == UNAVAILABLE
    await first.send(BODY[-1:])
    assert (await first.answer()).status == 200
    await second.send(webhook(BODY, signed(BODY, token="2")))
    assert (await second.answer()).status == 200
    await first.close()
    await second.close()
    assert await reception.rejections() == []  # nobody is to blame


@pytest.mark.parametrize("bound", FULL)
async def test_who_is_slow_gives_way_to_a_webhook_and_what_is_complete_does_not(
    http_port: int,
    reception: Reception,
    bound: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    gate: threading.Event,
) -> None:
    monkeypatch.setattr(inflight, "QUICK_S", 0)
    reception.use(**bound)
    clients = [await Client.to(http_port) for _ in range(3)]
    slow, whole, late = clients
    await slow.send(webhook(BODY)[:-1])
    await reception.until_in_flight(1, len(BODY) - 1)
    reception.writer.call(lambda _: gate.wait())
    await whole.send(webhook(BODY))
    assert status_retry_and_body(await slow.answer()) == UNAVAILABLE
    await reception.until_in_flight(1, len(BODY))
    await late.send(webhook(BODY))
    assert status_retry_and_body(await late.answer()) == UNAVAILABLE
    gate.set()
    assert (await whole.answer()).status == 200
    for client in clients:
        await client.close()


async def test_what_cannot_be_kept_is_asked_for_again(client: Client, reception: Reception) -> None:
    body = BODY + b" " * 100_000
    with away(reception.place):
        await client.send(webhook(body))
        assert status_retry_and_body(await client.answer()) == UNAVAILABLE
        assert (reception.in_flight, reception.woken) == ((0, 0), 0)
    assert reception.rows("SELECT * FROM event") == []
    await client.send(webhook(body))
    assert (await client.answer()).json == {"status": "received", "event": 1, "duplicate": False}


async def test_a_request_or_a_head_that_does_not_come_in_time_ends_the_connection(
    http_port: int, reception: Reception, monkeypatch: pytest.MonkeyPatch
) -> None:
    clients = [await Client.to(http_port) for _ in range(3)]
    for client, part in zip(clients, (b"", b"POST", webhook(BODY)[:-1]), strict=True):
        await client.send(part)
    await reception.until_in_flight(1, len(BODY) - 1)
    later = SimpleNamespace(monotonic=lambda: time.monotonic() + 3600)
    monkeypatch.setattr(server, "time", later)  # for who looks at the connections
    assert all(await asyncio.gather(*(client.ended() for client in clients)))
    assert reception.in_flight == (0, 0)
    for client in clients:
        await client.close()
    assert reception.rows("SELECT * FROM event") == []


async def test_a_commit_that_takes_longer_than_the_body_may_is_waited_for(
    client: Client, reception: Reception, gate: threading.Event
) -> None:
    reception.use(request_timeout="200ms")
    reception.writer.call(lambda _: gate.wait())
    await client.send(webhook(BODY))
    await reception.until_in_flight(1, len(BODY))
    [exchange] = reception.receiver._exchanges.values()
    await until(lambda: exchange._phase is Phase.WORKING)
    exchange.end_if_late(time.monotonic() + 60)
    gate.set()
    assert (await client.answer()).status == 200


async def test_who_goes_away_amid_a_body_leaves_none(http_port: int, reception: Reception) -> None:
    cut_short = (webhook(BODY)[:-1], head(signed(BODY) | CHUNKED) + b"5\r\n123")
    for go, sent in zip((Client.abort, Client.end), cut_short, strict=True):
        client = await Client.to(http_port)
        await client.send(sent)
        await reception.until_in_flight(1, 3 if b"chunked" in sent else len(BODY) - 1)
        go(client)
        await reception.until_in_flight(0, 0)
        await client.close()
    assert reception.rows("SELECT * FROM event") == []
    assert [reason for reason, *_ in await reception.rejections()] == ["cut short"] * 2


async def test_a_webhook_whose_connection_is_lost_before_the_answer_is_kept_without_a_fault(
    http_port: int, reception: Reception, gate: threading.Event
) -> None:
    faults: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, fault: faults.append(fault))
    reception.writer.call(lambda _: gate.wait())
    with socket.create_connection(("127.0.0.1", http_port)) as lost:
        lost.sendall(webhook(BODY))
        await reception.until_in_flight(1, len(BODY))
        lost.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # a reset
    await until(lambda: not reception.receiver.connections)
    gate.set()
    await reception.writer.call(lambda _: None)  # the next transaction: that of the webhook is over
    assert reception.rows("SELECT id FROM event") == [(1,)]
    assert faults == []


@pytest.mark.parametrize("pieces", [1, 10])
async def test_a_client_that_will_send_no_more_gets_its_answer(
    http_port: int,
    reception: Reception,
    pieces: int,
    gate: threading.Event,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(exchange, "IDLE_CONNECTION_S", 3600)  # it does not end by being idle
    for framing in ({}, CHUNKED):
        body = BODY + b" " * (3 << 20) * (pieces == 10)
        whole = head(signed(body) | CHUNKED) + chunked(body) if framing else webhook(body)
        client = await Client.to(http_port)
        gate.clear()
        reception.writer.call(lambda _: gate.wait())
        size = -(-len(whole) // pieces)
        for start in range(0, len(whole), size):
            await client.send(whole[start : start + size])
            await asyncio.sleep(0.001)
        client.end()
        await reception.until_in_flight(1, len(body))
        gate.set()
        assert (await client.answer()).status == 200
        assert await client.ended()
        await client.close()


async def test_a_client_that_never_reads_its_answers_is_not_held_for_ever(
    _unused_port: tuple[socket.socket, int],  # noqa: PT019
    reception: Reception,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(exchange, "UNREAD_ANSWER_S", 0.2)
    listening, port = _unused_port
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    deaf = socket.socket()
    deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    deaf.connect(("127.0.0.1", port))
    deaf.setblocking(False)
    request = head({}, "GET", "/nothing") * 100
    with contextlib.suppress(ConnectionError):
        while True:  # the answers fill all that is between, then the requests
            with contextlib.suppress(BlockingIOError):
                deaf.send(request)
            await asyncio.sleep(0.001)
    await until(lambda: not reception.receiver.connections)
    deaf.close()


async def test_a_stop_waits_for_who_has_just_connected_and_asks_him_to_close(
    client: Client, reception: Reception, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exchange, "FIRST_REQUEST_S", 40)  # as long as a busy machine may take
    await until(lambda: reception.receiver.connections == 1)
    async with reception.stopping(client):
        await client.send(webhook(BODY))
