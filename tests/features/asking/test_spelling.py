"""A UUID is the same reference in all its spellings, wherever the record is asked for one."""

from contextlib import closing
from typing import Any

import pytest

from premblyd.features.asking.states import InquiryResult, Purpose
from premblyd.features.asking.stored import found_events
from premblyd.prembly.payload import Outcome, plain_id, same_id
from premblyd.store.connections import connect_operator
from tests.features.asking.questions import ask, await_results
from tests.support.engines import place as place  # noqa: PLC0414 (a fixture)
from tests.support.queue import SUCCEEDED, claim, claim_once, finish
from tests.support.rows import for_each
from tests.support.store import Store, new_event

PLAIN = "3fa85f64-5717-4562-b3fc-2c963f66afa6"
OTHERS = [PLAIN.upper(), *(PLAIN.replace("-", by) for by in ("_", "")), PLAIN.replace("-", "_", 1)]
PENDING: dict[str, Any] = {"outcome": Outcome.PENDING, "response_code": "02"}


def arrive(store: Store, number: int, reference: str, **changes: Any) -> None:
    event = new_event(b"%d" % number, reference=reference, token=None, **changes)
    store.wait(await_results(store, 60_000).inbox.add(event, []))


@for_each("reference", [PLAIN, *OTHERS])
def test_all_spellings_of_a_uuid_have_one_that_is_plain(reference: str) -> None:
    assert plain_id(reference) == PLAIN
    assert same_id(plain_id(reference)) == same_id(reference)


@for_each("reference", ["", "ver_A_1", "session-0123456789abcdef01234567", "f" * 31])
def test_any_other_reference_is_its_own(reference: str) -> None:
    assert plain_id(reference) == reference


@pytest.mark.parametrize(("before", "after"), [(PLAIN, OTHERS[1]), (OTHERS[0], PLAIN)])
def test_what_is_awaited_is_settled_in_any_spelling(store: Store, before: str, after: str) -> None:
    arrive(store, 1, before, **PENDING)
    arrive(store, 2, PLAIN.replace("-", "_", 2), **PENDING)  # is awaited already
    arrive(store, 3, after)
    rows = "SELECT reference, event_id, state, settled_by_id FROM awaited"
    assert store.rows(rows) == [(before, 1, "settled", 3)]
    arrive(store, 4, OTHERS[2], **PENDING)  # is settled in the record
    assert len(store.rows(rows)) == 1


@pytest.mark.parametrize("event", [PLAIN, *OTHERS])
def test_what_prembly_does_not_confirm_is_awaited_again_in_any_spelling(
    store: Store, event: str
) -> None:
    arrive(store, 1, OTHERS[1], **PENDING)
    arrive(store, 2, event)
    ask(store, Purpose.CONFIRM, InquiryResult.CONTRADICTED, PLAIN, event_id=2)
    assert store.rows("SELECT state, settled_by_id FROM awaited") == [("waiting", None)]


@pytest.mark.parametrize("earlier", [PLAIN, *OTHERS])
def test_what_succeeded_before_once_counts_in_any_spelling(store: Store, earlier: str) -> None:
    store.add("crm", reference=earlier)
    (job,) = claim(store, crm=1).jobs  # without `once`, so it has no key
    assert finish(store, job, SUCCEEDED)
    store.add("crm", body=b"2", reference=OTHERS[3])
    assert claim_once(store).jobs == []
    assert store.rows("SELECT state, ran_instead_id FROM delivery WHERE id = 2") == [
        ("skipped", job.delivery_id)
    ]


def test_reconcile_knows_an_event_in_any_spelling(store: Store) -> None:
    store.add(reference=OTHERS[3])
    with closing(connect_operator(store.place)) as connection:
        for spelt in (PLAIN, *OTHERS):
            found = found_events(connection, [[spelt], ["ver_A_1"]])
            assert [[*each] for each in found] == [[1], []]
