"""What comes of a person who was erased, or again of a webhook whose record was removed."""

from collections.abc import Sequence
from typing import Any

import pytest

from premblyd.features.asking.confirm import by_itself, write_down
from premblyd.features.asking.settling import Answers, NewAnswer
from premblyd.features.asking.states import InquiryResult, Purpose
from premblyd.features.turns.once import MAX_HOLD_MS, once_key
from premblyd.prembly.events import STATUS
from premblyd.prembly.payload import Outcome
from premblyd.queue.inbox import Added, NewDelivery
from premblyd.queue.jobs import Claimable, Job, Room
from premblyd.queue.queue import BODY_GONE, ERASED
from premblyd.queue.register import Hosts
from premblyd.run.kinds import of_job
from premblyd.store.columns import PLAIN, Kept, columns
from premblyd.store.tables import Event
from tests.features.asking.questions import await_results, question
from tests.support.erasing import forget, remove_record
from tests.support.hosts import identity
from tests.support.queue import LEASE_MS, SUCCEEDED, finish
from tests.support.store import NOW_MS, Store, new_event

UUID = "0b6ba2e4-6d83-4c43-ae3c-7a3ce2b1a001"
SPELT = UUID.replace("-", "_").upper()
RUNS = NewDelivery("told", 3, "wait", True)
PENDING: dict[str, Any] = {"outcome": Outcome.PENDING, "verification_status": "PENDING"}
ONCE = ("ref-1", Outcome.VERIFIED)
DELIVERIES = """SELECT delivery.action, state, held_by, confirmed_key
    FROM delivery LEFT JOIN once_run ON delivery_id = delivery.id ORDER BY delivery.id"""


def arrive(store: Store, *deliveries: NewDelivery, **changes: Any) -> Added:
    """Store a webhook, of a session of its own."""
    changes.setdefault("session_id", None)
    return store.wait(await_results(store, 1).inbox.add(new_event(**changes), deliveries))


def event(store: Store, event_id: int) -> dict[str, Any]:
    names = [column.column_name for column in columns(Event)]
    [row] = store.rows(f"SELECT {', '.join(names)} FROM event WHERE id = ?", event_id)
    return dict(zip(names, row, strict=True))


def test_a_webhook_of_an_erased_reference_is_stored_erased(store: Store) -> None:
    """What a sender wrote in a plain column goes too if it may name somebody."""
    erasure_id = forget(store, UUID)
    odd: dict[str, Any] = {"status": "Ada Obi", "type": "ada.obi", "risk_score": 22212345678.0}
    crm = NewDelivery("crm", 3)
    added = arrive(store, crm, reference=SPELT, body=b'{"hush": 1}', **PENDING, **odd)
    assert (added.is_new, added.is_erased) == (True, True)
    stored = event(store, added.event_id)
    for column in columns(Event):
        if column.holds is not PLAIN and column.kept in (Kept.BODY, Kept.IDENTITY):
            assert stored[column.column_name] in (None, "", "[]", b""), column.name
    assert [stored[name] for name in odd] == [None, "", None]
    assert stored["removed_parts"] == "erased"
    own = (added.event_id, erasure_id)
    assert store.rows("SELECT event_id, erasure_id FROM erased_event") == [own]
    assert (stored["key"], stored["response_code"]) == (added.key, "00")
    assert (stored["outcome"], stored["received_at_ms"]) == ("pending", NOW_MS)
    assert store.rows(DELIVERIES) == store.rows("SELECT id FROM awaited") == []
    counts = "SELECT sum(events), sum(duplicates), sum(unmatched) FROM event_hour"
    assert store.rows(counts) == [(1, 0, 0)]


def test_webhooks_that_come_at_once_are_told_apart(store: Store) -> None:
    forget(store, "ref-1")
    events = [
        new_event(b"%d" % number, reference=f"ref-{number % 2}", session_id=None)
        for number in range(6)
    ]
    added = store.wait_all(store.inbox.add(each, [NewDelivery("crm", 3)]) for each in events)
    assert [each.is_erased for each in added if isinstance(each, Added)] == [False, True] * 3
    rows = store.rows("SELECT reference, removed_parts FROM event ORDER BY id")
    assert sorted(rows, key=str) == sorted([("ref-0", None), (None, "erased")] * 3, key=str)
    assert store.rows("SELECT count(*) FROM delivery") == [(3,)]


def test_a_duplicate_of_an_erased_event_is_one(store: Store) -> None:
    first = arrive(store, reference="ref-1")
    forget(store, "ref-1")
    again = arrive(store, NewDelivery("crm", 3), reference="ref-1")
    assert (again.event_id, again.is_new, again.is_erased) == (first.event_id, False, True)
    stored = event(store, first.event_id)
    assert (stored["duplicate_count"], stored["body"], stored["reference"]) == (1, None, None)


def test_only_an_action_that_says_so_runs_for_what_is_erased(store: Store) -> None:
    """And it stands in no line: the event has no reference."""
    forget(store, "ref-1")
    arrive(store, NewDelivery("crm", 3, "wait"), RUNS, reference="ref-1")
    key = once_key(store.digests, *ONCE, "sdk.session")
    assert store.rows(DELIVERIES) == [("told", "pending", None, key)]
    assert store.rows("SELECT id FROM ordered") == []


def test_a_webhook_whose_record_was_removed_is_a_duplicate(store: Store) -> None:
    first = arrive(store, reference="ref-1")
    remove_record(store, first.event_id)
    again = arrive(store, NewDelivery("crm", 3), reference="ref-1")
    assert (again.event_id, again.is_new) == (first.event_id, False)
    assert store.rows("SELECT id FROM event") == []
    assert store.rows(DELIVERIES) == []
    assert store.rows("SELECT sum(events), sum(duplicates) FROM event_hour") == [(1, 1)]


def claim(
    store: Store, now_ms: int = NOW_MS, *, once: bool = False, gets_body: bool = True
) -> list[Job]:
    """Claim for two actions, of which `told` runs for what is erased too."""
    own: dict[str, Any] = {
        "slots": 9,
        "lease_ms": LEASE_MS,
        "takes_turns": once,
        "gets_body": gets_body,
    }
    actions = {
        "crm": Claimable(digest="crm", **own),
        "told": Claimable(digest="told", runs_erased=True, **own),
    }
    return store.wait(store.queue.claim(actions, Room(limit=9), now_ms)).jobs


def test_the_hook_of_what_is_erased_gets_nothing_of_the_person(store: Store) -> None:
    forget(store, "ref-1")
    arrive(store, RUNS, reference="ref-1")
    [job] = claim(store, once=True)
    assert (job.event.is_erased, job.event.has_body, job.event.body) == (True, False, b"")
    told = {**of_job(job).environment}
    named = ("PREMBLY_REFERENCE", "PREMBLY_USER_REF")
    assert [told[name] for name in named] == [None, None]
    assert (told["PREMBLY_ERASED"], told["PREMBLY_OUTCOME"]) == (1, "verified")
    assert told["PREMBLY_ONCE_KEY"] == once_key(store.digests, *ONCE)


def test_a_delivery_that_is_due_when_its_event_was_erased_is_cancelled(store: Store) -> None:
    """However it became due: its hook does not run."""
    first = arrive(store, NewDelivery("crm", 3, "wait"), reference="ref-1")
    arrive(store, NewDelivery("crm", 3, "wait"), reference="ref-1", body=b"second")
    store.by_hand("UPDATE event SET removed_parts = 'erased' WHERE id = ?", first.event_id)
    assert claim(store) == []
    states = "SELECT state, last_error FROM delivery ORDER BY id"
    assert store.rows(states) == [("cancelled", ERASED), ("pending", None)]
    assert [job.delivery_id for job in claim(store)] == [2], "who waited for it goes on"


def test_a_claim_stands_until_its_person_is_erased(store: Store) -> None:
    """That of what was stored erased stands: its hook is told of nobody."""
    store.wait(Hosts(store.writer, identity("host")).join(NOW_MS))
    arrive(store, NewDelivery("crm", 3), reference="ref-1")
    [job] = claim(store)
    assert store.wait(store.queue.prove(job))
    forget(store, "ref-1")
    assert not store.wait(store.queue.prove(job))
    arrive(store, RUNS, reference="ref-1", body=b"second")
    [job] = claim(store)
    assert store.wait(store.queue.prove(job))


def test_a_hook_that_gets_the_body_does_not_run_without_it(store: Store) -> None:
    arrive(store, NewDelivery("crm", 3), reference="ref-1")
    store.by_hand("UPDATE event SET removed_parts = 'body', body = NULL")
    assert claim(store) == []
    assert store.rows("SELECT state, last_error FROM delivery") == [("dead", BODY_GONE)]
    store.by_hand("UPDATE delivery SET state = 'pending', due_at_ms = 1, finished_at_ms = NULL")
    assert [job.delivery_id for job in claim(store, gets_body=False)] == [1]


def test_what_succeeded_for_an_erased_person_is_not_done_again(store: Store) -> None:
    """`once` knows it by a keyed digest, whatever the next webhook of the reference is spelt."""
    arrive(store, RUNS, reference=UUID)
    [job] = claim(store, once=True)
    assert finish(store, job, SUCCEEDED)
    forget(store, UUID)
    arrive(store, RUNS, reference=SPELT, body=b"again")
    assert claim(store, once=True) == []
    states = "SELECT state, ran_instead_id FROM delivery ORDER BY id"
    assert store.rows(states) == [("succeeded", None), ("skipped", 1)]
    arrive(store, RUNS, reference=UUID, body=b"another", **PENDING)
    [job] = claim(store, once=True)
    assert (job.delivery_id, finish(store, job, SUCCEEDED)) == (3, True), "another outcome runs"
    arrive(store, RUNS, reference=UUID, body=b"once more", **PENDING)
    assert claim(store, NOW_MS + MAX_HOLD_MS, once=True) == []
    assert store.rows(states)[2:] == [("succeeded", None), ("skipped", 3)]


def test_an_event_of_the_same_reference_that_stayed_is_not_run_again(store: Store) -> None:
    """Two events of one reference, of which one was erased after its hook had succeeded."""
    arrive(store, NewDelivery("crm", 3), reference="ref-1", body=b"1")
    [job] = claim(store, once=True)
    assert finish(store, job, SUCCEEDED)
    arrive(store, NewDelivery("crm", 3), reference="ref-1", body=b"2")
    forget(store, "ref-other")
    store.by_hand("UPDATE event SET reference = NULL, removed_parts = 'erased' WHERE id = 1")
    assert claim(store, once=True) == []
    assert store.rows("SELECT ran_instead_id FROM delivery WHERE id = 2") == [(1,)]


@pytest.mark.parametrize("erased", [False, True])
def test_what_succeeded_is_not_done_again_without_its_record(store: Store, erased: bool) -> None:
    first = arrive(store, reference="ref-1", body=b"1")
    remove_record(store, first.event_id, ("told", once_key(store.digests, *ONCE)))
    if erased:
        forget(store, "ref-1")
    arrive(store, NewDelivery("crm", 3), RUNS, reference="ref-1", body=b"2")
    assert [job.action for job in claim(store, once=True)] == ["crm"] * (not erased)
    states = "SELECT state, ran_instead_id FROM delivery WHERE action = 'told'"
    assert store.rows(states) == [("skipped", None)]


def test_what_prembly_confirms_is_not_done_again_when_its_record_is_removed(store: Store) -> None:
    first = arrive(store, reference="ref-1", body=b"1")
    key = once_key(store.digests, "ref-9", Outcome.VERIFIED)
    remove_record(store, first.event_id, ("crm", key))
    arrive(store, NewDelivery("crm", 3), reference="ref-1", body=b"2")
    [job] = claim(store, once=True)
    confirmed = by_itself(job.event)
    names = ["ref-9", "ref-1"]
    ruling = store.wait(write_down(store.queue, job, confirmed, NOW_MS, names, is_once=True))
    assert ruling is not None
    assert (ruling.runs, ruling.other_id, ruling.wait_ms) == (False, None, None)


def answer(store: Store, asked: str, *names: str) -> Added:
    """Store what Prembly answers about a reference, with the record of the question."""
    webhook = new_event(asked.encode(), reference=asked, session_id=None, type=STATUS)
    new = NewAnswer(webhook=webhook, deliveries=[RUNS], asked=asked, names=names)
    inquiry = question(Purpose.PENDING, InquiryResult.SETTLED, asked, answer_sha256=b"hush")
    return store.wait(Answers(store.writer).add(new, inquiry))


@pytest.mark.parametrize(("asked", "names"), [(UUID, (UUID, "ref-2")), ("ref-2", ("ref-2", SPELT))])
def test_an_answer_on_the_erased_is_erased(store: Store, asked: str, names: Sequence[str]) -> None:
    """Also when it was asked for by another name, which only the answer tells of."""
    erasure_id = forget(store, UUID)
    added = answer(store, asked, *names)
    assert added.is_erased
    stored = event(store, added.event_id)
    assert (stored["reference"], stored["body"]) == (None, None)
    own = (added.event_id, erasure_id)
    assert store.rows("SELECT event_id, erasure_id FROM erased_event") == [own]
    assert store.rows("SELECT name FROM verification_name") == []
    question = "SELECT reference, answer_digest, result, stored_event_id FROM inquiry"
    digest = store.digests.of_body(b"hush")
    assert store.rows(question) == [(None, digest, "settled", added.event_id)]
    assert [row[:2] for row in store.rows(DELIVERIES)] == [("told", "pending")]


def test_an_answer_about_somebody_else_is_stored_whole(store: Store) -> None:
    forget(store, "ref-1")
    assert not answer(store, UUID, UUID, "ref-2").is_erased
    assert store.rows("SELECT name FROM verification_name ORDER BY name") == [(UUID,), ("ref-2",)]
    assert store.rows("SELECT reference FROM inquiry") == [(UUID,)]
