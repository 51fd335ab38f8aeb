"""Gaps between the transactions of bulk work, in which webhooks are stored.

Nobody can store anything while another transaction writes to SQLite. Who finds it busy looks again
after 1 ms, 2, 5, …, and at last every 100 ms: so a gap that is shorter may pass unseen, and after
two seconds the webhook is refused.
"""

import time
from collections.abc import Iterable, Iterator

from peewee import Database

from premblyd.engines.connections import transact
from premblyd.record.operating import Change, Done

MIN_GAP_S = 0.15
MAX_GAP_S = 2.0
GAP_RATIO = 4  # of a gap to the transaction before it: webhooks have the greater part of the time


def gap_s(took_s: float) -> float:
    """Return how long to leave the database alone after a transaction that took so long."""
    return min(max(MIN_GAP_S, GAP_RATIO * took_s), MAX_GAP_S)


def transact_all(database: Database, changes: Iterable[Change[Done]]) -> Iterator[Done]:
    """Make each change in a transaction of its own, beside a daemon, and yield what it returns.
    Raise StoreUnavailableError when one of them can't be kept."""
    wait_s = 0.0
    for change in changes:
        time.sleep(wait_s)
        began = time.monotonic()
        yield transact(database, change)
        wait_s = gap_s(time.monotonic() - began)
