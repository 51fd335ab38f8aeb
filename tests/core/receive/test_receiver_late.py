"""No webhook waits for its answer longer than `answer_within`, whatever it waits for."""

import asyncio
import json
import threading
import time
from typing import Any

import pytest

from premblyd.prembly import bodies
from premblyd.receive.exchange import Phase
from tests.support.logs import logged
from tests.support.receiving import ACTIONS, Client, Reception
from tests.support.waiting import until
from tests.support.webhooks import BODY, webhook

USUAL = {"answer_within": "8s"}
LARGE = json.dumps({"reference": "r-large", "x": "x" * (bodies.LARGE_BYTES + 1)}).encode()
pytestmark = pytest.mark.usefixtures("http_server")


async def answer(port: int, body: bytes) -> tuple[int, str, dict[str, Any]]:
    client = await Client.to(port)
    await client.send(webhook(body))
    answered = await client.answer()
    await client.close()
    return answered.status, answered.headers.get("Retry-After", ""), answered.json


def events(reception: Reception) -> list[tuple[Any, ...]]:
    return reception.rows("SELECT id, duplicate_count FROM event")


async def end_late(reception: Reception) -> None:
    """Have it be too late for the only webhook that is on its way, when it has come whole: a real
    wait might be over before it has come as far as the test wants."""
    [exchange] = reception.receiver._exchanges.values()
    await until(lambda: exchange._phase is Phase.WORKING)
    exchange.end_if_late(time.monotonic() + 7.8)


async def test_what_waits_for_the_writer_too_long_is_answered_503_and_never_stored(
    http_port: int, reception: Reception, gate: threading.Event
) -> None:
    reception.use(**USUAL)
    waiting = reception.writer.call(lambda _: gate.wait())
    with logged() as lines:
        answering = asyncio.create_task(answer(http_port, BODY))
        await reception.until_in_flight(1, len(BODY))
        await end_late(reception)
        assert (await answering)[:2] == (503, "5")
        assert reception.in_flight == (0, 0), "no transaction has it"
        gate.set()
        await waiting
        await reception.writer.call(lambda _: None)
    assert [(line["event"], line["after_ms"]) for line in lines] == [("webhook.unavailable", 8000)]
    assert events(reception) == []


async def test_what_a_transaction_has_begun_with_is_stored_later_and_runs_its_actions(
    http_port: int, reception: Reception, monkeypatch: pytest.MonkeyPatch, gate: threading.Event
) -> None:
    reception.use(actions=ACTIONS, **USUAL)
    transact = reception.writer._engine.transact
    begun = threading.Event()

    def slow(work: Any) -> None:
        begun.set()
        gate.wait()
        transact(work)

    monkeypatch.setattr(reception.writer._engine, "transact", slow)
    with logged() as lines:
        answering = asyncio.create_task(answer(http_port, BODY))
        await until(begun.is_set)
        await end_late(reception)
        assert (await answering)[0] == 503
        assert reception.in_flight == (1, len(BODY)), "the writer holds its body"
        gate.set()
        await until(lambda: reception.in_flight == (0, 0))
    assert [line["event"] for line in lines] == ["webhook.unavailable", "webhook.received"]
    assert (events(reception), reception.woken) == ([(1, 0)], 1)
    status, _, said = await answer(http_port, BODY)
    assert (status, said) == (200, {"status": "received", "event": 1, "duplicate": True})


async def test_what_is_read_too_long_is_answered_503_and_never_stored(
    http_port: int, reception: Reception, gate: threading.Event
) -> None:
    reception.use(**USUAL)
    waiting = reception.receiver.services.recogniser.run_beside(gate.wait)
    answering = asyncio.create_task(answer(http_port, LARGE))
    await reception.until_in_flight(1, len(LARGE))
    await end_late(reception)
    assert (await answering)[0] == 503
    assert reception.in_flight == (1, len(LARGE)), "the other thread holds its body"
    gate.set()
    await waiting
    await until(lambda: reception.in_flight == (0, 0))
    await reception.writer.call(lambda _: None)
    assert events(reception) == []


async def test_by_itself_a_webhook_is_answered_before_eight_seconds_are_over(
    client: Client, reception: Reception, gate: threading.Event
) -> None:
    reception.use(**USUAL)
    reception.writer.call(lambda _: gate.wait())
    sent_at = time.monotonic()
    await client.send(webhook(BODY))
    await reception.until_in_flight(1, len(BODY))
    [exchange] = reception.receiver._exchanges.values()
    with logged() as lines:
        exchange.end_if_late(sent_at + 7.7)
        assert lines == []
        # It is looked at four times a second: this is the last look before the eight seconds.
        await end_late(reception)
    assert [line["event"] for line in lines] == ["webhook.unavailable"]
    assert (await client.answer()).status == 503
    gate.set()
