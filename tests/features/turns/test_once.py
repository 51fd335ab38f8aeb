"""`once: reference`: of all events of one reference and outcome, an action's hook succeeds once."""

import itertools
from typing import Any

import pytest

from premblyd.features.turns.once import MAX_HOLD_MS, once_key
from premblyd.prembly.payload import Outcome
from tests.support.queue import FAILED, LATER_MS, SUCCEEDED, claim, claim_once, finish, ids
from tests.support.store import NOW_MS, Store

STATES = "SELECT state, ran_instead_id FROM delivery ORDER BY id"
KEYS = "SELECT delivery_id, once_key FROM once_run WHERE once_key IS NOT NULL ORDER BY 1"


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
    log = "SELECT delivery_id, event_id, action, state FROM once_log WHERE once_key IS NOT NULL"
    assert store.rows(log) == [(1, 1, "crm", "succeeded")]


def test_another_reference_outcome_or_action_runs(store: Store) -> None:
    others: list[dict[str, Any]] = [{}, {"reference": "ref-2"}, {"outcome": Outcome.PENDING}]
    for number, changes in enumerate(others):
        add(store, b"%d" % number, **changes)
    add(store, b"9", "other")
    claimed = claim_once(store)
    assert ids(claimed) == [1, 2, 3, 4]
    keys = [job.idempotency_key for job in claimed.jobs]
    assert len(set(keys)) == 3
    assert keys[3] == keys[0] == once_key(store.digests, "ref-1", Outcome.VERIFIED)


def test_the_type_counts_only_for_events_that_are_about_no_verification(store: Store) -> None:
    """A transaction is processed, and later escalated: neither has an outcome. But whoever has the
    key can invent types of verifications, and Prembly would confirm each."""
    about = {
        "tx-1": ["transaction.processed", "transaction.escalated", "transaction.processed"],
        "ver-1": ["verification.direct", "sdk.session", "prembly.status", "unknown"],
    }
    for reference, types in about.items():
        for type_ in types:
            body = f"{len(store.bodies())}".encode()
            add(store, body, reference=reference, outcome=Outcome.UNKNOWN, type=type_)
            for job in (
                claim(store, crm=9).jobs if body == b"0" else []
            ):  # before the action had `once`
                finish(store, job, SUCCEEDED)
    assert ids(claim_once(store)) == [2, 4]
    assert store.rows("SELECT ran_instead_id FROM delivery WHERE id = 3") == [(1,)]


@pytest.mark.parametrize("nothing", [None, ""])
def test_without_a_reference_each_event_runs(store: Store, nothing: str | None) -> None:
    for number in range(3):
        add(store, b"%d" % number, reference=nothing)
    claimed = claim_once(store)
    assert [(job.delivery_id, job.idempotency_key) for job in claimed.jobs] == [
        (number, None) for number in (1, 2, 3)
    ]
    assert store.rows(KEYS) == []


def test_one_that_waits_looks_again_after_as_long_as_the_other_runs_already(store: Store) -> None:
    add(store, b"1")
    add(store, b"2")
    add(store, b"other", reference="ref-2")
    claimed = claim_once(store, slots=2)
    assert (ids(claimed), claimed.passed) == ([1, 3], 1), "the queue goes on"
    looks = []
    now_ms = claim_once(store, running=[1, 3]).next_due_ms or 0
    while now_ms < NOW_MS + 600_000:
        looks.append(now_ms - NOW_MS)
        assert ids(claim_once(store, now_ms, running=[1, 3])) == []
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


def test_what_began_before_the_action_had_once_counts(store: Store) -> None:
    """One that has succeeded counts before one that runs, whichever came first."""
    for number, reference in enumerate(["done", "runs", "first", "first", "second", "second"]):
        add(store, b"%d" % number, reference=reference)
    jobs = {job.delivery_id: job for job in claim(store, crm=9).jobs}
    for number in (1, 3, 6):
        finish(store, jobs[number], SUCCEEDED)
    for reference in ("done", "runs", "first", "second"):
        add(store, reference.encode(), reference=reference)
    assert ids(claim_once(store, running=[2, 4, 5])) == []
    assert store.rows(STATES)[6:] == [
        *(("skipped", 1), ("pending", None)),
        *(("skipped", 3), ("skipped", 6)),
    ]
    assert (1, once_key(store.digests, "done", Outcome.VERIFIED)) in store.rows(KEYS)


def test_one_that_succeeded_while_the_action_had_no_once_counts_beside_a_dead_one(
    store: Store,
) -> None:
    for body, claiming, result in (
        (b"1", claim_once, FAILED),
        (b"2", lambda each: claim(each, crm=9), SUCCEEDED),
    ):
        add(store, body)
        [job] = claiming(store).jobs
        finish(store, job, result)
    add(store, b"3")
    assert ids(claim_once(store)) == []
    assert store.rows(STATES) == [("dead", None), ("succeeded", None), ("skipped", 2)]


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
    for body in (b"1", b"2"):
        add(store, body)
    finish(store, claim(store, crm=9).jobs[0], SUCCEEDED)
    assert ids(claim_once(store, LATER_MS)) == []
    assert store.rows(STATES) == [("succeeded", None), ("skipped", 1)]
    outcomes = store.rows("SELECT outcome FROM attempt ORDER BY id")
    assert outcomes == [("succeeded",), ("interrupted",)]


def test_keys_changed_by_hand_stop_no_claim(store: Store) -> None:
    add(store, b"1")
    [job] = claim_once(store).jobs
    finish(store, job, FAILED)
    key = once_key(store.digests, "ref-2", Outcome.VERIFIED)
    store.by_hand("UPDATE once_run SET once_key = ?", key)
    add(store, b"2", reference="ref-2")
    assert ids(claim_once(store)) == [2]
    assert store.rows(KEYS) == [(2, key)]
