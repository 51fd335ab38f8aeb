"""Bulk work of operators leaves the database alone between its transactions, for webhooks."""

from collections.abc import Awaitable, Callable
from contextlib import closing
from types import SimpleNamespace
from typing import TypeVar, cast

import pytest

from premblyd.config.models import Config
from premblyd.features.console.bulk import Bulk, Bulks, BusyError
from premblyd.ground.errors import NotFoundError
from premblyd.record import operating
from premblyd.record.filters import DeliveryFilter
from premblyd.record.operating import Operator
from premblyd.store.connections import connect_operator
from premblyd.store.readers import Readers
from tests.support.clock import SettableClock
from tests.support.jobs import action
from tests.support.rows import for_each
from tests.support.store import Store

Found = TypeVar("Found")
DEAD_OF_CRM = DeliveryFilter(state="dead", action="crm")
DEAD = "UPDATE delivery SET state = 'dead', due_at_ms = NULL, finished_at_ms = 1"


@for_each(("took_s", "gap_s"), [(0, 0.15), (0.01, 0.15), (0.1, 0.4), (0.5, 2.0), (60, 2.0)])
def test_a_gap_is_longer_than_a_writer_s_sleep_and_most_of_the_time(
    took_s: float, gap_s: float
) -> None:
    """Who finds SQLite busy sleeps up to 100 ms before it looks again."""
    assert operating.gap_s(took_s) == gap_s


def test_between_two_transactions_webhooks_are_stored(
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


CONFIG = cast("Config", SimpleNamespace(actions=(action("crm"),)))


@pytest.fixture(name="five_dead")
def make_five_dead(store: Store, monkeypatch: pytest.MonkeyPatch) -> Store:
    for number in range(5):
        store.add("crm", body=b"%d" % number)
    store.by_hand(DEAD)
    monkeypatch.setattr(operating, "BATCH", 2)
    monkeypatch.setattr("premblyd.features.console.bulk.BATCH", 2)
    return store


def play(store: Store, scene: Callable[[Bulks], Awaitable[Found]]) -> Found:
    async def run() -> Found:
        readers = Readers(store.backend)
        try:
            return await scene(Bulks(readers, store.writer, SettableClock(), lambda: None))
        finally:
            await readers.close()

    return store.wait(run())


def start(bulks: Bulks) -> Bulk:
    return bulks.start(DEAD_OF_CRM, 5, CONFIG, about="all", actor="ada")


async def finished(bulk: Bulk) -> Bulk:
    assert bulk.task
    await bulk.task
    assert bulk.is_finished
    return bulk


def test_of_two_replays_of_many_the_second_is_refused_until_the_first_is_done(
    five_dead: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each goes on by rising numbers, so what dies again meanwhile is not queued twice."""
    pauses: list[float] = []

    def gap_s(took_s: float) -> float:
        pauses.append(took_s)
        if len(pauses) == 1:
            five_dead.by_hand(f"{DEAD} WHERE id = 1")
        return 0

    monkeypatch.setattr(operating, "gap_s", gap_s)

    async def scene(bulks: Bulks) -> None:
        first = start(bulks)
        with pytest.raises(BusyError, match="Another replay runs: all"):
            start(bulks)
        assert (await finished(first)).queued == 5
        assert bulks.find(1) is first
        with pytest.raises(NotFoundError):
            bulks.find(2)
        await finished(start(bulks))

    play(five_dead, scene)
    assert len(pauses) == 2, "between the steps"
    again = (7, 1, None)
    log = "SELECT part_of_id, delivery_id, note FROM operator_action ORDER BY id"
    parts = [(1, number, None) for number in range(1, 6)]
    assert five_dead.rows(log) == [(None, None, "all"), *parts, (None, None, "all"), again]


def test_a_replay_that_is_stopped_leaves_the_rest(
    five_dead: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scene(bulks: Bulks) -> Bulk:
        bulk = start(bulks)

        def gap_s(_: float) -> float:
            bulk.is_stopped = True
            return 0

        monkeypatch.setattr(operating, "gap_s", gap_s)
        return await finished(bulk)

    bulk = play(five_dead, scene)
    assert (bulk.queued, bulk.mistake) == (2, None)
    assert five_dead.rows("SELECT count(*) FROM delivery WHERE state = 'dead'") == [(3,)]
