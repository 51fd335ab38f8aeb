"""The writer: one transaction for all that waits, and nothing is kept that was not committed."""

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from premblyd.ground import telemetry
from premblyd.ground.errors import StoreUnavailableError
from premblyd.queue.inbox import Inbox
from premblyd.store.engine import Statement, Transaction
from premblyd.store.sqlite import opening
from premblyd.store.sqlite.engine import SqliteEngine
from premblyd.store.tables import Record
from premblyd.store.writer import Step, Writer
from tests.support.database import locked
from tests.support.logs import Lines
from tests.support.store import Store, new_event


def transactions(store: Store, monkeypatch: pytest.MonkeyPatch) -> list[Callable[..., None]]:
    """Return a list that gets the work of every transaction from now on."""
    works: list[Callable[..., None]] = []
    transact = store.engine.transact

    def counted(work: Callable[[Transaction], None]) -> None:
        works.append(work)
        transact(work)

    monkeypatch.setattr(store.engine, "transact", counted)
    return works


def test_what_comes_during_a_commit_waits_for_the_next(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on = threading.Event()
    works = transactions(store, monkeypatch)

    async def scenario() -> None:
        first = store.writer.call(lambda _: go_on.wait())
        while not works:
            await asyncio.sleep(0)
        others: list[asyncio.Future[Any]] = []
        for number in range(20):  # one a round of the loop
            others.append(store.inbox.add(new_event(b"%d" % number), []))
            await asyncio.sleep(0)
        assert not any(future.done() for future in (first, *others))
        go_on.set()
        await asyncio.gather(first, *others)
        assert len(works) == 2

    store.wait(scenario())


def test_the_loop_goes_on_when_webhooks_take_long_to_store(store: Store) -> None:
    goes_on = threading.Event()

    async def scenario() -> None:
        store.writer.call(lambda _: None, Step.ARRIVALS)
        storing = store.writer.call(lambda _: goes_on.wait(), Step.ARRIVALS)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        goes_on.set()
        assert await storing

    store.wait(scenario())


@pytest.mark.parametrize("with_webhook", [False, True])
def test_what_ended_during_a_claim_waits_for_the_next_claim_but_no_webhook_does(
    with_webhook: bool, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on, took = threading.Event(), list[str]()
    works = transactions(store, monkeypatch)

    async def claims() -> None:
        await store.writer.call(lambda _: go_on.wait(), Step.CLAIMS)
        await store.writer.call(lambda _: took.append("claim"), Step.CLAIMS)

    async def scenario() -> None:
        claiming = asyncio.create_task(claims())
        while not works:
            await asyncio.sleep(0)
        others: list[asyncio.Future[Any]] = [
            store.writer.call(lambda _: took.append("finish"), Step.FINISHES)
        ]
        if with_webhook:
            others.append(store.inbox.add(new_event(), []))
        await asyncio.sleep(0)
        go_on.set()
        await asyncio.gather(claiming, *others)

    store.wait(scenario())
    assert took == ["finish", "claim"]
    assert len(works) == (3 if with_webhook else 2)


def test_a_transaction_has_an_upper_size_and_close_commits_what_waits(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("premblyd.store.writer.MAX_BATCH", 10)
    works = transactions(store, monkeypatch)
    bodies = [b"%d" % number for number in range(25)]
    waiting = [store.inbox.add(new_event(body), []) for body in bodies]
    store.close()
    assert [store.wait(added).event_id for added in waiting] == [*range(1, 26)]
    assert len(works) == 3
    assert store.bodies() == bodies


def test_too_little_memory_is_waited_for_and_a_small_commit_between_is_no_recovery(
    store: Store, lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a full disk a proof of life finds room where webhooks do not."""

    def work(transaction: Transaction) -> None:
        assert transaction.change(Statement(Record.update(alive_at_ms=1))) == 1
        raise MemoryError

    for _ in range(2):
        with pytest.raises(StoreUnavailableError, match="not enough memory"):
            store.call(work)
        store.wait(store.inbox.prove_commit())
    assert store.rows("SELECT alive_at_ms FROM record") == [(None,)]
    assert [line["event"] for line in lines] == ["store.unavailable"]
    monkeypatch.setattr("premblyd.store.writer.RECENT_S", 0)  # later, with nothing that failed
    store.wait(store.inbox.prove_commit())
    assert [line["event"] for line in lines] == ["store.unavailable", "store.recovered"]
    with pytest.raises(StoreUnavailableError):
        store.call(work)
    assert store.add("crm").event_id == 1
    assert [line["event"] for line in lines] == 2 * ["store.unavailable", "store.recovered"]


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("a fault of ours")])
def test_a_fault_of_the_writer_itself_stops_nobody(
    store: Store, lines: Lines, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*_: object, **__: object) -> bool:
        raise error

    def fail_when_committed(event: str, **fields: Any) -> None:
        if event == "transaction.committed":
            raise error
        telemetry.tell(event, **fields)

    with monkeypatch.context() as patched:
        patched.setattr("premblyd.store.writer.tell", fail_when_committed)
        with pytest.raises(StoreUnavailableError, match=type(error).__name__):
            store.add("crm", body=b"first")
    assert not store.add("crm", body=b"first").is_new  # it was committed
    with monkeypatch.context() as patched:
        patched.setattr(store.engine, "tidy_up", fail)  # between two transactions
        assert store.add("crm", body=b"second").event_id == 2
        assert store.add("crm", body=b"third").event_id == 3
    assert store.add("crm", body=b"fourth").event_id == 4
    assert {line["event"] for line in lines} == {"store.operation_failed"}


def test_who_no_longer_waits_stops_nobody(store: Store) -> None:
    first, second = (store.inbox.add(new_event(body), []) for body in (b"1", b"2"))
    first.cancel()
    assert store.wait(second).event_id == 2
    assert store.bodies() == [b"1", b"2"]


def test_a_transaction_does_its_steps_in_their_order_whoever_came_first(store: Store) -> None:
    done: list[Step] = []
    works = [
        store.writer.call(lambda _, step=step: done.append(step), step)  # type: ignore[misc]
        for step in reversed(Step)
    ]
    store.wait_all(works)
    assert done == list(Step)


def test_what_a_transaction_took_is_told_once_it_is_committed(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opening, "BUSY_TIMEOUT_S", 0)
    told: list[str] = []
    monkeypatch.setattr(telemetry, "LISTENERS", [lambda event, _: told.append(event)])

    async def write() -> None:
        writer = Writer(SqliteEngine(path))
        inbox = Inbox(writer)
        await asyncio.gather(*(inbox.prove_commit() for number in range(3)))
        with locked(path), pytest.raises(StoreUnavailableError):
            await inbox.prove_commit()
        await writer.close()

    asyncio.run(write())
    assert told.count("transaction.committed") == 1
