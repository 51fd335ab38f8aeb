"""`order: reference` while several hosts add to a line and end what stands in it."""

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from premblyd.features.postgresql.settings import Server
from premblyd.features.turns import order
from premblyd.queue import inbox
from premblyd.queue.end import FINISH, Report
from premblyd.queue.inbox import NewDelivery
from premblyd.queue.jobs import Job
from premblyd.record.operating import Operator
from premblyd.store.engine import Transaction
from premblyd.store.states import State
from premblyd.store.writer import Step
from tests.support.jobs import ending
from tests.support.queue import SUCCEEDED, claim, ids
from tests.support.store import NOW_MS, Store, new_event

BLOCKED = """
    SELECT count(*) FROM pg_stat_activity
    WHERE wait_event_type = 'Lock' AND datname = current_database()
"""
LINE = """SELECT delivery.id, state, waits_for_id FROM delivery
    LEFT JOIN ordered ON ordered.delivery_id = delivery.id ORDER BY delivery.id"""


def add(store: Store, body: bytes, *actions: str) -> "asyncio.Future[Any]":
    deliveries = [NewDelivery(action, 3, "continue") for action in actions or ("crm",)]
    return store.inbox.add(new_event(body, reference="a"), deliveries)


class Held:
    """A transaction of a host that has made its change and does not commit before `end`."""

    def __init__(self, host: Store, change: Callable[[Transaction], Any]) -> None:
        self._reached, self._go = threading.Event(), threading.Event()
        self._host = host

        def work(transaction: Transaction) -> None:
            change(transaction)
            self._reached.set()
            assert self._go.wait()

        self._future = host.writer.call(work, Step.FINISHES)
        host.wait(asyncio.to_thread(self._reached.wait, 20))

    def end_when_blocked(self, future: "asyncio.Future[Any]") -> Any:
        """Commit once `future` waits for this transaction, or is done without; return what it
        brought."""
        self._host.wait(self._until_blocked(future))
        self._go.set()
        self._host.wait(self._future)
        return self._host.wait(future)

    async def _until_blocked(self, future: "asyncio.Future[Any]") -> None:
        await asyncio.sleep(0)  # its writer gets it
        if isinstance(self._host.place, Server):
            while not future.done() and self._host.rows(BLOCKED) == [(0,)]:
                await asyncio.sleep(0.005)


def success(job: Job) -> Callable[[Transaction], Any]:
    """Return what writes down that the hook has succeeded."""

    def change(transaction: Transaction) -> Any:
        assert job.group is not None
        transaction.lock(order.locks_to_end(job.group))
        report = Report(job, SUCCEEDED, ending(job, State.SUCCEEDED, NOW_MS))
        return FINISH.run(transaction, [report])

    return change


def test_one_that_comes_while_the_one_before_ends_does_not_wait_for_ever(
    store: Store, hosts: list[Store]
) -> None:
    store.wait(add(store, b"1"))
    [job] = claim(store, crm=9).jobs
    Held(hosts[0], success(job)).end_when_blocked(add(hosts[1], b"2"))
    assert store.rows(LINE) == [(1, "succeeded", None), (2, "pending", None)]
    assert ids(claim(store, crm=9)) == [2]


def test_one_that_ends_while_the_next_comes_makes_it_due(store: Store, hosts: list[Store]) -> None:
    store.wait(add(store, b"1"))
    [job] = claim(store, crm=9).jobs
    coming = Held(hosts[0], _arrive)
    result = coming.end_when_blocked(
        hosts[1].queue.finish(job, SUCCEEDED, ending(job, State.SUCCEEDED, NOW_MS))
    )
    assert result
    assert store.rows(LINE)[1] == (2, "pending", None)
    assert ids(claim(store, crm=9)) == [2]


def _arrive(transaction: Transaction) -> None:
    webhook = new_event(b"2", reference="a")
    deliveries = [NewDelivery("crm", 3, "continue")]
    transaction.lock(inbox.lock_names(transaction, webhook, deliveries))
    inbox.add_event(transaction, webhook, deliveries)


@pytest.mark.parametrize("first_to_end", [1, 2])
def test_when_two_beside_each_other_end_at_once_the_third_does_not_wait_for_ever(
    store: Store, hosts: list[Store], first_to_end: int
) -> None:
    for body in (b"1", b"2", b"3"):
        store.wait(add(store, body))
    [job] = claim(store, crm=9).jobs
    changes = [success(job), Operator(actor="ada").cancel(2, NOW_MS)]
    first = Held(hosts[0], changes.pop(first_to_end - 1))
    first.end_when_blocked(hosts[1].writer.call(changes.pop()))
    assert store.rows(LINE)[2] == (3, "pending", None)
    assert ids(claim(store, crm=9)) == [3]
