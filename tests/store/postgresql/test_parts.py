"""Each daemon counts in rows of its own, so that none waits for another's transaction."""

import pytest

from premblyd.engines.engine import Transaction
from premblyd.queue.inbox import NewDelivery, add_event
from tests.support.store import Store, new_event, transaction_open
from tests.support.waiting import until

pytestmark = pytest.mark.postgresql

WAITS_FOR_LOCK = """SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND wait_event_type = 'Lock'"""


def test_a_daemon_that_is_slow_to_commit_keeps_no_other_from_counting(store: Store) -> None:
    other = store.beside("a")

    def add(transaction: Transaction) -> None:
        add_event(transaction, new_event(b"slow"), [])

    with transaction_open(store, add):
        assert other.add(body=b"quick").is_new
    assert store.rows("SELECT events FROM event_hour") == [(1,), (1,)]
    other.close()


def test_a_webhook_that_another_host_stores_at_this_moment_is_its_duplicate(store: Store) -> None:
    other = store.beside("a")

    def add(transaction: Transaction) -> None:
        add_event(transaction, new_event(b"twice"), [NewDelivery("crm", 1)])

    with transaction_open(other, add):
        twice = store.inbox.add(new_event(b"twice"), [NewDelivery("crm", 1)])
        store.wait(until(lambda: store.rows(WAITS_FOR_LOCK) == [(1,)]))
    assert not store.wait(twice).is_new
    assert store.rows("SELECT duplicate_count FROM event") == [(1,)]
    assert store.rows("SELECT count(*) FROM delivery") == [(1,)]
    other.close()
