"""What one claim costs, which keeps the webhooks that come in waiting: no more of it, however much
waits, of however many actions, with whatever they say. And whoever waits is served."""

from collections import UserDict
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from premblyd.features.postgresql.transaction import PostgresqlTransaction
from premblyd.features.turns.once import lock_name, once_key
from premblyd.prembly.payload import Outcome
from premblyd.queue.inbox import NewDelivery
from premblyd.queue.jobs import Claimable, Claimed, Room
from premblyd.store.sqlite.transaction import SqliteTransaction
from tests.support.queue import LEASE_MS
from tests.support.store import NOW_MS, Store, new_event

# With `order`, what follows one that was skipped is due in its place.


@dataclass
class Cost:
    """What was done in transactions since the last look."""

    statements: int = 0
    rows: int = 0
    locks: set[str] = field(default_factory=set)

    def begin(self) -> None:
        self.statements = self.rows = 0
        self.locks.clear()


@pytest.fixture
def cost(monkeypatch: pytest.MonkeyPatch) -> Cost:
    cost = Cost()

    def counting(name: str, count: Callable[[Any, tuple[Any, ...]], None]) -> None:
        for transaction in (SqliteTransaction, PostgresqlTransaction):
            original = getattr(transaction, name)

            def counted(*args: Any, original: Callable[..., Any] = original, **values: Any) -> Any:
                result = original(*args, **values)
                count(result, args)
                return result

            monkeypatch.setattr(transaction, name, counted)

    def statement(*_: object) -> None:
        cost.statements += 1

    def rows(result: list[Any], _: object) -> None:
        cost.rows += len(result)

    def row(result: object, _: object) -> None:
        cost.rows += result is not None

    def lock(_: object, args: tuple[Any, ...]) -> None:
        cost.statements += 1
        cost.locks.add(args[1])

    for name in ("_execute", "inserting_many", "changing_many"):
        counting(name, statement)
    counting("rows", rows)
    counting("row", row)
    counting("try_lock", lock)
    return cost


def claim(
    store: Store,
    actions: dict[str, Claimable],
    *,
    limit: int = 50,
    running: Collection[int] = (),
    now_ms: int = NOW_MS,
) -> Claimed:
    return store.wait(store.queue.claim(actions, Room(limit=limit, running=running), now_ms))


def once(slots: int = 4) -> Claimable:
    return Claimable(slots=slots, lease_ms=LEASE_MS, digest="", takes_turns=True)


def add(store: Store, action: str, count: int, start: int = 0) -> None:
    """Store so many events, each of a reference of its own."""
    numbers = range(start, start + count)
    store.wait_all(
        store.inbox.add(
            new_event(b"%s %d" % (action.encode(), number), reference=f"r-{number}"),
            [NewDelivery(action, 3)],
        )
        for number in numbers
    )


def test_what_has_succeeded_of_one_action_and_much_that_waits_of_another_cost_a_claim_little(
    store: Store, cost: Cost
) -> None:
    add(store, "done", 300)
    store.by_hand("UPDATE delivery SET state = 'succeeded', due_at_ms = NULL, finished_at_ms = 1")
    store.by_hand(
        "INSERT INTO delivery (event_id, action, state, due_at_ms, attempts_left, created_at_ms)"
        " SELECT event_id, action, 'pending', due_at_ms, 3, created_at_ms"
        " FROM (SELECT event_id, action, created_at_ms AS due_at_ms, created_at_ms FROM delivery)"
        " AS earlier"
    )
    add(store, "more", 300, start=1000)
    actions = {"done": once(), "more": once()}
    running: list[int] = []
    claims = 0
    while True:
        cost.begin()
        free = actions | {"more": once(4 - len(running))}
        claimed = claim(store, free, running=running)
        running += [job.delivery_id for job in claimed.jobs]
        claims += 1
        assert (cost.statements < 900, cost.rows < 500, len(cost.locks) < 150) == (True,) * 3
        if not claimed.passed:
            break
    assert claims < 10
    states = dict(store.rows("SELECT state, count(*) FROM delivery GROUP BY state"))
    assert states == {"succeeded": 300, "skipped": 300, "running": 4, "pending": 296}


class Configuration(UserDict[str, Claimable]):
    """Actions of which nobody may look at all."""

    def __iter__(self) -> Iterator[str]:
        raise AssertionError("each action that there is was looked at")


def test_actions_that_have_nothing_to_do_cost_a_claim_nothing(store: Store) -> None:
    store.add("a1", "a2")
    actions = Configuration()
    for name in (f"a{number}" for number in range(2000)):
        actions[name] = Claimable(slots=4, lease_ms=LEASE_MS, digest="")
    load = Room(limit=9, hooks={"a2": 1, "gone": 1}, held_bytes={"a2": 1 << 20})
    assert len(store.wait(store.queue.claim(actions, load, NOW_MS)).jobs) == 2


def test_a_claim_asks_once_for_what_others_decide_about_and_leaves_it_for_a_moment(
    store: Store, cost: Cost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However much of it is due: what is left costs a claim as much as what is passed."""
    for number in range(3):
        store.wait_all(
            store.inbox.add(
                new_event(b"%d %d" % (number, again), reference=f"r-{number}"),
                [NewDelivery("crm", 3)],
            )
            for again in range(200)
        )
    asked: list[str] = []

    def refuse(_: object, name: str) -> bool:
        asked.append(name)
        return False

    for transaction in (SqliteTransaction, PostgresqlTransaction):
        monkeypatch.setattr(transaction, "try_lock", refuse)
    cost.begin()
    claimed = claim(store, {"crm": once()})
    assert (claimed.jobs, claimed.passed, claimed.next_due_ms) == ([], 0, NOW_MS + 20)
    assert len(asked) == len(set(asked)) <= 3
    assert (cost.statements < 150, cost.rows < 250) == (True, True)


def test_what_others_decide_about_for_long_hides_nothing_behind_it(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.wait_all(
        store.inbox.add(new_event(b"%d" % number, reference="held"), [NewDelivery("crm", 3)])
        for number in range(350)
    )
    store.add("crm", body=b"free", reference="free")
    held = lock_name("crm", once_key(store.digests, "held", Outcome.VERIFIED))
    for transaction in (SqliteTransaction, PostgresqlTransaction):
        monkeypatch.setattr(transaction, "try_lock", lambda _, name: name != held)
    got = [[job.delivery_id for job in claim(store, {"crm": once()}).jobs] for _ in range(4)]
    assert got == [[], [], [], [351]]
    monkeypatch.undo()
    again = [claim(store, {"crm": once()}, running=[351]) for _ in range(5)]
    assert [job.delivery_id for claimed in again for job in claimed.jobs] == [1]


def test_of_many_actions_a_claim_looks_at_some_and_says_that_there_are_more(
    store: Store, cost: Cost
) -> None:
    actions = {
        f"a{number}": Claimable(slots=1, lease_ms=LEASE_MS, digest="", cluster=1)
        for number in range(120)
    }
    for number, name in enumerate(actions):
        store.add(name, body=b"%d" % number)
        store.add(name, body=b"%d again" % number)
    jobs = []
    for _ in range(3):
        cost.begin()
        claimed = claim(store, actions, limit=200)
        assert len(cost.locks) < 60
        jobs += claimed.jobs
        assert claimed.has_more or len(jobs) == 120
    assert {job.action for job in jobs} == set(actions)
    # Now all of them are full, which takes three claims to see, and then a claim is enough.
    assert [claim(store, actions, limit=80).has_more for _ in range(3)] == [True, True, False]
