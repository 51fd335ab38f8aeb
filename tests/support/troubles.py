"""What needs an operator, as tests look at it."""

from typing import Any

import pytest

from premblyd.ground.times import HOUR_MS
from premblyd.record import troubles
from premblyd.record.told import Item, Situation
from premblyd.store.engine import Database
from tests.support.queue import SUCCEEDED, claim, finish
from tests.support.store import NOW_MS, Store

DAY_MS = 24 * HOUR_MS
OLD_MS = NOW_MS - 2 * DAY_MS


@pytest.fixture
def record(store: Store, database: Database) -> Database:
    """The record, with an old event: else every code would be new to it."""
    store.add("old", received_at_ms=OLD_MS)
    [job] = claim(store, OLD_MS, old=1).jobs
    finish(store, job, SUCCEEDED, now_ms=OLD_MS)
    return database


def found(record: Database, now_ms: int = NOW_MS, **more: Any) -> list[Item]:
    return troubles.items(Situation(record=record, now_ms=now_ms, **more))


def kinds(record: Database, now_ms: int = NOW_MS, **more: Any) -> list[str]:
    return [item.kind for item in found(record, now_ms, **more)]


def run_all(store: Store, result: Any, **slots: int) -> None:
    for job in claim(store, NOW_MS, 99, (), **slots).jobs:
        finish(store, job, result)
