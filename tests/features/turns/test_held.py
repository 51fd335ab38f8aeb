"""What a feature holds is due once nobody holds it any more."""

from tests.support.queue import (
    add_many,
    claim,
    ids,
)
from tests.support.store import NOW_MS, Store


def test_what_a_feature_holds_that_is_not_installed_is_due(store: Store) -> None:
    add_many(store, 2, "a")
    for number, name in enumerate(("turns", "gone"), 1):
        store.by_hand(
            f"UPDATE delivery SET held_by = '{name}', due_at_ms = NULL WHERE id = {number}"
        )
    now_ms = NOW_MS - 60_000  # the clock was set back since they came
    assert store.wait(store.queue.let_go(now_ms)) == 1
    assert ids(claim(store, now_ms, a=9)) == [2]
