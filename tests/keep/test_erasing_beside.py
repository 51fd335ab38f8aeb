"""Erasing beside daemons that store, claim and finish at the same moment: nothing is ever half."""

import asyncio
import itertools
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress

from premblyd.databases import DatabaseAddress
from premblyd.engines.connections import connect_operator
from premblyd.errors import NotFoundError, StoreUnavailableError, TryAgainError
from premblyd.keep import erasing
from premblyd.keep.erasing import Request
from premblyd.keep.persons import Named
from premblyd.queue.inbox import NewDelivery
from premblyd.verifications.digests import Digests
from tests.support.queue import SUCCEEDED, claim, finish
from tests.support.store import Store, new_event
from tests.support.waiting import wait_until

PERSONS = 6
HOSTS = 2
SOON_MS = 1 << 42
ROUNDS = 24
SAID = """SELECT attempt.id FROM event JOIN delivery ON delivery.event_id = event.id
    JOIN attempt ON attempt.delivery_id = delivery.id
    WHERE event.removed_parts = 'erased' AND attempt.output IS NOT NULL"""


def work(place: DatabaseAddress, host: int, stop: threading.Event) -> None:
    """Be a daemon that gets webhooks of all persons, and runs their hooks."""
    with asyncio.Runner() as runner:
        store = Store(place, runner.get_loop(), f"host-{host}:1:boot")
        for number in itertools.count():
            if stop.is_set():
                break
            person = number % PERSONS
            event = new_event(
                b"%d of %d" % (number, host),
                user_ref=f"user-{person}",
                reference=f"ref-{person}-{number // 40}",
                session_id=None,
            )
            with suppress(StoreUnavailableError):  # the machine is slow, and somebody erases
                store.wait(store.inbox.add(event, [NewDelivery("crm", 3, "wait")]))
                for job in claim(store, SOON_MS, crm=9).jobs:
                    finish(store, job, SUCCEEDED, now_ms=SOON_MS)
        store.close()


@contextmanager
def daemons(place: DatabaseAddress, hosts: int) -> Iterator[None]:
    stop = threading.Event()
    threads = [threading.Thread(target=work, args=(place, host, stop)) for host in range(hosts)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def erase(place: DatabaseAddress, person: int) -> int:
    """Erase, and again as long as somebody else's transaction is in the way."""
    with closing(connect_operator(place)) as database:
        for _ in range(20):
            try:
                done = erasing.erase(
                    database, Request(named=Named.user(f"user-{person}"), actor="dpo")
                )
            except TryAgainError:
                continue
            except NotFoundError:
                return 0
            return len(done.keys)
    raise AssertionError("it never got its turn")


def test_who_is_erased_beside_daemons_is_erased_wholly(store: Store) -> None:
    """Nothing is stored of a name once that is erased, not even by who had looked before; and no
    hook that ran meanwhile has said anything."""
    hosts = HOSTS if store.backend.is_shared else 1
    with daemons(store.place, hosts):
        wait_until(lambda: store.rows("SELECT count(*) FROM event")[0][0] > PERSONS)
        erased = sum(erase(store.place, number % PERSONS) for number in range(ROUNDS))
    digests = store.wait(store.writer.call(Digests.of))
    names = {name for (name,) in store.rows("SELECT name FROM erased_name")}
    whole = "SELECT id, reference FROM event WHERE reference IS NOT NULL"
    late = [row for row in store.rows(whole) if digests.of_reference(row[1]) in names]
    assert late == []
    assert store.rows(SAID) == []
    assert erased
