"""Downtimes of which nothing is missing any more."""

from premblyd.features.asking.reconciliation import reconciled
from premblyd.ground.times import HOUR_MS
from tests.support.beats import START, beaten, later
from tests.support.store import Store

DOWNTIMES = "SELECT from_ms, until_ms, reconciled_at_ms FROM downtime ORDER BY id"


def test_a_reconciliation_mends_the_downtimes_that_it_covers_whole(store: Store) -> None:
    for hours in (0, 2, 4):
        beaten(store, later(START, hours * HOUR_MS))
    first, second = [(row[0], row[1]) for row in store.rows(DOWNTIMES)]

    def mend(since_ms: int, until_ms: int, now_ms: int) -> int:
        values = {"since_ms": since_ms, "until_ms": until_ms, "now_ms": now_ms}
        return store.call(lambda transaction: reconciled(transaction, **values))

    assert mend(first[0] + 1, second[1] - 1, 7) == 0
    assert mend(first[0], second[1] - 1, 8) == 1
    assert mend(first[0], second[1], 9) == 1
    assert store.rows(DOWNTIMES) == [(*first, 8), (*second, 9)]
