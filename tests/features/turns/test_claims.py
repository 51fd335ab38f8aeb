"""What a claim costs where actions take turns: no more of it, however much waits."""

from collections.abc import Collection

import pytest

from premblyd.features.turns.once import lock_name, once_key
from premblyd.prembly.payload import Outcome
from premblyd.queue.inbox import NewDelivery
from premblyd.queue.jobs import Claimable, Claimed, Room
from tests.support.cost import Cost
from tests.support.cost import cost as cost  # noqa: PLC0414 (a fixture)
from tests.support.queue import LEASE_MS
from tests.support.store import NOW_MS, Store, new_event


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

    monkeypatch.setattr(store.call(type), "try_lock", refuse)
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
    monkeypatch.setattr(store.call(type), "try_lock", lambda _, name: name != held)
    got = [[job.delivery_id for job in claim(store, {"crm": once()}).jobs] for _ in range(4)]
    assert got == [[], [], [], [351]]
    monkeypatch.undo()
    again = [claim(store, {"crm": once()}, running=[351]) for _ in range(5)]
    assert [job.delivery_id for claimed in again for job in claimed.jobs] == [1]


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
