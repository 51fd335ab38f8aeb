"""What the database refuses, whoever writes, and what it takes of a person."""

import hashlib
from typing import Any

import pytest

from premblyd.model import states
from premblyd.queue.inbox import Added
from premblyd.record.operating import Operator
from tests.support.queue import FAILED, SUCCEEDED, claim, finish, ids, recover
from tests.support.rows import for_each
from tests.support.store import NOW_MS, Store, new_event

OVER = "state = 'cancelled', due_at_ms = NULL, finished_at_ms = 7"
REFUSED = {
    "state = 'odd'": "none that premblyd knows",
    "state = 'running'": "open attempt",
    "state = 'succeeded'": "finished_at_ms is for",
    "state = 'succeeded', finished_at_ms = 7": "due_at_ms is for",
    "state = 'dead', due_at_ms = NULL": "finished_at_ms is for",
    "finished_at_ms = 7": "finished_at_ms is for",
    "due_at_ms = NULL": "due_at_ms is for",
    "waits_for_id = 1": "due_at_ms is for",
    "waits_for_id = 1, due_at_ms = NULL": "waits_for_id is for",
    f"{OVER}, waits_for_id = 1, order_key = 'k', order_place = 1": "waits_for_id is for",
    "order_key = 'k'": "contradict",
    "order_place = 1": "contradict",
    "order_key = 'k', order_place = 0": "contradict",
    "holds_order = (1 = 1)": "contradict",
    "attempt_count = -1": "attempts_left",
    "attempts_left = -1": "attempts_left",
    "attempts_left = 2147483648": "attempts_left",
}
REFUSED_OF_ATTEMPTS = {"outcome = 'failed'": "set together", "finished_at_ms = 7": "set together"}
ROWS = "SELECT * FROM delivery ORDER BY id"
# Of `install`, on SQLite and PostgreSQL. Has it changed? Then a new migration calls it, and this
# says the new digest.
INSTALLED = "963e4af3dc605fe6"


def change(text: str) -> Any:
    return lambda transaction: transaction.connection.execute(text)


@for_each("columns", REFUSED)
def test_a_delivery_whose_columns_contradict_its_state_is_not_written(
    store: Store, columns: str
) -> None:
    store.add("crm", "page")
    before = store.rows(ROWS)
    with pytest.raises(Exception, match=REFUSED[columns]):
        store.wait(store.writer.call(change(f"UPDATE delivery SET {columns} WHERE id = 2")))
    assert store.rows(ROWS) == before


@for_each("columns", REFUSED_OF_ATTEMPTS)
def test_an_attempt_that_has_ended_by_half_is_not_written(store: Store, columns: str) -> None:
    store.add("crm")
    claim(store, crm=1)
    with pytest.raises(Exception, match=REFUSED_OF_ATTEMPTS[columns]):
        store.wait(store.writer.call(change(f"UPDATE attempt SET {columns}")))
    assert store.rows("SELECT outcome, finished_at_ms FROM attempt") == [(None, None)]


@for_each(
    "values",
    ["'pending', NULL, 3, NULL", "'running', NULL, 3, NULL", "'succeeded', 7, 3, 7",
     "'dead', NULL, 3, NULL", "'pending', 7, -1, NULL", "'pending', 7, 3, 7"],
)  # fmt: skip
def test_no_such_delivery_is_inserted_either(store: Store, values: str) -> None:
    store.add()
    text = f"""INSERT INTO delivery (event_id, action, created_at_ms, state, due_at_ms,
        attempts_left, finished_at_ms) VALUES (1, 'crm', 7, {values})"""
    with pytest.raises(Exception, match=r"is for|attempts_left|check"):
        store.wait(store.writer.call(change(text)))
    assert store.rows(ROWS) == []


def test_what_is_refused_fails_alone_of_all_that_is_committed_with_it(store: Store) -> None:
    store.add("crm")
    adding = [store.inbox.add(new_event(b"%d" % number), []) for number in range(3)]
    refused = store.writer.call(change("UPDATE delivery SET due_at_ms = NULL"))
    claiming = claim(store, crm=1)
    assert all(isinstance(added, Added) for added in store.wait_all(adding))
    with pytest.raises(Exception, match="due_at_ms is for"):
        store.wait(refused)
    assert ids(claiming) == [1]
    assert store.writer.last_error is None


def test_a_person_may_still_cancel_replay_and_hurry_by_hand(store: Store) -> None:
    store.add("crm", "page")
    store.by_hand(f"UPDATE delivery SET {OVER} WHERE id = 1")
    store.by_hand("UPDATE delivery SET due_at_ms = 5 WHERE id = 2")
    again = "state = 'pending', due_at_ms = 1, attempts_left = 2, finished_at_ms = NULL"
    store.by_hand(f"UPDATE delivery SET {again} WHERE id = 1")
    assert ids(claim(store, crm=1, page=1)) == [1, 2]
    store.by_hand("DELETE FROM attempt")
    store.by_hand("DELETE FROM delivery WHERE id = 1")


def test_a_whole_life_is_taken(store: Store) -> None:
    for number in range(3):
        store.add("crm", then="wait", body=b"%d" % number)
    (job,) = claim(store, crm=9).jobs
    finish(store, job, FAILED)
    operator = Operator(actor="ada")
    for each in operator.replay({1: 5}, NOW_MS, {1: "wait"}):
        store.wait(store.writer.call(each, alone=True))
    store.wait(store.writer.call(operator.cancel(2, NOW_MS), alone=True))
    for _ in range(2):
        (job,) = claim(store, crm=9).jobs
        recover(store, NOW_MS)
        (job,) = claim(store, crm=9).jobs
        finish(store, job, SUCCEEDED)
    found = store.rows("SELECT state FROM delivery ORDER BY id")
    assert found == [("succeeded",), ("cancelled",), ("succeeded",)]


def test_a_change_of_what_is_refused_comes_with_a_migration() -> None:
    texts = [
        text
        for make in (states._sqlite, states._postgresql)
        for table, rules, names in states._TABLES
        for text in make(table, rules, names)
    ]
    assert hashlib.sha256("".join(texts).encode()).hexdigest()[:16] == INSTALLED
