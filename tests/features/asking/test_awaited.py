"""What is awaited: it begins and ends in the transaction of the event that begins or settles it."""

import asyncio
import itertools
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from premblyd.features.asking.awaited import (
    AGAIN_MS,
    Asked,
    AwaitedQueue,
    Due,
    NewInquiry,
    note_known,
    record,
    settle,
    waiting_unknown,
)
from premblyd.features.asking.settling import NewAnswer, add_answer
from premblyd.features.asking.standing import Standing, standing_of
from premblyd.features.asking.states import InquiryResult, Purpose
from premblyd.features.asking.stored import STANDING, settled_in_record
from premblyd.features.asking.tables import DOUBTS
from premblyd.features.names.names import Spelt, look_up
from premblyd.prembly.events import MEANINGS
from premblyd.prembly.payload import Outcome, Verdict, session_reference
from premblyd.queue.inbox import Added, NewDelivery
from premblyd.store.engine import Transaction
from premblyd.store.tables import Event
from tests.features.asking.questions import await_results, question
from tests.support.engines import place as place  # noqa: PLC0414 (a fixture)
from tests.support.queue import claim
from tests.support.rows import for_each
from tests.support.store import NOW_MS, Store, new_event

ASK_MS = 60_000
ROWS = """SELECT reference, event_id, state, due_at_ms, ask_count, settled_by_id FROM awaited
    ORDER BY id"""
PENDING: dict[str, Any] = {
    "outcome": Outcome.PENDING,
    "verification_status": "PENDING",
    "response_code": "02",
}
VERIFIED: dict[str, Any] = {"outcome": Outcome.VERIFIED, "verification_status": "VERIFIED"}
NOTHING: dict[str, Any] = {"outcome": Outcome.UNKNOWN, "verification_status": None}


def arrive(store: Store, *events: dict[str, Any], first_ask_ms: int | None = ASK_MS) -> list[Added]:
    """Add events in one round of the loop. Each is another body."""
    await_results(store, first_ask_ms) if first_ask_ms else store.bind()
    futures = [
        store.inbox.add(new_event(b"%d" % number, **{"token": None, **event}), [])
        for number, event in zip(bodies, events, strict=False)
    ]
    added = store.wait_all(futures)
    assert all(isinstance(each, Added) for each in added), added
    return [each for each in added if isinstance(each, Added)]


bodies = itertools.count()


def due(store: Store, now_ms: int, limit: int = 9, asking: Sequence[int] = ()) -> Due:
    return store.wait(AwaitedQueue(store.writer).due(now_ms, limit, asking))


def test_what_is_not_settled_is_awaited_from_its_own_transaction_on(store: Store) -> None:
    arrive(store, PENDING, NOTHING | {"response_code": "02", "reference": "ref-2"})
    assert store.rows(ROWS) == [
        (f"ref-{number}", number, "waiting", NOW_MS + ASK_MS, 0, None) for number in (1, 2)
    ]


@for_each(
    "event",
    [
        PENDING | {"reference": None, "session_id": None},
        PENDING | {"reference": "", "session_id": None},
        PENDING | {"type": "workflow.process.completed"},
        VERIFIED,  # last: it settles what others would begin
    ],
)
def test_nothing_else_is_awaited(store: Store, event: dict[str, Any]) -> None:
    arrive(store, event)
    assert store.rows(ROWS) == []


def test_a_verification_is_awaited_once(store: Store) -> None:
    [first, _] = arrive(store, PENDING, PENDING)
    arrive(store, PENDING)
    assert [row[:3] for row in store.rows(ROWS)] == [("ref-1", first.event_id, "waiting")]


def test_a_duplicate_begins_nothing(store: Store) -> None:
    for _ in range(2):
        store.bind().add(**PENDING)
    await_results(store, ASK_MS).add(**PENDING)
    assert store.rows(ROWS) == []


@pytest.mark.parametrize("order", [(PENDING, VERIFIED), (VERIFIED, PENDING)])
def test_a_webhook_settles_it_in_whichever_order_they_come(
    store: Store, *, order: tuple[dict[str, Any], ...]
) -> None:
    arrive(store, *order)  # together
    for event in order:
        arrive(store, event | {"reference": "ref-2"})
    assert [row for row in store.rows(ROWS) if row[2] == "waiting"] == []
    assert due(store, NOW_MS + 10 * ASK_MS).waiting == []
    arrive(store, *({**PENDING, "reference": None, "session_id": each} for each in ("s-1", "s-2")))
    [later] = arrive(store, {**order[-1], **VERIFIED, "reference": session_reference("s-1")})
    names = [(row[0], row[2], row[5]) for row in store.rows(ROWS)[-2:]]
    assert names == [
        (session_reference("s-1"), "settled", later.event_id),
        (session_reference("s-2"), "waiting", None),
    ]


def test_an_event_whose_record_is_deleted_settles_it_too(store: Store) -> None:
    """An answer word for word as one was whose record has expired is a duplicate of that."""
    arrive(store, PENDING)
    assert store.call(lambda transaction: settle(transaction, {"ref-1": 4711}, NOW_MS))
    assert store.rows(ROWS) == [("ref-1", 1, "settled", None, 0, None)]


def test_what_says_nothing_of_the_result_settles_nothing(store: Store) -> None:
    arrive(store, PENDING)
    for code in ("03", "00", "01", "99", None):
        arrive(store, NOTHING | {"response_code": code})
    arrive(store, NOTHING | {"doubt": "code"})
    assert [row[2] for row in store.rows(ROWS)] == ["waiting"]


def test_what_is_asked_about_once_keeps_no_pending_one_from_being_awaited(store: Store) -> None:
    doubted = NOTHING | {"doubt": "code"}
    arrive(store, doubted, NOTHING | {"response_code": "03"}, PENDING)
    assert [row[1] for row in store.rows(ROWS)] == [3]
    other = {"reference": "ref-2"}
    for number, event in enumerate([NOTHING | {"response_code": "03"}, doubted, PENDING], 4):
        arrive(store, event | other)
        arrive(store, event | other)
        assert store.rows(ROWS)[-1][1] == 2 * number - 4
    asked = Asked(id=3, at_ms=NOW_MS, due_at_ms=None, error=None)
    store.wait(AwaitedQueue(store.writer).asked(asked))
    store.by_hand("DELETE FROM awaited WHERE id = 4")
    arrive(store, doubted | other)
    assert [row[2] for row in store.rows(ROWS)] == ["waiting", "waiting", "given_up"]


def asked_about(store: Store, row_id: int, **more: Any) -> None:
    """Let Prembly have been asked about it, in vain: it is due again."""
    asked = Asked(id=row_id, error=None, **({"at_ms": NOW_MS, "due_at_ms": NOW_MS} | more))
    store.wait(AwaitedQueue(store.writer).asked(asked))


def test_first_asked_is_about_what_prembly_has_then_what_was_not_asked_for_then_the_newest(
    store: Store,
) -> None:
    for number in range(6):
        event = {"reference": f"ref-{number}", "received_at_ms": NOW_MS + number}
        arrive(store, PENDING | event)
    asked_about(store, 1, at_ms=NOW_MS + 2)
    asked_about(store, 2, at_ms=NOW_MS + 1)
    asked_about(store, 3, at_ms=NOW_MS + 9, is_known=True)

    def note(transaction: Transaction) -> None:
        note_known(transaction, waiting_unknown(transaction, ["ref-4", "not awaited"]), NOW_MS)

    store.call(note)
    now_ms = NOW_MS + ASK_MS + 5
    found = due(store, now_ms)
    assert [row.id for row in found.waiting] == [5, 3, 6, 4, 2, 1]
    assert found.waiting[0].session_id == "hush-session"
    found = due(store, now_ms, limit=3, asking=[5, 6])
    assert [row.id for row in found.waiting] == [3, 4, 2]


def test_what_was_settled_while_nothing_was_awaited_is_not_asked_for(store: Store) -> None:
    arrive(store, PENDING)
    [later] = arrive(store, VERIFIED, first_ask_ms=None)
    found = due(store, NOW_MS + ASK_MS)
    assert found.waiting == []
    assert found.has_settled
    assert store.rows(ROWS) == [("ref-1", 1, "settled", None, 0, later.event_id)]


def test_an_answer_that_settles_nothing_is_put_down(store: Store) -> None:
    arrive(store, PENDING)
    queue = AwaitedQueue(store.writer)
    again = Asked(id=1, at_ms=NOW_MS + 7, due_at_ms=NOW_MS + 9, error="why")
    assert store.wait(queue.asked(again))
    assert store.rows(ROWS) == [("ref-1", 1, "waiting", NOW_MS + 9, 1, None)]
    assert store.wait(queue.asked(Asked(id=1, at_ms=NOW_MS + 9, due_at_ms=None, error="why")))
    assert store.rows(ROWS) == [("ref-1", 1, "given_up", None, 2, None)]
    assert store.rows("SELECT finished_at_ms, last_error FROM awaited") == [(NOW_MS + 9, "why")]


def test_an_answer_about_what_is_settled_or_was_lost_in_a_failover_changes_nothing(
    store: Store,
) -> None:
    """The same number is another's then."""
    arrive(store, PENDING)
    queue = AwaitedQueue(store.writer)
    before = store.rows("SELECT * FROM awaited")
    for reference, changes in (("lost", False), ("ref-1", True)):
        asked = Asked(id=1, at_ms=NOW_MS, due_at_ms=None, error=None, reference=reference)
        assert store.wait(queue.asked(asked)) == changes
        assert (store.rows("SELECT * FROM awaited") != before) == changes
    arrive(store, VERIFIED)
    settled = store.rows("SELECT * FROM awaited")
    again = Asked(id=1, at_ms=NOW_MS + 7, due_at_ms=NOW_MS + 9, error=None)
    assert not store.wait(queue.asked(again))
    assert store.rows("SELECT * FROM awaited") == settled


def test_what_was_given_up_is_awaited_when_it_comes_again_and_settled_by_a_late_webhook(
    store: Store,
) -> None:
    arrive(store, PENDING)
    over = Asked(id=1, at_ms=NOW_MS, due_at_ms=None, error="why")
    store.wait(AwaitedQueue(store.writer).asked(over))
    arrive(store, PENDING)
    assert [row[1:3] for row in store.rows(ROWS)] == [(1, "given_up"), (2, "waiting")]
    [late] = arrive(store, VERIFIED)
    assert store.rows(ROWS) == [
        ("ref-1", 1, "settled", None, 1, late.event_id),
        ("ref-1", 2, "settled", None, 0, late.event_id),
    ]


# Events that Prembly does not confirm


def confirm(
    store: Store, event_id: int, result: InquiryResult, delivery_id: int | None = None
) -> None:
    asked = question(Purpose.CONFIRM, result, "ref-1", event_id=event_id, delivery_id=delivery_id)
    store.call(partial(record, inquiry=asked))


@pytest.mark.parametrize("result", DOUBTS)
def test_what_a_forged_event_settled_is_awaited_again(store: Store, result: InquiryResult) -> None:
    arrive(store, PENDING, PENDING | {"reference": "ref-2"})
    [forged, _] = arrive(store, VERIFIED, VERIFIED | {"reference": "ref-2"})
    other = store.rows(ROWS)[1]
    confirm(store, forged.event_id, result)
    again = ("ref-1", 1, "waiting", NOW_MS + AGAIN_MS, 0, None)
    assert store.rows(ROWS) == [again, other]
    assert [row.id for row in due(store, NOW_MS + AGAIN_MS).waiting] == [1]
    added = add(store, answer("ref-1"))  # the forged one does not stand in its way
    assert added.is_new
    assert store.rows(ROWS) == [("ref-1", 1, "settled", None, 0, added.event_id), other]


@pytest.mark.parametrize(
    "results", [["confirmed"], ["unavailable"], ["refused"], ["unsettled", "confirmed"]]
)
def test_an_event_that_was_not_doubted_or_is_confirmed_later_settles(
    store: Store, results: list[str]
) -> None:
    arrive(store, PENDING)
    [event] = arrive(store, VERIFIED)
    for result in results:
        confirm(store, event.event_id, InquiryResult(result))
    assert due(store, NOW_MS + AGAIN_MS).waiting == []
    assert store.rows(ROWS) == [("ref-1", 1, "settled", None, 0, event.event_id)]


# Answers


def answer(asked: str, **event: Any) -> NewAnswer:
    body = event.pop("body", b"answer of " + asked.encode())
    webhook = new_event(body, **{"token": None, "received_at_ms": NOW_MS + 99, **VERIFIED, **event})
    return NewAnswer(webhook=webhook, deliveries=[NewDelivery("crm", 3)], asked=asked)


def adding(store: Store, new: NewAnswer) -> "asyncio.Future[Added]":
    return store.writer.call(lambda transaction: add_answer(transaction, new))


def add(store: Store, new: NewAnswer) -> Added:
    return store.wait(adding(store, new))


@pytest.mark.parametrize("asked", ["ref-1", "session-1"])
def test_an_answer_is_stored_with_its_deliveries_and_ends_the_waiting(
    store: Store, asked: str
) -> None:
    arrive(store, PENDING | {"reference": asked})
    added = add(store, answer(asked, reference="ref-1"))
    assert added.is_new
    assert store.rows(ROWS) == [(asked, 1, "settled", None, 0, added.event_id)]
    assert store.rows("SELECT event_id, action, state FROM delivery") == [(2, "crm", "pending")]


@pytest.mark.parametrize("reference", ["ref-1", "its-own"])
def test_an_answer_to_what_the_record_knows_already_is_not_stored(
    store: Store, reference: str
) -> None:
    arrive(store, PENDING)
    [known] = arrive(store, VERIFIED | {"reference": reference}, first_ask_ms=None)
    added = add(store, answer("ref-1", reference="its-own"))
    assert added == Added(known.event_id, known.key, False)
    assert store.rows("SELECT count(*) FROM event") == [(2,)]
    assert store.rows("SELECT * FROM delivery") == []
    assert store.rows(ROWS) == [("ref-1", 1, "settled", None, 0, known.event_id)]


DEAD = "state = 'dead', due_at_ms = NULL, finished_at_ms = 1, attempt_count ="
HAD = """SELECT state, ran_instead_id FROM delivery
    WHERE event_id = (SELECT max(id) FROM event) ORDER BY id"""


@pytest.mark.parametrize(
    ("before", "changes", "had"),
    [
        (NOTHING, "state = 'pending'", True),
        (NOTHING, "state = 'cancelled', due_at_ms = NULL, finished_at_ms = 1", False),
        (NOTHING, f"{DEAD} 1", True),
        (NOTHING | {"response_code": "01"}, "state = 'pending'", True),
        (PENDING, "state = 'pending'", False),
        (NOTHING | {"response_code": "02"}, "state = 'pending'", False),
        (NOTHING | {"response_code": "03"}, "state = 'pending'", False),
        (NOTHING | {"type": "workflow.process.completed"}, "state = 'pending'", False),
    ],
)
def test_an_answer_is_for_actions_that_the_verification_never_had(
    store: Store, before: dict[str, Any], changes: str, *, had: bool
) -> None:
    store.wait(store.inbox.add(new_event(b"first", **before), [NewDelivery("crm", 3)]))
    store.by_hand(f"UPDATE delivery SET {changes}")
    assert add(store, answer("ref-1")).is_new
    assert store.rows(HAD) == ([("skipped", 1)] if had else [("pending", None)])


def test_a_hook_that_prembly_did_not_let_run_was_not_had(store: Store) -> None:
    store.wait(store.inbox.add(new_event(b"first", **NOTHING), [NewDelivery("crm", 3)]))
    confirm(store, 1, InquiryResult.UNSETTLED, 1)
    store.by_hand(f"UPDATE delivery SET {DEAD} 4")
    add(store, answer("ref-1"))
    assert store.rows(HAD) == [("pending", None)]


@pytest.mark.parametrize("needs_word", [True, False])
def test_a_hook_that_waits_for_prembly_s_word_on_what_it_denies_was_not_had(
    store: Store, needs_word: bool
) -> None:
    """Another action asked. For this one Prembly could not be: of that there is no question."""
    new = [NewDelivery("mail", 3), NewDelivery("crm", 3)]
    store.wait(store.inbox.add(new_event(b"first", **NOTHING), new))
    confirm(store, 1, InquiryResult.CONTRADICTED, 1)
    store.by_hand("UPDATE delivery SET attempt_count = 1 WHERE action = 'crm'")
    add(store, replace(answer("ref-1"), confirming=["crm"] if needs_word else []))
    assert store.rows(HAD) == [("pending", None) if needs_word else ("skipped", 2)]


@pytest.mark.parametrize("ran", ["outcome = 'succeeded'", "outcome = 'failed', exit_code = 1"])
def test_a_hook_that_ran_before_a_replay_that_prembly_stopped_was_had(
    store: Store, ran: str
) -> None:
    """A replay empties what Prembly confirmed before."""
    store.wait(store.inbox.add(new_event(b"first", **NOTHING), [NewDelivery("crm", 3)]))
    claim(store, crm=1)
    store.by_hand(f"UPDATE attempt SET finished_at_ms = 1, {ran}")
    confirm(store, 1, InquiryResult.CONTRADICTED, 1)
    store.by_hand(f"UPDATE delivery SET {DEAD} 2")
    add(store, answer("ref-1"))
    assert store.rows(HAD) == [("skipped", 1)]


def test_an_answer_is_no_event_beside_what_says_it_twice_and_differently(store: Store) -> None:
    doubted, _ = arrive(store, NOTHING | {"doubt": "code"}, PENDING)
    new = answer("ref-1")
    asked = question(Purpose.PENDING, InquiryResult.SETTLED, "ref-1", event_id=2)
    added = store.call(partial(add_answer, answer=new, inquiry=asked))
    assert (added.event_id, added.is_new) == (doubted.event_id, False)
    assert store.rows("SELECT event_id, result FROM inquiry") == [(1, "contradicted")]
    assert [row[2] for row in store.rows(ROWS)] == ["settled"]


def test_an_answer_of_the_same_code_is_no_second_event(store: Store) -> None:
    code = NOTHING | {"response_code": "01"}
    [known] = arrive(store, code)
    assert add(store, answer("ref-1", **code)) == Added(known.event_id, known.key, False)
    assert add(store, answer("ref-1", **NOTHING, response_code="07")).is_new


def test_answers_that_race_are_stored_once(store: Store) -> None:
    arrive(store, PENDING)
    futures = [adding(store, answer("ref-1", body=b"%d" % number)) for number in range(9)]
    added = store.wait_all(futures)
    assert sum(isinstance(each, Added) and each.is_new for each in added) == 1
    assert store.rows("SELECT count(*) FROM delivery") == [(1,)]


# Clocks


def test_setting_the_clock_changes_no_wait(store: Store) -> None:
    arrive(store, PENDING)
    over = Asked(id=1, at_ms=NOW_MS, due_at_ms=None, error=None)
    store.wait(AwaitedQueue(store.writer).asked(over))
    arrive(store, PENDING)
    store.wait(store.queue.shift(5000, NOW_MS + 5000, lambda: NOW_MS + 5000))
    times = "SELECT created_at_ms, due_at_ms FROM awaited ORDER BY id"
    assert store.rows(times) == [(NOW_MS, None), (NOW_MS + 5000, NOW_MS + ASK_MS + 5000)]


def test_what_is_awaited_again_after_the_clock_was_set_back_counts_from_then(store: Store) -> None:
    arrive(store, PENDING)
    [forged] = arrive(store, VERIFIED)
    at_ms = NOW_MS - 3_600_000
    about: dict[str, Any] = {"event_id": forged.event_id, "reference": "ref-1", "duration_ms": 1}
    asked = NewInquiry(
        at_ms=at_ms, purpose=Purpose.CONFIRM, result=InquiryResult.CONTRADICTED, **about
    )
    store.call(partial(record, inquiry=asked))
    assert [row.created_at_ms for row in due(store, at_ms + AGAIN_MS).waiting] == [at_ms]


# The rules in SQL


STATUSES: dict[Outcome, list[str | None]] = {
    Outcome.VERIFIED: ["VERIFIED"],
    Outcome.NOT_VERIFIED: ["not verified"],
    Outcome.PENDING: ["PENDING"],
    Outcome.UNKNOWN: [None, "true", "IN-PROGRESS"],
}
TYPES = [*MEANINGS, "transaction.other", "verification.other", "credit.x", "prembly.statuses"]
CODES = [None, "00", "01", "02", "03", "07", "99"]


def test_sql_says_the_same_as_the_rules(store: Store) -> None:
    events: dict[str, dict[str, Any]] = {}
    for outcome, statuses in STATUSES.items():
        for status, code, type_ in itertools.product(statuses, CODES, TYPES):
            said = {"outcome": outcome, "verification_status": status}
            events[f"{said} {code} {type_}"] = {**said, "response_code": code, "type": type_}
    for code, type_, doubt in itertools.product(CODES, TYPES, ("code", "face,type")):
        said = VERIFIED | {"outcome": Outcome.UNKNOWN, "doubt": doubt}
        events[f"{said} {code} {type_}"] = {**said, "response_code": code, "type": type_}
    named = [{**event, "reference": reference} for reference, event in events.items()]
    arrive(store, *named, first_ask_ms=None)
    verdicts = {reference: Verdict(reference=reference, **e) for reference, e in events.items()}
    lookup = Spelt.of(Event.select(Event.reference, STANDING), Event)
    look = store.writer.call(lambda transaction: look_up(transaction, lookup, events))
    assert dict(store.wait(look)) == {name: standing_of(v) for name, v in verdicts.items()}
    settled = store.call(lambda transaction: settled_in_record(transaction, events))
    assert settled.keys() == {n for n, v in verdicts.items() if standing_of(v) is Standing.RESULT}
