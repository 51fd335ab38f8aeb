"""What came and how the actions fare, in numbers."""

import random
from bisect import bisect_left
from collections import Counter

import pytest

from premblyd.features.statistics import shown as statistics
from premblyd.features.statistics.hooks import hour_of
from premblyd.features.statistics.shown import ActionFigures
from premblyd.ground.times import HOUR_MS
from premblyd.store.engine import Database
from tests.support.queue import FAILED, INTERRUPTED, SUCCEEDED, add_many, claim, finish
from tests.support.rows import for_each
from tests.support.store import NOW_MS, Store, new_rejection

HOUR = hour_of(NOW_MS)
DAY_MS = 24 * HOUR_MS
BOUNDS = sorted({*(1 << power for power in range(36)), *(3 << power for power in range(34))})


def figures(database: Database, *names: str, now_ms: int = NOW_MS) -> dict[str, ActionFigures]:
    found = statistics.actions(database, since_ms=NOW_MS, now_ms=now_ms, names=names)
    return {each.action: each for each in found}


def test_events_are_counted_by_code_outcome_or_type(store: Store, database: Database) -> None:
    store.add("crm", body=b"1")
    store.add(body=b"2", response_code="02", outcome="pending")
    store.add("crm", body=b"3", response_code=None, received_at_ms=HOUR + HOUR_MS)
    store.add("crm", body=b"1")
    by_code = statistics.events(database, "response_code", NOW_MS)
    assert [(each.name, each.events) for each in by_code] == [(None, 1), ("00", 1), ("02", 1)]
    assert [(each.duplicates, each.unmatched) for each in by_code] == [(0, 0), (1, 0), (0, 1)]
    by_outcome = statistics.events(database, "outcome", NOW_MS + HOUR_MS)
    assert [(each.name, each.events) for each in by_outcome] == [("verified", 1)]
    [all_of_them] = statistics.events(database, "type", 0)
    assert all_of_them.events == 3


def test_rejections_are_counted_by_reason(store: Store, database: Database) -> None:
    for at_ms, reason in ((NOW_MS, "wrong signature"), (NOW_MS, "x"), (NOW_MS + HOUR_MS, "x")):
        store.wait(store.inbox.reject(new_rejection(reason, at_ms=at_ms)))
    assert statistics.rejections(database, NOW_MS) == {"x": 2, "wrong signature": 1}
    assert statistics.rejections(database, NOW_MS + HOUR_MS) == {"x": 1}


def test_an_action_has_its_attempts_and_what_waits(store: Store, database: Database) -> None:
    add_many(store, 7, "crm")
    jobs = claim(store, crm=5).jobs
    finish(store, jobs.pop(), INTERRUPTED, retry_at_ms=NOW_MS, now_ms=NOW_MS + 100)
    finish(store, jobs[0], SUCCEEDED, now_ms=NOW_MS + 100)
    finish(store, jobs[1], FAILED, now_ms=NOW_MS + 100)
    finish(store, jobs[2], FAILED, retry_at_ms=NOW_MS + 5000, now_ms=NOW_MS + 4000)
    store.by_hand("UPDATE delivery SET created_at_ms = created_at_ms - 7")
    crm = figures(database, now_ms=NOW_MS + 1)["crm"]
    assert crm.attempts == {"succeeded": 1, "failed": 2, "interrupted": 1}
    assert crm.success_rate == pytest.approx(1 / 3), "of those that ended by themselves"
    assert crm.attempt_count == 3, "of the same"
    assert (crm.waiting, crm.running, crm.dead, crm.overdue) == (4, 1, 1, 3)
    assert (crm.oldest_waiting_at_ms, crm.next_due_at_ms) == (NOW_MS - 7, NOW_MS)
    assert crm.median_ms == pytest.approx(100, rel=0.2)
    assert crm.p95_ms == pytest.approx(4000, rel=0.2)


def test_the_actions_that_are_asked_for_come_first_and_may_be_idle(
    store: Store, database: Database
) -> None:
    store.add("former", "crm")
    found = figures(database, "page", "crm")
    assert list(found) == ["page", "crm", "former"]
    idle = found["page"]
    assert (idle.success_rate, idle.median_ms, idle.oldest_waiting_at_ms) == (None, None, None)
    assert (idle.waiting, idle.attempts) == (0, {})


def test_attempts_of_earlier_hours_do_not_count(store: Store, database: Database) -> None:
    store.add("crm")
    [job] = claim(store, NOW_MS, crm=1).jobs
    finish(store, job, SUCCEEDED)
    found = statistics.actions(database, since_ms=NOW_MS + HOUR_MS, now_ms=NOW_MS, names=["crm"])
    assert [each.attempts for each in found] == [{}]


@for_each("share", [0.5, 0.95])
def test_a_quantile_is_right_within_a_fifth(share: float) -> None:
    rng = random.Random(17)
    for scale in range(9):
        took = sorted(max(1, round(rng.lognormvariate(scale, 1))) for _ in range(1000))
        buckets = Counter(BOUNDS[bisect_left(BOUNDS, each)] for each in took)
        found = statistics.quantile(buckets, share)
        assert found == pytest.approx(took[round(len(took) * share) - 1], rel=0.2, abs=1)
    assert statistics.quantile({}, share) is None
