"""Bulk work of operators leaves the database alone between its transactions, for webhooks."""

import asyncio
from collections.abc import Callable
from contextlib import closing
from types import SimpleNamespace
from typing import Any, TypeVar, cast

import pytest

from premblyd.config.models import Config
from premblyd.console.bulk import Bulk, Bulks, BusyError
from premblyd.engines.connections import connect_operator, connect_read_only
from premblyd.engines.engine import Database
from premblyd.engines.readers import PageReader, Readers
from premblyd.errors import NotFoundError
from premblyd.record import operating
from premblyd.record.filters import DeliveryFilter
from premblyd.record.operating import Operator
from tests.support.clock import SettableClock
from tests.support.jobs import action
from tests.support.rows import for_each
from tests.support.store import Store

Found = TypeVar("Found")
DEAD_OF_CRM = DeliveryFilter(state="dead", action="crm")
DEAD = "UPDATE delivery SET state = 'dead', due_at_ms = NULL, finished_at_ms = 1"


@for_each(("took_s", "gap_s"), [(0, 0.15), (0.01, 0.15), (0.1, 0.4), (0.5, 2.0), (60, 2.0)])
def test_a_gap_is_longer_than_the_sleep_of_a_writer_and_most_of_the_time(
    took_s: float, gap_s: float
) -> None:
    """Who finds SQLite busy sleeps up to 100 ms before it looks again."""
    assert operating.gap_s(took_s) == gap_s


def test_between_two_transactions_of_a_replay_webhooks_are_stored(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(5):
        store.add("crm", body=b"%d" % number)
    store.by_hand(DEAD)
    gaps: list[float] = []

    def sleep(gap_s: float) -> None:
        gaps.append(gap_s)
        assert store.add(body=b"in gap %d" % len(gaps)).is_new

    now_s = iter(range(0, 99, 2))  # each transaction takes two seconds, it seems
    fake = SimpleNamespace(sleep=sleep, monotonic=lambda: next(now_s))
    monkeypatch.setattr(operating, "time", fake)
    monkeypatch.setattr(operating, "BATCH", 2)
    everything = dict.fromkeys(range(1, 6), 3)
    with closing(connect_operator(store.place)) as writing:
        changes = Operator(actor="ada").replay(everything, 1)
        assert list(operating.transact_all(writing, changes)) == [2, 2, 1]
    assert gaps == [0, 2.0, 2.0]  # none before the first one, nor after the last


class FewReaders(Readers):
    """Reads on the test's own connection."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def run(self, work: Callable[[Database], Found], page: PageReader | None = None) -> Found:
        return work(self._database)


def test_of_two_replays_of_many_the_second_is_refused_until_the_first_is_done(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(5):
        store.add("crm", body=b"%d" % number)
    store.by_hand(DEAD)
    monkeypatch.setattr(operating, "BATCH", 2)
    monkeypatch.setattr("premblyd.console.bulk.BATCH", 2)
    pauses: list[float] = []

    def gap_s(took_s: float) -> float:
        pauses.append(took_s)
        return 0

    monkeypatch.setattr(operating, "gap_s", gap_s)
    config = cast("Config", SimpleNamespace(actions=(action("crm"),)))

    async def run(database: Database) -> None:
        bulks = Bulks(FewReaders(database), store.writer, SettableClock(), lambda: None)

        def start() -> "asyncio.Task[None] | None":
            return bulks.start(DEAD_OF_CRM, 5, config, about="all", actor="ada").task

        first = start()
        with pytest.raises(BusyError, match="Another replay runs: all"):
            start()
        assert first
        await first
        assert bulks.find(1).queued == 5
        with pytest.raises(NotFoundError):
            bulks.find(2)
        second = start()
        assert second
        await second

    with closing(connect_read_only(store.place)) as database:
        store.wait(run(database))
    assert len(pauses) == 2, "between the steps"
    log = "SELECT part_of_id, delivery_id, note FROM operator_action ORDER BY id"
    parts = [(1, number, None) for number in range(1, 6)]
    assert store.rows(log) == [(None, None, "all"), *parts, (None, None, "all")]


def test_a_replay_of_many_that_is_stopped_leaves_the_rest(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(5):
        store.add("crm", body=b"%d" % number)
    store.by_hand(DEAD)
    monkeypatch.setattr(operating, "BATCH", 2)
    monkeypatch.setattr("premblyd.console.bulk.BATCH", 2)
    config = cast("Config", SimpleNamespace(actions=(action("crm"),)))

    async def run(database: Database) -> Bulk:
        bulks = Bulks(FewReaders(database), store.writer, SettableClock(), lambda: None)
        bulk = bulks.start(DEAD_OF_CRM, 5, config, about="all", actor="ada")

        def gap_s(_: float) -> float:
            bulk.is_stopped = True
            return 0

        monkeypatch.setattr(operating, "gap_s", gap_s)
        assert bulk.task
        await bulk.task
        return bulk

    with closing(connect_read_only(store.place)) as database:
        bulk = store.wait(run(database))
    assert (bulk.is_finished, bulk.queued, bulk.mistake) == (True, 2, None)
    assert store.rows("SELECT count(*) FROM delivery WHERE state = 'dead'") == [(3,)]


def test_a_replay_of_many_that_breaks_by_a_fault_of_ours_says_so(
    store: Store, monkeypatch: pytest.MonkeyPatch, lines: list[Any]
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("premblyd.console.bulk.replays.plan", broken)
    config = cast("Config", SimpleNamespace(actions=(action("crm"),)))

    async def run(database: Database) -> Bulk:
        bulks = Bulks(FewReaders(database), store.writer, SettableClock(), lambda: None)
        bulk = bulks.start(DEAD_OF_CRM, 5, config, about="all", actor="ada")
        assert bulk.task
        await bulk.task
        return bulk

    with closing(connect_read_only(store.place)) as database:
        bulk = store.wait(run(database))
    assert bulk.is_finished
    assert "a fault of premblyd" in (bulk.mistake or "")
    assert [line["event"] for line in lines] == ["console.failed"]
