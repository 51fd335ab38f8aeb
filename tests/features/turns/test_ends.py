"""What an erasure stops, and what `once` skips, others hear of too."""

from collections.abc import Sequence

from premblyd.features.keeping import personrows
from premblyd.queue.hooks import End
from premblyd.store.engine import Transaction
from premblyd.store.states import State
from tests.support.queue import SUCCEEDED, claim_once, finish
from tests.support.store import NOW_MS, Store

ENDED = "SELECT id, state FROM delivery WHERE finished_at_ms IS NOT NULL"


def test_features_hear_of_ends_by_features(store: Store) -> None:
    heard: dict[int, State] = {}

    def hear(_: Transaction, ends: Sequence[End]) -> None:
        heard.update((each.id, each.state) for each in ends)

    store.bind().writer.bound.ending += (hear,)
    for body in (b"erased", b"a", b"b"):
        store.add("crm", body=body, reference="ref-1" if body < b"c" else None)
    store.call(lambda transaction: personrows.stop(transaction, [1], NOW_MS))
    [first] = claim_once(store).jobs
    finish(store, first, SUCCEEDED)
    claim_once(store, NOW_MS + 60_000)
    assert sorted(heard.items()) == sorted(store.rows(ENDED))
    assert set(heard.values()) == {"cancelled", "succeeded", "skipped"}
