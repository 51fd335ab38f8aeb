"""Several hosts that store at the same moment what belongs together: it ends as on one host."""

import asyncio
from collections.abc import Awaitable
from contextlib import closing
from typing import Any

from premblyd.engines.connections import connect_operator
from premblyd.keep import erasing
from premblyd.keep.persons import Named
from premblyd.prembly.payload import Outcome
from premblyd.queue.inbox import Added, NewDelivery
from premblyd.queue.jobs import Claimable, Room
from premblyd.record.operating import Operator
from tests.support.queue import LEASE_MS, add_many
from tests.support.store import NOW_MS, Store, new_event

MANY = 12
PENDING: dict[str, Any] = {"outcome": Outcome.PENDING, "verification_status": "PENDING"}


def at_once(hosts: list[Store], *works: Awaitable[Any]) -> list[Any]:
    async def gathered() -> list[Any]:
        return await asyncio.gather(*works)

    return hosts[0].wait(gathered())


async def add(host: Store, body: bytes, **changes: Any) -> Added:
    webhook = new_event(body, **changes)
    return await host.inbox.add(webhook, [NewDelivery("crm", 3)], first_ask_ms=1)


def test_what_an_operator_changes_is_claimed_or_changed_and_never_both(hosts: list[Store]) -> None:
    add_many(hosts[0], 40, "crm")
    crm = {"crm": Claimable(slots=3, lease_ms=LEASE_MS, digest="")}
    operator = Operator(actor="ada")
    claimed: list[int] = []
    cancelled: list[int] = []
    for number in range(1, 41, 4):  # each claim gets the next ones, some of which are cancelled
        [*got, first, second] = at_once(
            hosts,
            *(host.queue.claim(crm, Room(limit=3), NOW_MS) for host in hosts),
            hosts[0].writer.call(operator.cancel(number, NOW_MS), alone=True),
            hosts[2].writer.call(operator.cancel(number + 1, NOW_MS), alone=True),
        )
        claimed += [job.delivery_id for each in got for job in each.jobs]
        cancelled += [number] * first + [number + 1] * second
    assert sorted(claimed + cancelled) == [*range(1, 41)]
    states = dict(hosts[0].rows("SELECT id, state FROM delivery"))
    assert {number for number, state in states.items() if state == "cancelled"} == {*cancelled}
    # A replay of all by every host at once queues each once.
    counts = at_once(
        hosts,
        *(
            host.writer.call(change, alone=True)
            for host in hosts
            for change in operator.replay(dict.fromkeys(range(1, 41), 3), NOW_MS)
        ),
    )
    assert sum(counts) == len(cancelled)


def test_an_action_is_added_to_an_event_once_whoever_asks(hosts: list[Store]) -> None:
    for number in range(MANY):
        hosts[0].add(body=b"%d" % number)
    numbers = range(1, MANY + 1)
    operator = Operator(actor="ada")
    counts = at_once(
        hosts,
        *(
            host.writer.call(change, alone=True)
            for host in hosts
            for change in operator.add(numbers, "crm", 3, NOW_MS)
        ),
    )
    assert sum(counts) == MANY
    assert hosts[0].rows("SELECT count(*) FROM delivery") == [(MANY,)]
    assert hosts[0].rows("SELECT sum(unmatched) FROM event_hour") == [(0,)]


def test_what_arrives_in_the_moment_of_an_erasure_is_erased_too(hosts: list[Store]) -> None:
    """Whether it is stored before the erasure or after: neither misses the other."""

    def erase(reference: str) -> None:
        named = Named.reference(reference)
        with closing(connect_operator(hosts[0].place)) as database:
            erasing.erase(database, erasing.Request(named=named, actor="ada"))

    for number in range(MANY):
        reference = f"ref-{number}"
        hosts[0].wait(add(hosts[0], b"first %d" % number, reference=reference, session_id=None))
        bodies = [b"%d %d" % (number, place) for place in range(3)]
        works = [
            add(host, body, reference=reference, session_id=None)
            for host, body in zip(hosts, bodies, strict=True)
        ]
        at_once(hosts, *works, asyncio.to_thread(erase, reference))
    whole = "SELECT id FROM event WHERE reference IS NOT NULL OR user_ref IS NOT NULL"
    assert hosts[0].rows(whole) == []
    assert hosts[0].rows("SELECT count(*) FROM event WHERE removed_parts = 'erased'") == [
        (4 * MANY,)
    ]
    running = "SELECT id FROM delivery WHERE state <> 'cancelled'"
    assert hosts[0].rows(running) == []
