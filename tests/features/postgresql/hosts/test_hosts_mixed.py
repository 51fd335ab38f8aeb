"""Four hosts that do everything the store can do, at the same time and at random: every result is
right, and hosts do not stand in each other's way. `ROUNDS=1000` in the environment does more."""

import asyncio
import os
import random
from collections import Counter, defaultdict
from collections.abc import Coroutine
from typing import Any

import pytest

from premblyd.features.asking.settling import Answers, NewAnswer
from premblyd.features.turns.settings import Then
from premblyd.prembly.payload import Outcome, Webhook
from premblyd.queue.inbox import Added, NewDelivery
from premblyd.queue.jobs import Claimable, Claimed, Job, Room
from premblyd.record.operating import Change, Operator
from premblyd.store.states import State
from tests.features.asking.questions import await_results
from tests.support.jobs import ending
from tests.support.queue import FAILED, INTERRUPTED, LEASE_MS, SUCCEEDED
from tests.support.store import NOW_MS, Store, new_event

ROUNDS = int(os.environ.get("ROUNDS", "8"))
MAX_DEADLOCKS = 1 + ROUNDS // 100  # each costs a second: PostgreSQL looks for them only then
REFERENCES = [f"ref-{number}" for number in range(8)]
CLUSTER = 5
RUNNING = "SELECT action, count(*) FROM delivery WHERE state = 'running' GROUP BY action"
ACTIONS = {
    "plain": Claimable(slots=4, lease_ms=LEASE_MS, digest=""),
    "once": Claimable(slots=3, lease_ms=LEASE_MS, digest="", takes_turns=True),
    "bounded": Claimable(slots=3, lease_ms=LEASE_MS, digest="", cluster=CLUSTER),
    "ordered": Claimable(slots=9, lease_ms=LEASE_MS, digest=""),
}
THENS: dict[str, Then] = {"ordered": "continue"}
PENDING: dict[str, Any] = {"outcome": Outcome.PENDING, "response_code": "02"}
ASKED: dict[str, Any] = {"type": "prembly.status", "endpoint": "asked"}


class Hosts:
    """Four stores on one database, and what each must find there in the end."""

    def __init__(self, stores: list[Store], rng: random.Random) -> None:
        self.stores = stores
        self.rng = rng
        self.now_ms = NOW_MS
        self.body = 0
        self.jobs: dict[Store, list[Job]] = {store: [] for store in stores}
        self.added: list[Added] = []
        self.answered: dict[str, list[Added]] = defaultdict(list)
        self.actions: dict[int, str] = {}  # of deliveries that have run

    def round(self) -> None:
        """Let every host do much at once, each in another order; some of it is the same."""
        self.now_ms += 1000
        shared = [self.webhook() for _ in range(4)]
        asked = self.rng.sample(REFERENCES, 2)
        works: list[Coroutine[Any, Any, None]] = []
        for store in self.stores:
            webhooks = [*shared, *(self.webhook() for _ in range(3))]
            own = [self.add(store, webhook) for webhook in webhooks]
            own += [self.answer(store, reference) for reference in asked]
            own += [self.finish(store, job) for job in self.jobs[store]]
            own += [self.claim(store), self.operate(store)]
            self.rng.shuffle(own)
            works += own
            self.jobs[store] = []

        async def at_once() -> None:
            await asyncio.gather(*works)

        self.stores[0].wait(at_once())

    def webhook(self) -> Webhook:
        self.body += 1
        changes = PENDING if self.rng.random() < 0.5 else {}
        return new_event(
            b"%d" % self.body,
            received_at_ms=self.now_ms,
            reference=self.rng.choice([*REFERENCES, None]),
            **changes,
        )

    async def add(self, store: Store, webhook: Webhook) -> None:
        names = self.deliveries(webhook)
        self.added.append(await store.inbox.add(webhook, names))

    def deliveries(self, webhook: Webhook) -> list[NewDelivery]:
        number = int(webhook.body)
        return [NewDelivery(name, 3, THENS.get(name)) for name in ACTIONS] if number % 5 else []

    async def answer(self, store: Store, reference: str) -> None:
        webhook = new_event(
            b"answer to %s" % store.worker.encode(),
            token=None,
            received_at_ms=self.now_ms,
            reference=reference,
            **ASKED,
        )
        answer = NewAnswer(webhook=webhook, deliveries=[], asked=reference)
        self.answered[reference].append(await Answers(store.writer).add(answer, None))

    async def claim(self, store: Store) -> None:
        claimed: Claimed = await store.queue.claim(ACTIONS, Room(limit=8), self.now_ms)
        self.jobs[store] = claimed.jobs
        self.actions |= {job.delivery_id: job.action for job in claimed.jobs}

    async def finish(self, store: Store, job: Job) -> None:
        result = self.rng.choice([SUCCEEDED, FAILED, INTERRUPTED])
        retry_at_ms = None
        if result is SUCCEEDED:
            state = State.SUCCEEDED
        elif job.attempts_left or result is INTERRUPTED:
            state, retry_at_ms = State.PENDING, self.now_ms + self.rng.randint(1, 2000)
        else:
            state = State.DEAD
        more = 1 if result is INTERRUPTED else 0
        its_ending = ending(job, state, self.now_ms, due_at_ms=retry_at_ms, more_attempts=more)
        assert await store.queue.finish(job, result, its_ending)

    async def operate(self, store: Store) -> None:
        operator = Operator(actor=store.worker)
        some = self.rng.sample(sorted(self.actions), min(6, len(self.actions)))
        then = {number: THENS.get(self.actions[number]) for number in some}
        changes: list[Change[Any]] = [
            *operator.replay(dict.fromkeys(some, 3), self.now_ms, then),
            *operator.make_due_now(some, self.now_ms),
            *(operator.cancel(number, self.now_ms) for number in some[:1]),
        ]
        for added in self.rng.sample(self.added, min(1, len(self.added))):
            changes += operator.add([added.event_id], "plain", 3, self.now_ms)
        if changes:
            await store.writer.call(self.rng.choice(changes), alone=True)


@pytest.mark.postgresql
@pytest.mark.parametrize("place", ["postgresql"], indirect=True)  # else nobody writes meanwhile
def test_whatever_hosts_do_at_once_ends_as_on_one(store: Store) -> None:
    stores = [await_results(store.beside(name), 1) for name in "abcd"]
    try:
        hosts = Hosts(stores, random.Random(ROUNDS))
        for _ in range(ROUNDS):
            hosts.round()
            running = Counter(dict(store.rows(RUNNING)))
            assert running["bounded"] <= CLUSTER
            assert sum(running.values()) == sum(map(len, hosts.jobs.values()))
    finally:
        for each in stores:
            each.close()
    check(hosts, store)
    name = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
    assert store.rows(name)[0][0] <= MAX_DEADLOCKS


def check(hosts: Hosts, store: Store) -> None:
    """Compare what the database has with what the hosts were told."""
    is_new = Counter(each.key for each in hosts.added if each.is_new)
    assert set(is_new.values()) == {1}
    numbers = {(each.key, each.event_id) for each in hosts.added}
    assert len(numbers) == len(is_new)
    webhooks = "SELECT key, id, duplicate_count FROM event WHERE endpoint = 'prembly'"
    found = {(key, id_): count for key, id_, count in store.rows(webhooks)}
    assert found.keys() == numbers
    again = Counter((each.key, each.event_id) for each in hosts.added if not each.is_new)
    assert {place: count for place, count in found.items() if count} == again
    check_deliveries(store)
    check_counts(store)
    for reference, answers in hosts.answered.items():
        assert sum(each.is_new for each in answers) <= 1, reference
    results = "SELECT reference FROM event WHERE outcome = 'verified' AND reference IS NOT NULL"
    waiting = store.rows("SELECT reference FROM awaited WHERE state = 'waiting'")
    assert len(waiting) == len(set(waiting))
    assert not set(store.rows(results)).intersection(waiting)


def check_deliveries(store: Store) -> None:
    doubled = "SELECT event_id, action FROM delivery GROUP BY 1, 2 HAVING count(*) > 1"
    assert store.rows(doubled) == []
    none = """SELECT id FROM event WHERE endpoint = 'prembly' AND NOT EXISTS (
        SELECT 1 FROM delivery WHERE event_id = event.id)"""
    bodies = store.rows(f"SELECT body FROM event WHERE id IN ({none})")
    assert all(int(body) % 5 == 0 for (body,) in bodies)
    attempts = """SELECT delivery.id, attempt_count, count(attempt.id), max(number),
        sum(CASE WHEN attempt.id IS NOT NULL AND outcome IS NULL THEN 1 ELSE 0 END), state
        FROM delivery LEFT JOIN attempt ON attempt.delivery_id = delivery.id
        GROUP BY delivery.id, attempt_count, state"""
    for _, attempt_count, count, number, is_open, state in store.rows(attempts):
        assert attempt_count == count == (number or 0)
        assert is_open == (1 if state == "running" else 0)
    lines = """SELECT order_key FROM order_log JOIN delivery ON delivery.id = delivery_id
        WHERE due_at_ms IS NOT NULL GROUP BY order_key HAVING count(*) > 1"""
    assert store.rows(lines) == []
    stuck = """SELECT delivery_id FROM ordered WHERE waits_for_id IN (SELECT id FROM delivery
        WHERE state NOT IN ('pending', 'running'))"""
    assert store.rows(stuck) == []
    keys = """SELECT once_key FROM once_log WHERE action = 'once' AND once_key IS NOT NULL
        AND state IN ('running', 'succeeded') GROUP BY once_key HAVING count(*) > 1"""
    assert store.rows(keys) == []


def check_counts(store: Store) -> None:
    """The counts by the hour are exact, whichever hosts counted at once."""
    [counted] = store.rows("SELECT sum(events), sum(duplicates) FROM event_hour")
    [exact] = store.rows("SELECT count(*), sum(duplicate_count) FROM event")
    assert tuple(map(int, counted)) == tuple(map(int, exact))
    by = "SELECT action, outcome, sum(attempts) FROM attempt_hour GROUP BY 1, 2 ORDER BY 1, 2"
    ended = """SELECT action, outcome, count(*) FROM attempt
        JOIN delivery ON delivery.id = delivery_id WHERE outcome IS NOT NULL
        GROUP BY 1, 2 ORDER BY 1, 2"""
    assert [(*names, int(count)) for *names, count in store.rows(by)] == store.rows(ended)
