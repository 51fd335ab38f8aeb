"""Which of Prembly's events a body is: by each mark alone, by mixtures, and never by a claim."""

import itertools
import json
from typing import Any

import pytest

from premblyd.prembly import events, payload

# A mark of each type, as the guide names it, the more specific before the less.
MARKS: list[tuple[str, dict[str, Any]]] = [
    ("workflow.process.completed", {"event": "workflow.process.completed"}),
    ("workflow.process.failed", {"event": "workflow.process.failed"}),
    ("workflow.process.manual_review", {"event": "Workflow.Process.Manual_Review "}),
    ("watchlist.identity_flagged", {"event": "watchlist.identity_flagged"}),
    ("watchlist.identity_flagged", {"event": "watchlist_identity_flagged"}),
    ("credit", {"event": "credit"}),
    ("credit.decision", {"event": "credit.decision"}),
    ("credit.decision", {"event": "credit_decision"}),
    ("statement.analysis", {"event": "statement.analysis"}),
    ("transaction.processed", {"event": "transaction.processed"}),
    ("transaction.processed", {"data": {"event": "transaction.processed"}}),
    ("transaction.escalated", {"data": {"event": "TRANSACTION.ESCALATED"}}),
    ("transaction.rule_triggered", {"data": {"event": "transaction.rule_triggered"}}),
    ("transaction.case.opened", {"data": {"event": "case.opened", "screening_result": {"a": 1}}}),
    ("transaction.unnamed", {"data": {"screening_result": {"transaction_id": "tx_1"}}}),
    ("verification.retried", {"is_callback_retry": True}),
    ("verification.retried", {"data": {"is_callback_retry": "true"}}),
    ("verification.retried", {"is_pending_payment_retry": 1}),
    ("verification.retried", {"data": {"is_pending_payment_retry": True}}),
    ("verification.async", {"data": {"verification_id": "v-1", "channel_code": "NIN"}}),
    ("sdk.session", {"data": {"widget_info": {"user_ref": "u-1"}}}),
    ("sdk.session", {"widget_info": {"id": "w-1"}}),
    ("sdk.session", {"data": {"data": {"widget_info": {"id": "w-1"}}}}),
    ("sdk.session", {"completed_at": "2026-11-25T10:00:00Z"}),
    ("sdk.session", {"event": "verification.completed", "session_id": "s-1", "data": {}}),
    ("sdk.session", {"data": {"session_id": "s-1"}}),
    ("sdk.session", {"data": {"source": "SDK"}}),
    ("sdk.session", {"source": "CHECKOUT"}),
    ("statement.analysis", {"data": {"statement_analysis": {"total_credit": "1.00"}}}),
    ("statement.analysis", {"data": {"analysis": [{"month": "May"}]}}),
    ("statement.analysis", {"data": {"meta": {"engine_version": "1.0.0"}, "risk": {"a": 1}}}),
    ("verification.direct", {"verification": {"status": "VERIFIED"}}),
    ("verification.direct", {"data": {"verification": {"reference": "r-1"}}}),
    ("verification.direct", {"verification": {}}),
    ("verification.direct", {"billing_info": {"was_charged": True}}),
    ("verification.direct", {"verification_status": "PENDING"}),
    ("transaction.case.opened", {"data": {"event": "case.opened"}}),
    ("case.opened", {"event": "case.opened"}),
    ("verification.completed", {"event": "verification.completed"}),
    ("verification.direct", {"response_code": "00"}),
    ("verification.direct", {"data": {"response_code": 1}}),
]
NO_MARKS: list[dict[str, Any] | None] = [
    None,
    {},
    {"status": True},
    {"data": {"screening_result": {}}, "widget_info": {}, "session_id": ""},
    {"is_callback_retry": False, "is_pending_payment_retry": "false"},
    {"data": {"verification_id": "v-1"}},
    {"data": {"channel_code": "NIN"}},
    {"response_code": "", "billing_info": None, "verification": None},
    {"response_code": True},
    {"response_code": "OK"},
    {"event": "prembly.status"},  # only premblyd's own storing makes one
    {"event": "prembly"},
    {"event": "sdk.session"},
    {"event": ["workflow.process.completed"]},
    {"event": "x" * 10_000},
    {"event": "person.22212345678"},
    {"event": "Verification completed"},
    {"reference": "r-1", "customer_reference": "c-1"},
]
SPECIFIC = ("transaction.", "workflow.", "watchlist.", "credit", "statement.analysis")


@pytest.mark.parametrize(("type_", "document"), MARKS)
def test_a_type_is_told_by_each_of_its_marks(type_: str, document: dict[str, Any]) -> None:
    assert events.type_of(document) == type_
    assert payload.read(json.dumps(document).encode()).type == type_


@pytest.mark.parametrize("document", NO_MARKS)
def test_a_body_without_marks_is_of_no_known_type(document: dict[str, Any] | None) -> None:
    assert events.type_of(document) == "unknown"


def test_every_type_that_is_documented_can_be_told() -> None:
    told = {type_ for type_, _ in MARKS} | {"unknown", "prembly.status"}
    assert told >= set(events.MEANINGS)


def merged(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    """Return both documents as one; where both say something, `first` does."""
    whole = {**second, **first}
    for name in first.keys() & second.keys():
        if isinstance(first[name], dict) and isinstance(second[name], dict):
            whole[name] = merged(first[name], second[name])
    return whole


PAIRS = list(itertools.combinations(MARKS, 2))


def _conflict(first: dict[str, Any], second: dict[str, Any]) -> bool:
    """Return whether the two say different things in the same place."""
    return merged(first, second) != merged(second, first)


@pytest.mark.parametrize("first_at", range(len(MARKS) - 1), ids=lambda at: MARKS[at][0])
def test_of_two_marks_the_more_specific_one_counts(first_at: int) -> None:
    type_, first = MARKS[first_at]
    for other, second in MARKS[first_at + 1 :]:
        if _conflict(first, second):
            continue
        told = events.type_of(merged(first, second))
        # Names stand in two places: the outer one counts. A verification makes an analysis its own.
        assert told in (type_, other) if {type_, other} & TWO_NAMES else told == type_, second


TWO_NAMES = {
    "transaction.case.opened",
    "case.opened",
    "verification.completed",
    "statement.analysis",
}
