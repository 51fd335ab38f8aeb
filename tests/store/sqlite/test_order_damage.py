"""Lines of `order` that somebody broke by hand: nothing waits for ever, and the others go on."""

import random

import pytest

from premblyd.queue import damage
from premblyd.record.operating import Operator
from tests.store.sqlite.test_damage import COLUMNS, VALUES, by_hand
from tests.support.queue import LATER_MS, SUCCEEDED, claim, finish, mend_order, recover
from tests.support.rows import large
from tests.support.store import NOW_MS, Store

LINE = "SELECT waits_for_id, due_at_ms FROM delivery WHERE id = ?"
# Of the deliveries 1 to 4 of one line. Which then run, one after the other.
BROKEN = {
    "DELETE FROM delivery WHERE id = 2": [1, 3, 4],
    "DELETE FROM delivery WHERE id = 1": [2, 3, 4],
    "DELETE FROM delivery WHERE id IN (2, 3)": [1, 4],
    "UPDATE delivery SET waits_for_id = 99 WHERE id = 3": [1, 2, 3, 4],
    "UPDATE delivery SET waits_for_id = 3 WHERE id = 3": [1, 2, 3, 4],
    "UPDATE delivery SET waits_for_id = 4 WHERE id = 2": [1, 2, 3, 4],
    "UPDATE delivery SET waits_for_id = -1 WHERE id > 1": [1, 2, 3, 4],
    "UPDATE delivery SET waits_for_id = 'x' WHERE id = 4": [1, 2, 3],
    "UPDATE delivery SET waits_for_id = 4, due_at_ms = NULL WHERE id = 1": [1, 2, 3, 4],
    "UPDATE delivery SET due_at_ms = NULL WHERE id = 1": [2, 3, 4],
    "UPDATE delivery SET order_place = 'x' WHERE id = 1": [2, 3, 4],
    "UPDATE delivery SET order_place = 9 WHERE id = 2": [1, 3, 4, 2],
    "UPDATE delivery SET order_key = 'other' WHERE id = 2": [1, 2, 3, 4],
    "UPDATE delivery SET state = 'succeeded', waits_for_id = NULL WHERE id = 2": [1, 3, 4],
    "UPDATE delivery SET state = 'odd' WHERE id = 2": [1, 3, 4],
}


def mend(store: Store, now_ms: int = NOW_MS) -> list[int]:
    store.wait(store.queue.end_broken(now_ms))
    mended = mend_order(store, None, now_ms)
    assert mended.after is None
    return mended.delivery_ids


def run(store: Store, now_ms: int = NOW_MS) -> list[int]:
    done = []
    while jobs := claim(store, now_ms, crm=9).jobs:
        for job in jobs:
            finish(store, job, SUCCEEDED, None, now_ms)
            done.append(job.delivery_id)
    return done


@pytest.mark.parametrize("change", BROKEN)
def test_what_was_broken_by_hand_is_put_right(store: Store, change: str) -> None:
    for number in range(4):
        store.add("crm", then="continue", body=b"%d" % number)
    by_hand(store.path, change)
    mend(store)
    ran = run(store)
    if mend(store):  # the first look put right what was before the others
        ran += run(store)
    in_order = BROKEN[change]
    assert sorted(ran) == sorted(in_order)
    if "order_key" not in change:
        assert ran == in_order
    assert mend(store) == []


@pytest.mark.parametrize(
    "change",
    ["order_key = x'ff'", "order_key = NULL", "order_place = 'x'", "order_place = 0",
     "holds_order = 'x'", "finished_at_ms = 7"],
)  # fmt: skip
def test_what_waits_and_can_not_be_true_ends_dead_while_the_daemon_works(
    store: Store, change: str
) -> None:
    """The database would refuse each write of it but its end."""
    for number in range(4):
        store.add("crm", then="continue", body=b"%d" % number)
    by_hand(store.path, f"UPDATE delivery SET {change} WHERE id = 3")
    for _ in range(2):  # the second look finds those that waited for it
        mend_order(store)
    assert run(store) == [1, 2, 4]
    (row,) = store.rows("SELECT state, last_error FROM delivery WHERE id = 3")
    assert row[0] == "dead"
    assert row[1].startswith(damage.ROW_CHANGED)


def test_a_whole_line_is_not_touched(store: Store) -> None:
    for number in range(4):
        store.add("crm", then="wait", body=b"%d" % number, reference="ab"[number % 2])
    before = store.rows("SELECT * FROM delivery")
    assert mend(store) == []
    assert store.rows("SELECT * FROM delivery") == before


def test_portions_reach_the_end_of_what_waits(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("premblyd.queue.order.PORTION", 2)
    for number in range(8):
        store.add("crm", then="continue", body=b"%d" % number)
    by_hand(store.path, "DELETE FROM delivery WHERE id IN (3, 7)")
    after, mended, looks = None, [], 0
    while looks == 0 or after is not None:
        ids, after = mend_order(store, after)
        mended += ids
        looks += 1
    assert (mended, looks) == ([4, 8], 3)
    assert [store.rows(LINE, number) for number in (4, 8)] == [[(2, None)], [(6, None)]]


@pytest.mark.parametrize("seed", [*range(8), *large(*range(8, 60))])
def test_whatever_is_changed_by_hand_those_behind_it_run(store: Store, seed: int) -> None:
    """Of two lines of four the first two each are changed. What was made to be due at the end of
    time waits until then, and so do those behind it: who writes that may have meant it."""
    choice = random.Random(seed).choice
    for number in range(8):
        reference = "ab"[number % 2]
        store.add("crm", then="continue", body=b"%d" % number, reference=reference)
    claim(store, crm=1)
    for _ in range(choice([1, 2, 5])):
        table = choice(["event", "delivery", "delivery", "attempt"])
        (column,) = choice(store.rows(COLUMNS, table))
        values = [value for value in VALUES if column != "due_at_ms" or "9" not in value]
        change = f"UPDATE {table} SET {column} = {choice(values)}"
        what = choice([change, change, f"DELETE FROM {table}"])
        by_hand(store.path, f"{what} WHERE id = {choice([1, 2, 3, 4])}")
    store.wait(store.queue.end_broken(LATER_MS))
    recover(store, LATER_MS)
    done: list[int] = []
    for _ in range(4):
        mend(store, LATER_MS)
        done += run(store, LATER_MS)
        for number in (1, 2, 3, 4):  # some were made to hold those behind them when they are dead
            change_it = Operator(actor="ada").cancel(number, LATER_MS)
            if store.rows("SELECT 1 FROM delivery WHERE id = ? AND state = 'dead'", number):
                store.wait(store.writer.call(change_it))
    assert {5, 6, 7, 8} <= set(done)
    behind = [number for number in done if number > 4]
    assert [number for number in behind if number % 2] == [5, 7]
    assert [number for number in behind if number % 2 == 0] == [6, 8]
