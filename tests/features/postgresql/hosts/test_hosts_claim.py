"""Several hosts that claim at the same time: who gets what, and how many run at once."""

import asyncio
from collections.abc import Awaitable, Sequence
from contextlib import AbstractContextManager, closing
from typing import Any

import pytest

from premblyd.features.asking.awaited import AwaitedQueue
from premblyd.features.keeping import erasing
from premblyd.features.keeping.persons import Named
from premblyd.features.turns.once import lock_name, once_key
from premblyd.prembly.payload import Outcome
from premblyd.queue.inbox import Added, NewDelivery
from premblyd.queue.jobs import Claimable, Claimed, Job, Room
from premblyd.store.connections import connect_operator
from premblyd.store.engine import Lookup
from premblyd.store.tables import Delivery, Event
from tests.features.asking.questions import await_results
from tests.support.queue import FAILED, LATER_MS, LEASE_MS, SUCCEEDED, add_many, claim, finish, ids
from tests.support.store import NOW_MS, Store, new_event, transaction_open

LIVES = """INSERT INTO host (worker, name, pid, version, started_at_ms, seen_at_ms)
    VALUES (?, ?, 1, '0', 0, 0)"""
ENDS = "UPDATE host SET ended_at_ms = 1, ended = 'lost' WHERE worker = ?"
DELIVERIES = Lookup(Delivery.select(Delivery.id), Delivery.id, locks=True)
EVENTS = Lookup(Event.select(Event.id), Event.id, locks=True)
RUNNING = "SELECT count(*) FROM delivery WHERE state = 'running'"


def live(*hosts: Store) -> None:
    for host in hosts:
        host.by_hand(LIVES, host.worker, host.worker)


def claim_at_once(
    hosts: Sequence[Store], now_ms: int = NOW_MS, *, slots: int = 9, **more: int | bool
) -> list[Claimed]:
    """Let all hosts claim for the action crm at the same moment."""
    action = Claimable(slots=slots, lease_ms=LEASE_MS, digest="", **more)  # type: ignore[arg-type]

    async def claims() -> list[Claimed]:
        futures = [host.queue.claim({"crm": action}, Room(limit=99), now_ms) for host in hosts]
        return await asyncio.gather(*futures)

    return hosts[0].wait(claims())


def test_a_spent_lease_is_left_to_a_host_that_lives_and_claimed_once_it_has_ended(
    hosts: list[Store],
) -> None:
    """It hides nothing behind it."""
    a, b, c = hosts
    live(a, b, c)
    add_many(a, 2, "crm")
    late, _ = claim(a, crm=2).jobs
    b.add("crm", body=b"later", received_at_ms=LATER_MS)
    got = claim(b, LATER_MS, crm=2)
    assert ids(got) == [3]
    finish(b, got.jobs[0], FAILED, LATER_MS + 50, LATER_MS)
    assert claim(b, LATER_MS, crm=2).next_due_ms == LATER_MS + 50
    b.by_hand(ENDS, "a")
    assert ids(claim(a, LATER_MS, crm=1)) == [], "it was taken for lost"
    taken = [job for each in claim_at_once([b, c], LATER_MS) for job in each.jobs]
    assert sorted((job.delivery_id, job.attempt) for job in taken) == [(1, 2), (2, 2)]
    assert not finish(a, late, SUCCEEDED)  # its late report changes nothing
    a.add("crm", body=b"new")
    b.by_hand("UPDATE host SET ended_at_ms = NULL, ended = NULL WHERE worker = 'a'")
    assert ids(claim(a, crm=1)) == [4], "it lives again"


@pytest.mark.parametrize(("slots", "cluster"), [(2, 4), (9, 4)])
def test_an_action_runs_as_often_as_it_may_on_all_hosts(
    hosts: list[Store], slots: int, cluster: int
) -> None:
    live(*hosts)
    add_many(hosts[0], 30, "crm")
    jobs: list[Job] = []
    for _ in range(20):
        for host in hosts:
            own = [job.delivery_id for job in jobs if job.worker == host.worker]
            action = Claimable(slots=slots - len(own), lease_ms=9, digest="", cluster=cluster)
            room = Room(limit=99, running=own)
            jobs += host.wait(host.queue.claim({"crm": action}, room, NOW_MS)).jobs
        assert len(jobs) == cluster
        ended = jobs.pop(0)
        assert finish(hosts[ord(ended.worker) - ord("a")], ended, SUCCEEDED)
    assert len(jobs) == cluster - 1
    assert hosts[0].rows("SELECT count(*) FROM delivery WHERE state = 'succeeded'") == [(20,)]


def test_a_host_that_finds_others_claiming_looks_again_soon(hosts: list[Store]) -> None:
    add_many(hosts[0], 9, "crm")
    got = claim_at_once(hosts, slots=1, cluster=9)
    assert all(each.jobs or each.next_due_ms == NOW_MS + 20 for each in got)


def test_a_host_that_died_leaves_its_places_to_the_others(hosts: list[Store]) -> None:
    a, b, _ = hosts
    live(a, b)
    add_many(a, 9, "crm")
    [mine] = claim_at_once([a], slots=4, cluster=4)
    assert ids(mine) == [1, 2, 3, 4]
    [none] = claim_at_once([b], LATER_MS, slots=4, cluster=4)
    assert (ids(none), none.next_due_ms) == ([], None)  # not at once again: there is no place
    b.by_hand(ENDS, "a")
    [taken] = claim_at_once([b], LATER_MS, slots=9, cluster=4)
    assert len(taken.jobs) == 4


def test_own_hooks_that_outlive_their_lease_still_hold_their_places(hosts: list[Store]) -> None:
    """They run, whatever the clock was set to."""
    a, *_ = hosts
    live(a)
    add_many(a, 9, "crm")
    [mine] = claim_at_once([a], slots=2, cluster=2)
    actions = {"crm": Claimable(slots=9, lease_ms=LEASE_MS, digest="", cluster=2)}

    def later(running: list[int]) -> list[int]:
        return ids(a.wait(a.queue.claim(actions, Room(limit=99, running=running), LATER_MS)))

    assert later(ids(mine)) == []
    assert later(ids(mine)[:1]) == [3], "one of them runs no more"


@pytest.mark.postgresql
@pytest.mark.parametrize("place", ["postgresql"], indirect=True)  # else nobody writes meanwhile
def test_what_another_host_decides_about_is_left_to_it_for_a_moment(hosts: list[Store]) -> None:
    a, b, _ = hosts
    for number in range(60):
        a.add("crm", body=b"%d" % number, reference="held")
    a.add("crm", body=b"other", reference="free")
    name = lock_name("crm", once_key(a.digests, "held", Outcome.VERIFIED))
    assert name != lock_name("crm", once_key(a.digests, "free", Outcome.VERIFIED))
    with locked(a, name):
        [got] = claim_at_once([b], takes_turns=True)
    assert (ids(got), got.passed, got.next_due_ms) == ([61], 0, NOW_MS + 20)
    with locked(a, "concurrency crm"):
        [none] = claim_at_once([b], takes_turns=True, cluster=9)
    assert (ids(none), none.next_due_ms) == ([], NOW_MS + 20)
    [got] = claim_at_once([b], takes_turns=True, cluster=9)
    assert (ids(got), got.passed) == ([1], 59)


# What another host removes at this moment, as `retention` says


@pytest.mark.postgresql
@pytest.mark.parametrize("place", ["postgresql"], indirect=True)  # see above
def test_a_claim_points_at_no_delivery_that_may_be_gone_in_a_moment(hosts: list[Store]) -> None:
    a, b, _ = hosts
    live(a, b)
    for body in (b"1", b"2"):
        a.add("crm", body=body)
    [job] = [job for each in claim_at_once([a], takes_turns=True) for job in each.jobs]
    assert finish(a, job, SUCCEEDED)
    with transaction_open(a, lambda transaction: transaction.look_up(DELIVERIES, [1])):
        [got] = claim_at_once([b], LATER_MS, takes_turns=True)
        assert (ids(got), got.passed) == ([], 0)
    [got] = claim_at_once([b], LATER_MS, takes_turns=True)
    assert (ids(got), got.passed) == ([], 1)
    assert b.rows("SELECT state, ran_instead_id FROM delivery WHERE id = 2") == [("skipped", 1)]


@pytest.mark.postgresql
@pytest.mark.parametrize("place", ["postgresql"], indirect=True)  # see above
def test_nothing_is_settled_by_an_event_that_may_be_gone_in_a_moment(hosts: list[Store]) -> None:
    a, b, _ = hosts
    pending = new_event(b"1", outcome=Outcome.PENDING, token=None)
    a.wait(await_results(a, 1).inbox.add(pending, []))
    a.wait(a.bind().inbox.add(new_event(b"2", token=None), []))
    with transaction_open(a, lambda transaction: transaction.look_up(EVENTS, [2])):
        due = b.wait(AwaitedQueue(b.writer).due(LATER_MS, 9, ()))
        assert (due.waiting, due.has_settled) == ([], False)
    assert b.wait(AwaitedQueue(b.writer).due(LATER_MS, 9, ())).has_settled


def locked(store: Store, name: str) -> AbstractContextManager[None]:
    """Have a name locked by a transaction of this store's."""
    return transaction_open(store, lambda transaction: transaction.lock([name]))


# Several hosts that store at the same moment what belongs together: it ends as on one host.

MANY = 12


def at_once(hosts: list[Store], *works: Awaitable[Any]) -> list[Any]:
    async def gathered() -> list[Any]:
        return await asyncio.gather(*works)

    return hosts[0].wait(gathered())


async def add(host: Store, body: bytes, **changes: Any) -> Added:
    webhook = new_event(body, **changes)
    return await await_results(host, 1).inbox.add(webhook, [NewDelivery("crm", 3)])


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
