"""What one claim costs, which keeps the webhooks that come in waiting: no more of it, however much
waits, of however many actions, with whatever they say. And whoever waits is served."""

from collections import UserDict
from collections.abc import Collection, Iterator

from premblyd.queue.jobs import Claimable, Claimed, Room
from tests.support.cost import Cost
from tests.support.cost import cost as cost  # noqa: PLC0414 (a fixture)
from tests.support.queue import LEASE_MS
from tests.support.store import NOW_MS, Store

# With `order`, what follows one that was skipped is due in its place.


def claim(
    store: Store,
    actions: dict[str, Claimable],
    *,
    limit: int = 50,
    running: Collection[int] = (),
    now_ms: int = NOW_MS,
) -> Claimed:
    return store.wait(store.queue.claim(actions, Room(limit=limit, running=running), now_ms))


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
