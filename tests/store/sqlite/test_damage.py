"""The queue on SQLite, which takes a text for a number, and in which anybody may write."""

import asyncio
import contextlib
import random
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from premblyd.engines.engine import Param, Statement
from premblyd.engines.sqlite import opening
from premblyd.engines.sqlite.transaction import compiled
from premblyd.model import states
from premblyd.queue import claims, damage, due, queue
from premblyd.queue.jobs import Claimable, Claimed, Load
from premblyd.record.operating import Operator
from tests.support.database import past_checks
from tests.support.queue import (
    ATTEMPTS,
    DELIVERIES,
    FAILED,
    LATER_MS,
    LEASE_MS,
    SUCCEEDED,
    add_many,
    claim,
    claim_once,
    finish,
    ids,
    recover,
)
from tests.support.rows import large
from tests.support.store import NOW_MS, Store, name_one

OF_TYPE = damage.ROW_CHANGED + "a column of it has not its type"
OF_RULES = [damage.ROW_CHANGED + rule.words for rule in states.DELIVERY_RULES]
UNUSABLE = [
    ("DELETE FROM event WHERE id = 1", damage.EVENT_GONE),
    ("UPDATE delivery SET event_id = 'x' WHERE id = 1", damage.EVENT_GONE),
    ("UPDATE event SET kind = 'fax' WHERE id = 1", damage.EVENT_CHANGED + "kind"),
    ("UPDATE event SET outcome = 'maybe' WHERE id = 1", damage.EVENT_CHANGED + "outcome"),
    ("UPDATE event SET body = 'text' WHERE id = 1", damage.EVENT_CHANGED + "body"),
    ("UPDATE event SET received_at_ms = 'x' WHERE id = 1", damage.EVENT_CHANGED + "received_at_ms"),
    ("UPDATE delivery SET attempt_count = 0 WHERE id = 1", damage.COUNTS_CHANGED),
    ("UPDATE delivery SET attempt_count = 'x' WHERE id = 1", OF_TYPE),
    ("UPDATE delivery SET attempts_left = 1.5 WHERE id = 1", OF_TYPE),
    ("UPDATE delivery SET attempts_left = 0 WHERE id = 1", damage.ROW_CHANGED + states.SPENT.words),
    ("UPDATE delivery SET attempts_left = -1 WHERE id = 1", OF_RULES[5]),
    (
        "UPDATE delivery SET state = 'odd' WHERE id = 1",
        damage.ROW_CHANGED + states.DELIVERY_RULES[0].words,
    ),
    (
        "UPDATE delivery SET finished_at_ms = 7 WHERE id = 1",
        damage.ROW_CHANGED + states.DELIVERY_RULES[1].words,
    ),
    ("UPDATE delivery SET waits_for_id = 2 WHERE id = 1", OF_RULES[2]),
    (
        "UPDATE delivery SET holds_order = 1 WHERE id = 1",
        damage.ROW_CHANGED + states.DELIVERY_RULES[4].words,
    ),
    ("UPDATE delivery SET action = x'63726d' WHERE id = 1", damage.ACTION_CHANGED),
    ("UPDATE delivery SET action = CAST(x'ff' AS TEXT) WHERE id = 1", damage.ACTION_CHANGED),
]
VALUES = (
    *("NULL", "0", "1", "-1", "1.5", "9e999", "-9e999", "9223372036854775806", "''", "'text'"),
    *("x''", "x'ff'", "CAST(x'ff' AS TEXT)", "CAST(x'630064' AS TEXT)", "'crm'", "'running'"),
)
# Not its id: above the highest that there can be, SQLite has no number for the next row.
COLUMNS = "SELECT name FROM pragma_table_info(?) WHERE name <> 'id'"


def by_hand(path: Path, *statements: str) -> None:
    """Change the database as sqlite3's shell can, which keeps no foreign keys."""
    with closing(sqlite3.connect(path, isolation_level=None)) as shell, past_checks(shell):
        for text in statements:
            with contextlib.suppress(sqlite3.IntegrityError):  # NOT NULL and UNIQUE stand
                shell.execute(text)


@pytest.mark.parametrize(("change", "reason"), UNUSABLE)
def test_a_delivery_that_was_made_unusable_ends_dead_and_the_others_go_on(
    store: Store, change: str, reason: str
) -> None:
    add_many(store, 2, "crm")
    finish(store, claim(store, limit=1, crm=1).jobs[0], FAILED, NOW_MS)
    by_hand(store.path, change)
    claimed = claim(store, NOW_MS + 1, crm=9)
    assert ids(claimed) == [2]
    row = "SELECT state, due_at_ms, finished_at_ms, last_error FROM delivery WHERE id = 1"
    assert store.rows(row) == [("dead", None, NOW_MS + 1, reason)]
    assert [row[4] for row in store.rows(ATTEMPTS)] == ["failed", None]
    assert finish(store, claimed.jobs[0], SUCCEEDED)


def test_what_no_claim_finds_ends_dead_at_the_next_start(store: Store) -> None:
    """What ran of it counts as interrupted."""
    add_many(store, 4, "crm")
    by_hand(store.path, "UPDATE delivery SET due_at_ms = 'tomorrow' WHERE id = 1")
    by_hand(store.path, "UPDATE delivery SET due_at_ms = NULL WHERE id = 2")
    finish(store, claim(store, crm=9).jobs[0], SUCCEEDED)
    by_hand(store.path, "UPDATE delivery SET due_at_ms = NULL WHERE id = 4")
    assert claim(store, crm=9) == Claimed([], None)
    store.wait(store.queue.end_broken(NOW_MS))
    assert store.rows(DELIVERIES)[:2] + store.rows(DELIVERIES)[3:] == [
        (1, "dead", None, 0, 0, NOW_MS, OF_TYPE),
        (2, "dead", None, 0, 0, NOW_MS, OF_RULES[2]),
        (4, "dead", None, 1, 0, NOW_MS, OF_RULES[2]),
    ]
    assert [row[3:5] for row in store.rows(ATTEMPTS)][1:] == [(NOW_MS, "interrupted")]


def test_an_unusable_delivery_that_was_mended_can_be_replayed(store: Store) -> None:
    store.add("crm")
    for _ in range(2):
        finish(store, claim(store, crm=9).jobs[0], FAILED, NOW_MS)
    by_hand(store.path, "UPDATE delivery SET attempt_count = 0")
    assert ids(claim(store, crm=9)) == []
    with closing(opening.connect_operator(store.path)) as writing:
        (replay,) = Operator(actor="ada").replay({1: 5}, NOW_MS)
        assert writing.transact(replay) == 1
    assert [job.attempt for job in claim(store, crm=9).jobs] == [3]


def test_what_ran_when_its_event_was_deleted_is_dead_after_the_next_start(store: Store) -> None:
    add_many(store, 2, "crm")
    claim(store, crm=9)
    by_hand(store.path, "DELETE FROM event WHERE id = 1")
    assert recover(store, NOW_MS) == [1, 2]
    assert ids(claim(store, crm=9)) == [2]
    assert store.rows(DELIVERIES)[0][1::5] == ("dead", damage.EVENT_GONE)


@pytest.mark.parametrize("seed", [*range(10), *large(*range(10, 60))])
def test_whatever_is_changed_by_hand_a_claim_goes_on_with_the_others(
    store: Store, seed: int
) -> None:
    choice = random.Random(seed).choice
    add_many(store, 8, "crm")
    for job in claim(store, crm=4).jobs[:2]:
        finish(store, job, FAILED, NOW_MS)
    for _ in range(choice([1, 2, 5])):  # of the first four: two wait again, two run
        table = choice(["event", "delivery", "attempt"])
        (column,) = choice(store.rows(COLUMNS, table))
        change = f"UPDATE {table} SET {column} = {choice(VALUES)}"
        what = choice([change, change, f"DELETE FROM {table}"])
        by_hand(store.path, f"{what} WHERE id = {choice([1, 2, 3, 4])}")
    jobs = claim(store, LATER_MS, crm=9).jobs
    store.wait(store.queue.shift(1000, LATER_MS))
    store.wait(store.queue.end_broken(LATER_MS))
    recover(store, LATER_MS)
    for _ in range(2):
        jobs += claim(store, LATER_MS, crm=9).jobs
    assert {5, 6, 7, 8} <= {job.delivery_id for job in jobs}
    for job in jobs:
        finish(store, job, SUCCEEDED)
    assert store.rows("SELECT DISTINCT state FROM delivery WHERE id > 4") == [("succeeded",)]


def test_processes_that_claim_side_by_side_share_the_work(path: Path) -> None:
    with asyncio.Runner() as runner:
        stores = [Store(path, runner.get_loop()) for _ in range(3)]
        add_many(stores[0], 60, "crm")
        actions = {"crm": Claimable(slots=2, lease_ms=LEASE_MS, digest="")}
        claims = [
            store.queue.claim(actions, Load(limit=2), NOW_MS) for _ in range(10) for store in stores
        ]
        claimed = stores[0].wait(asyncio.gather(*claims))
        for store in stores:
            store.close()
    assert sorted(number for one in claimed for number in ids(one)) == [*range(1, 61)]


def test_every_statement_finds_its_rows_by_an_index(path: Path) -> None:
    """With bound values, as they run: for those a partial index may not be usable."""
    with closing(sqlite3.connect(path)) as connection:
        named = [each for module in (claims, damage, due, queue) for each in vars(module).items()]
        for name, statement in named:
            if not isinstance(statement, Statement):
                continue
            sql = compiled(statement)
            values = [1 if isinstance(part, Param) else part for part in sql.parts]
            plan = connection.execute(f"EXPLAIN QUERY PLAN {sql.text}", values).fetchall()
            steps = [step for *_, step in plan if "waiting" not in step]  # the CTE's own name
            reads = [step for step in steps if step.startswith(("SCAN", "SEARCH", "USE TEMP"))]
            if name in ("DUE", "FIRST_DUE"):  # and then whose hook runs, of few rows
                assert "INDEX delivery_queue" in reads[0], (name, reads)
            if name in ("WAITING_ACTIONS", "_SHIFT"):
                of_queue = [
                    step for step in reads if "_host_" not in step and "_pause_" not in step
                ]
                assert all("INDEX delivery_queue" in step for step in of_queue), (name, reads)
            # These are for every delivery in the queue, and for every host.
            if name not in ("_SHIFT", "QUEUED_ACTIONS", "OTHER_HOSTS", "_ALL_BROKEN"):
                assert all(step.startswith("SEARCH") for step in reads), (name, reads)


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE event SET reference = x'ff00' WHERE id = 2",
        "UPDATE event SET outcome = 'odd' WHERE id = 2",
        "UPDATE delivery SET attempts_left = 'x' WHERE id = 2",
        "DELETE FROM event WHERE id = 2",
    ],
)
@pytest.mark.parametrize("names", [[], ["ref-1", "ses-000001"]])
def test_a_damaged_row_stops_no_claim_with_once(
    store: Store, change: str, names: list[str]
) -> None:
    for number in range(3):
        store.add("crm", body=b"%d" % number, reference=f"ref-{number}")
    store.wait(store.writer.call(lambda transaction: name_one(transaction, names, NOW_MS)))
    by_hand(store.path, change)
    assert ids(claim_once(store)) == [1, 3]
    assert store.rows("SELECT state FROM delivery WHERE id = 2") == [("dead",)]
