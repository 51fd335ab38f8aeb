"""Bulk work of operators leaves the database alone between its transactions, for webhooks."""

from contextlib import closing
from types import SimpleNamespace

import pytest

from premblyd.record import operating
from premblyd.record.operating import Operator
from premblyd.store.connections import connect_operator
from tests.support.rows import for_each
from tests.support.store import Store

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
