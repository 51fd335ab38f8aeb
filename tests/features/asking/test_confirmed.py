"""What a confirmed delivery's claim is worth after a crash."""

from premblyd.features.asking.confirm import write_down
from premblyd.features.asking.hooks import Confirmed
from premblyd.queue.jobs import Claimable, Room
from tests.support.engines import place as place  # noqa: PLC0414 (a fixture)
from tests.support.queue import (
    LEASE_MS,
    claim,
    everything,
    recover,
)
from tests.support.store import NOW_MS, Store


def test_what_was_confirmed_spends_an_attempt_by_each_crash(store: Store) -> None:
    """A hook that kills the daemon would run for ever."""
    store.add("crm", attempts=2)
    action = Claimable(slots=1, lease_ms=LEASE_MS, digest="", is_gated=True)
    for now_ms in range(NOW_MS, NOW_MS + 2):
        [job] = store.wait(store.queue.claim({"crm": action}, Room(limit=9), now_ms)).jobs
        if not job.vouched:
            assert store.wait(write_down(store.queue, job, Confirmed(facts={}), now_ms))
        recover(store, now_ms + 1)
    assert not store.wait(store.queue.claim({"crm": action}, Room(limit=9), NOW_MS + 3)).jobs
    assert store.rows("SELECT state, attempt_count FROM delivery") == [("dead", 2)]


def test_of_a_claim_that_a_failover_has_lost_nothing_is_confirmed(store: Store) -> None:
    store.add("crm")
    (lost,) = claim(store, crm=1).jobs
    store.by_hand("UPDATE attempt SET claim_token = 'of another event'")
    before = everything(store)
    assert not store.wait(write_down(store.queue, lost, Confirmed(facts={}), NOW_MS))
    assert everything(store) == before
