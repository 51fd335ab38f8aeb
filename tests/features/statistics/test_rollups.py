"""The counts by the hour: they are what a count of the rows would say."""

import sqlite3
from contextlib import closing
from itertools import pairwise

import pytest

from premblyd.features.statistics import hooks
from premblyd.features.statistics.hooks import hour_of, rolled_code
from premblyd.features.statistics.tables import BUCKET
from premblyd.ground.times import HOUR_MS
from tests.support.engines import place as place  # noqa: PLC0414 (a fixture)
from tests.support.queue import FAILED, INTERRUPTED, SUCCEEDED, add_many, claim, finish, recover
from tests.support.store import NOW_MS, Store

HOUR = hour_of(NOW_MS)
EVENTS = """SELECT hour_ms, response_code, outcome, events, duplicates, unmatched FROM event_hour
    ORDER BY hour_ms, response_code, outcome"""
ATTEMPTS = """SELECT hour_ms, action, outcome, bucket_ms, attempts FROM attempt_hour
    ORDER BY hour_ms, action, outcome, bucket_ms"""


def bucket_ms(took_ms: int) -> int:
    """Return the bucket in which the database counts an attempt that took so long."""
    with closing(sqlite3.connect(":memory:")) as connection:
        found: int = connection.execute(
            f"SELECT {BUCKET} FROM (SELECT ? AS took)", (took_ms,)
        ).fetchone()[0]
        return found


def test_webhooks_are_counted_by_hour_code_and_outcome(store: Store) -> None:
    store.add("crm", body=b"1")
    store.add("crm", body=b"2", received_at_ms=HOUR + HOUR_MS - 1)
    store.add(body=b"3", response_code="02", outcome="pending")
    store.add("crm", body=b"4", response_code=None, received_at_ms=HOUR + HOUR_MS)
    store.add("crm", body=b"1", received_at_ms=HOUR + HOUR_MS)
    assert store.rows(EVENTS) == [
        (HOUR, "00", "verified", 2, 0, 0),
        (HOUR, "02", "pending", 1, 0, 1),
        (HOUR + HOUR_MS, "", "verified", 1, 0, 0),
        (HOUR + HOUR_MS, "00", "verified", 0, 1, 0),
    ]


@pytest.mark.parametrize("code", ["22200000042", "AMINA", "0001", "x" * 5000, "0\0"])
def test_a_code_of_another_shape_is_counted_and_not_kept(store: Store, code: str) -> None:
    store.add("crm", response_code=code)
    assert store.rows(EVENTS) == [(HOUR, "other", "verified", 1, 0, 0)]


def test_attempts_are_counted_by_action_outcome_and_duration(store: Store) -> None:
    add_many(store, 4, "crm")
    jobs = claim(store, crm=9).jobs
    finish(store, jobs[0], SUCCEEDED, now_ms=NOW_MS + 5)
    finish(store, jobs[1], SUCCEEDED, now_ms=NOW_MS + 6)
    finish(store, jobs[2], FAILED, retry_at_ms=NOW_MS + 99, now_ms=NOW_MS + 100)
    finish(store, jobs[3], INTERRUPTED, retry_at_ms=NOW_MS, now_ms=NOW_MS + HOUR_MS)
    assert store.rows(ATTEMPTS) == [
        (HOUR, "crm", "failed", 128, 1),
        (HOUR, "crm", "succeeded", 6, 2),
        (HOUR + HOUR_MS, "crm", "interrupted", bucket_ms(HOUR_MS), 1),
    ]


def test_a_result_that_comes_too_late_is_not_counted(store: Store) -> None:
    store.add("crm")
    [job] = claim(store, crm=1).jobs
    assert finish(store, job, SUCCEEDED)
    assert not finish(store, job, FAILED)
    assert store.rows(ATTEMPTS) == [(HOUR, "crm", "succeeded", 1, 1)]


def test_an_attempt_that_a_crash_ended_is_counted_and_one_without_delivery_is_not(
    store: Store,
) -> None:
    add_many(store, 2, "crm")
    claim(store, crm=9)
    store.by_hand("DELETE FROM delivery WHERE id = 2")
    assert recover(store, NOW_MS + 50) == [1]
    end = "UPDATE attempt SET outcome = 'failed', finished_at_ms = 7 WHERE outcome IS NULL"
    store.by_hand(end)
    assert store.rows(ATTEMPTS) == [(HOUR, "crm", "interrupted", 64, 1)]


def test_a_bucket_is_the_least_that_holds_the_duration() -> None:
    bounds = sorted({*(1 << power for power in range(36)), *(3 << power for power in range(34))})
    for lower, upper in pairwise(bounds):
        assert [bucket_ms(lower), bucket_ms(lower + 1), bucket_ms(upper)] == [lower, upper, upper]
        assert hooks.lower_bound_ms(upper) == lower
    assert bucket_ms(0) == bucket_ms(-5) == 1


def test_a_time_belongs_to_the_hour_that_has_begun() -> None:
    assert [hour_of(at) for at in (HOUR, HOUR + 1, HOUR + HOUR_MS - 1)] == [HOUR] * 3
    assert rolled_code("") == rolled_code(None) == ""
