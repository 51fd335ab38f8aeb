"""Whatever ends deliveries, features hear of it."""

from collections.abc import Sequence

from premblyd.queue.hooks import End
from premblyd.record.operating import Operator
from premblyd.store.engine import Transaction
from premblyd.store.states import State
from tests.support.queue import FAILED, SUCCEEDED, claim, finish, recover
from tests.support.store import NOW_MS, Store

ENDED = "SELECT id, state FROM delivery WHERE finished_at_ms IS NOT NULL"


def test_features_hear_of_every_end(store: Store) -> None:
    heard: dict[int, State] = {}

    def hear(_: Transaction, ends: Sequence[End]) -> None:
        heard.update((each.id, each.state) for each in ends)

    def compare(*states: str) -> None:
        assert sorted(heard.items()) == sorted(store.rows(ENDED))
        assert set(states) <= set(heard.values())

    store.bind().writer.bound.ending += (hear,)
    operator = Operator(actor="uid 0")
    for number in range(6):
        store.add("crm", attempts=1, body=b"%d" % number, reference=None, session_id=f"s-{number}")
    succeeds, fails, crashes = claim(store, crm=3).jobs
    finish(store, succeeds, SUCCEEDED)
    finish(store, fails, FAILED)
    recover(store)
    compare("succeeded", "dead")
    assert heard[crashes.delivery_id] == "dead"
    store.call(operator.cancel(4, NOW_MS))
    [dismiss] = operator.cancel_dead([fails.delivery_id], NOW_MS)
    store.call(dismiss)
    compare("cancelled")
    store.by_hand("UPDATE event SET kind = 'changed' WHERE id = 5")
    assert not claim(store, limit=1, crm=1).jobs
    assert claim(store, NOW_MS + 60_000, other=1).passed == 1, "the action is gone"
    compare()
