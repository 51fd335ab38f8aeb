"""Several hosts that store at the same moment what belongs together: it ends as on one host."""

import asyncio
from collections.abc import Awaitable
from contextlib import closing
from typing import Any

from premblyd.engines.connections import connect_operator
from premblyd.keep import erasing
from premblyd.keep.persons import Named
from premblyd.queue.inbox import Added, NewDelivery
from tests.support.store import Store, new_event

MANY = 12


def at_once(hosts: list[Store], *works: Awaitable[Any]) -> list[Any]:
    async def gathered() -> list[Any]:
        return await asyncio.gather(*works)

    return hosts[0].wait(gathered())


async def add(host: Store, body: bytes, **changes: Any) -> Added:
    webhook = new_event(body, **changes)
    return await host.inbox.add(webhook, [NewDelivery("crm", 3)], first_ask_ms=1)


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
