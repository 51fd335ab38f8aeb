"""`once: reference`: of all events of one reference and outcome, an action's hook succeeds once."""

import itertools
from collections.abc import Callable
from typing import Any

import pytest

from premblyd.engines.postgresql.transaction import PostgresqlTransaction
from premblyd.engines.sqlite.transaction import SqliteTransaction
from premblyd.prembly.payload import Outcome
from premblyd.queue.once import MAX_HOLD_MS, MIN_HOLD_MS
from premblyd.queue.oncekeys import once_key
from premblyd.record.operating import Operator
from tests.support.queue import (
    FAILED,
    LATER_MS,
    SUCCEEDED,
    add_many,
    claim,
    claim_once,
    finish,
    ids,
)
from tests.support.store import NOW_MS, Store

STATES = "SELECT state, ran_instead_id FROM delivery ORDER BY id"
KEYS = "SELECT id, once_key FROM delivery WHERE once_key IS NOT NULL ORDER BY id"
SOON_MS = NOW_MS + MIN_HOLD_MS


def add(store: Store, body: bytes, *actions: str, **changes: Any) -> None:
    store.add(*(actions or ("crm",)), body=body, **changes)


def test_the_second_is_skipped_with_a_pointer_and_has_no_attempt(store: Store) -> None:
    add(store, b"1")
    [job] = claim_once(store).jobs
    assert finish(store, job, SUCCEEDED)
    add(store, b"2", type="prembly.status", token=None, endpoint="other")
    claimed = claim_once(store, NOW_MS + 7)
    assert (claimed.jobs, claimed.passed, claimed.next_due_ms) == ([], 1, None)
    columns = "state, due_at_ms, finished_at_ms, attempt_count, last_error, ran_instead_id"
    [row] = store.rows(f"SELECT {columns} FROM delivery WHERE id = 2")
    assert row == ("skipped", None, NOW_MS + 7, 0, None, 1)
    assert store.rows("SELECT delivery_id FROM attempt") == [(1,)]


def test_another_reference_outcome_or_action_runs(store: Store) -> None:
    others: list[dict[str, Any]] = [{}, {"reference": "ref-2"}, {"outcome": Outcome.PENDING}]
    for number, changes in enumerate(others):
        add(store, b"%d" % number, **changes)
    add(store, b"9", "other")
    claimed = claim_once(store)
    assert ids(claimed) == [1, 2, 3, 4]
    keys = [job.once_key for job in claimed.jobs]
    assert len(set(keys)) == 3
    assert keys[3] == keys[0] == once_key(store.digests, "ref-1", Outcome.VERIFIED)


def test_of_events_about_no_verification_each_type_runs_once(store: Store) -> None:
    """A transaction is processed, and later escalated: neither has an outcome."""
    types = ["transaction.processed", "transaction.escalated", "transaction.processed"]
    for number, type_ in enumerate(types):
        add(store, b"%d" % number, reference="tx-1", outcome=Outcome.UNKNOWN, type=type_)
    claimed = claim_once(store)
    assert (ids(claimed), claimed.passed) == ([1, 2], 1)
    assert len({job.once_key for job in claimed.jobs}) == 2


def test_of_a_verification_without_an_outcome_the_type_does_not_count(store: Store) -> None:
    """Whoever has the key can invent types of verifications, and Prembly would confirm each."""
    types = ["verification.direct", "sdk.session", "prembly.status", "unknown", "verification.x"]
    for number, type_ in enumerate(types):
        add(store, b"%d" % number, outcome=Outcome.UNKNOWN, type=type_)
    assert ids(claim_once(store)) == [1]


def test_before_once_too_each_type_counts_for_itself(store: Store) -> None:
    for number, type_ in enumerate(["transaction.processed", "transaction.escalated"]):
        add(store, b"%d" % number, reference="tx-1", outcome=Outcome.UNKNOWN, type=type_)
        for job in claim(store, crm=9).jobs if number == 0 else []:
            finish(store, job, SUCCEEDED)
    add(store, b"9", reference="tx-1", outcome=Outcome.UNKNOWN, type="transaction.processed")
    assert ids(claim_once(store)) == [2]
    assert store.rows("SELECT ran_instead_id FROM delivery WHERE id = 3") == [(1,)]


@pytest.mark.parametrize("nothing", [None, ""])
def test_without_a_reference_each_event_runs(store: Store, nothing: str | None) -> None:
    for number in range(3):
        add(store, b"%d" % number, reference=nothing)
    claimed = claim_once(store)
    assert [(job.delivery_id, job.once_key) for job in claimed.jobs] == [
        (number, None) for number in (1, 2, 3)
    ]
    assert store.rows(KEYS) == []


def test_while_one_runs_the_others_wait_and_the_queue_goes_on(store: Store) -> None:
    for number in range(3):
        add(store, b"%d" % number)
    add(store, b"other", reference="ref-2")
    claimed = claim_once(store, slots=2)
    assert (ids(claimed), claimed.passed) == ([1, 4], 2)
    assert (
        store.rows("SELECT state, due_at_ms, ran_instead_id FROM delivery WHERE id IN (2, 3)")
        == [("pending", SOON_MS, None)] * 2
    )
    assert claim_once(store, running=[1, 4]).next_due_ms == SOON_MS


def test_one_that_waits_looks_again_after_as_long_as_the_other_runs_already(store: Store) -> None:
    add(store, b"1")
    add(store, b"2")
    claim_once(store)
    looks = []
    now_ms = SOON_MS
    while now_ms < NOW_MS + 600_000:
        looks.append(now_ms - NOW_MS)
        assert ids(claim_once(store, now_ms, running=[1])) == []
        [(now_ms,)] = store.rows("SELECT due_at_ms FROM delivery WHERE id = 2")
    assert looks[:4] == [500, 1000, 2000, 4000]
    assert len(looks) < 20
    assert max(after - before for before, after in itertools.pairwise(looks)) == MAX_HOLD_MS


def test_one_whose_last_attempt_was_interrupted_is_dead_though_another_succeeded(
    store: Store,
) -> None:
    """Nobody knows what its hook has done: it is none that did not run."""
    for body in (b"1", b"2"):
        add(store, body, attempts=1)
    _, done = claim(store, crm=9).jobs  # before the action had `once`
    finish(store, done, SUCCEEDED)
    claim_once(store, LATER_MS)
    assert store.rows(STATES) == [("dead", None), ("succeeded", None)]


def test_one_that_succeeded_before_the_action_had_once_counts(store: Store) -> None:
    add(store, b"1")
    [job] = claim(store, crm=9).jobs
    finish(store, job, SUCCEEDED)
    add(store, b"2")
    add(store, b"3")
    assert ids(claim_once(store)) == []
    assert store.rows(STATES) == [("succeeded", None), ("skipped", 1), ("skipped", 1)]
    assert store.rows(KEYS) == [(1, once_key(store.digests, "ref-1", Outcome.VERIFIED))]


@pytest.mark.parametrize("succeeds", [0, 1])
def test_one_that_has_succeeded_counts_before_one_that_runs(store: Store, succeeds: int) -> None:
    """Both began before the action had `once`, so neither has the key."""
    add(store, b"1")
    add(store, b"2")
    jobs = claim(store, crm=9).jobs
    finish(store, jobs[succeeds], SUCCEEDED)
    add(store, b"3")
    running = [jobs[1 - succeeds].delivery_id]
    assert ids(claim_once(store, running=running)) == []
    assert store.rows(STATES)[2] == ("skipped", jobs[succeeds].delivery_id)


def test_one_that_runs_since_before_the_action_had_once_counts(store: Store) -> None:
    add(store, b"1")
    claim(store, crm=9)
    add(store, b"2")
    assert (ids(claimed := claim_once(store, running=[1])), claimed.passed) == ([], 1)


def test_one_that_succeeded_while_the_action_had_no_once_counts_beside_a_dead_one(
    store: Store,
) -> None:
    add(store, b"1")
    [job] = claim_once(store).jobs
    finish(store, job, FAILED)
    add(store, b"2")
    [job] = claim(store, crm=9).jobs
    finish(store, job, SUCCEEDED)
    add(store, b"3")
    assert ids(claim_once(store)) == []
    assert store.rows(STATES) == [("dead", None), ("succeeded", None), ("skipped", 2)]


def replay(store: Store, *numbers: int) -> None:
    for change in Operator(actor="ada").replay(dict.fromkeys(numbers, 3), NOW_MS):
        store.call(change)


def test_a_lost_lease_is_no_second_run(store: Store) -> None:
    """Whose lease is over may run on: only the delivery with the key is claimed again."""
    add(store, b"1")
    add(store, b"2")
    [first] = claim_once(store).jobs
    [again] = claim_once(store, LATER_MS).jobs
    assert (again.delivery_id, again.attempt) == (1, 2)
    assert not finish(store, first, SUCCEEDED)
    assert finish(store, again, SUCCEEDED, None, LATER_MS)
    assert ids(claim_once(store, LATER_MS + MAX_HOLD_MS)) == []
    assert store.rows(STATES) == [("succeeded", None), ("skipped", 1)]


def test_what_ran_beside_the_one_that_succeeded_is_skipped_when_its_process_died(
    store: Store,
) -> None:
    """Both began before the action had `once`."""
    add(store, b"1")
    add(store, b"2")
    first, _ = claim(store, crm=9).jobs
    finish(store, first, SUCCEEDED)
    assert ids(claim_once(store, LATER_MS)) == []
    assert store.rows(STATES) == [("succeeded", None), ("skipped", 1)]
    outcomes = store.rows("SELECT outcome FROM attempt ORDER BY id")
    assert outcomes == [("succeeded",), ("interrupted",)]


def test_keys_changed_by_hand_stop_no_claim(store: Store) -> None:
    add(store, b"1")
    [job] = claim_once(store).jobs
    finish(store, job, FAILED)
    key = once_key(store.digests, "ref-2", Outcome.VERIFIED)
    store.by_hand("UPDATE delivery SET once_key = ?", key)
    add(store, b"2", reference="ref-2")
    assert ids(claim_once(store)) == [2]
    assert store.rows(KEYS) == [(2, key)]


@pytest.fixture
def statements(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Every statement that an engine runs."""
    run: list[object] = []

    def counted(execute: Callable[..., Any]) -> Callable[..., Any]:
        def count(own: object, statement: object, values: object) -> Any:
            run.append(statement)
            return execute(own, statement, values)

        return count

    for transaction in (SqliteTransaction, PostgresqlTransaction):
        monkeypatch.setattr(transaction, "_execute", counted(transaction._execute))
    return run


def test_a_thousand_of_one_reference_are_out_of_the_way_in_few_short_claims(
    store: Store, statements: list[object]
) -> None:
    """A claim keeps the webhooks that come in waiting."""
    count = 1000
    add_many(store, count, "crm")
    add(store, b"another", reference="ref-2", received_at_ms=NOW_MS + 1)
    jobs: list[Any] = []
    longest, claims = 0, 0
    now_ms = NOW_MS + 1
    while True:
        statements.clear()
        claimed = claim_once(
            store, now_ms, slots=2 - len(jobs), running=[job.delivery_id for job in jobs]
        )
        longest = max(longest, len(statements))
        claims += 1
        jobs += claimed.jobs
        if claimed.next_due_ms is None or claimed.next_due_ms > now_ms or not claimed.passed:
            break
    assert [job.delivery_id for job in jobs] == [1, count + 1]
    assert claims <= count / 100 + 2
    for job in jobs:
        finish(store, job, SUCCEEDED, None, now_ms)
    skips = 0
    statements.clear()
    while claim_once(store, now_ms + MAX_HOLD_MS).passed:
        longest = max(longest, len(statements))
        statements.clear()
        skips += 1
    assert skips == count / 100
    states = dict(store.rows("SELECT state, count(*) FROM delivery GROUP BY state"))
    assert states == {"succeeded": 2, "skipped": count - 1}
    assert 100 < longest < 400
