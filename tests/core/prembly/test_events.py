"""Which of Prembly's events a body is: by each mark alone, by mixtures, and never by a claim."""

import json
import re
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from premblyd.ground.expressions import Expression
from premblyd.ground.privacy import is_prembly_id
from premblyd.prembly import events, payload
from premblyd.prembly.payload import Outcome
from tests.support.rows import for_each

# A mark of each type, as the guide names it, the more specific before the less.
MARKS: list[tuple[str, dict[str, Any]]] = [
    ("workflow.process.completed", {"event": "workflow.process.completed"}),
    ("workflow.process.failed", {"event": "workflow.process.failed"}),
    ("workflow.process.manual_review", {"event": "Workflow.Process.Manual_Review "}),
    ("watchlist.identity_flagged", {"event": "watchlist.identity_flagged"}),
    ("watchlist.identity_flagged", {"event": "watchlist_identity_flagged"}),
    ("credit", {"event": "credit"}),
    ("credit.decision", {"event": "credit_decision"}),
    ("statement.analysis", {"event": "statement.analysis"}),
    ("transaction.processed", {"data": {"event": "transaction.processed"}}),
    ("transaction.escalated", {"data": {"event": "TRANSACTION.ESCALATED"}}),
    ("transaction.rule_triggered", {"data": {"event": "transaction.rule_triggered"}}),
    ("transaction.unnamed", {"data": {"screening_result": {"transaction_id": "tx_1"}}}),
    ("case.opened", {"event": "case.opened"}),
    ("other", {"event": "Verification is completed"}),
    ("transaction.case.opened", {"data": {"event": "case.opened"}}),
    ("verification.retried", {"is_callback_retry": True}),
    ("verification.retried", {"data": {"is_callback_retry": "true"}}),
    ("verification.retried", {"data": {"is_pending_payment_retry": True}}),
    ("verification.async", {"data": {"verification_id": "v-1", "channel_code": "NIN"}}),
    ("sdk.session", {"data": {"widget_info": {"user_ref": "u-1"}}}),
    ("sdk.session", {"widget_info": {"id": "w-1"}}),
    ("sdk.session", {"completed_at": "2026-11-25T10:00:00Z"}),
    ("sdk.session", {"session_id": "s-1"}),
    ("sdk.session", {"data": {"session_id": "s-1"}}),
    ("sdk.session", {"data": {"source": "SDK"}}),
    ("sdk.session", {"source": "CHECKOUT"}),
    ("statement.analysis", {"data": {"statement_analysis": {"total_credit": "1.00"}}}),
    ("statement.analysis", {"data": {"analysis": [{"month": "May"}]}}),
    ("verification.direct", {"verification": {"status": "VERIFIED"}}),
    ("verification.direct", {"data": {"verification": {"reference": "r-1"}}}),
    ("verification.direct", {"billing_info": {"was_charged": True}}),
    ("verification.direct", {"verification_status": "PENDING"}),
    ("verification.completed", {"event": "verification.completed"}),
    ("verification.direct", {"response_code": "00"}),
    ("verification.direct", {"data": {"response_code": 1}}),
]
TWO_MARKS: list[tuple[str, dict[str, Any]]] = [
    ("sdk.session", {"event": "verification.completed", "session_id": "s-1", "data": {}}),
    ("transaction.case.opened", {"data": {"event": "case.opened", "screening_result": {"a": 1}}}),
    ("transaction.processed", {"event": "case.opened", "data": {"event": "transaction.processed"}}),
    ("verification.direct", {"data": {"analysis": {"a": 1}}, "verification": {"status": "x"}}),
    ("case.opened", {"event": "case.opened", "verification": {"status": "VERIFIED"}}),
    ("fraud.identity_flagged", {"event": "Fraud.Identity_flagged", "widget_info": {"a": 1}}),
]
NO_MARKS: list[dict[str, Any] | None] = [
    None,
    {},
    {"data": {"screening_result": {}}, "widget_info": {}, "session_id": ""},
    {"is_callback_retry": False, "is_pending_payment_retry": "false"},
    {"data": {"verification_id": "v-1"}},
    {"response_code": "", "billing_info": None, "verification": None},
    {"response_code": True},
    {"response_code": "OK"},
    {"event": "sdk.session"},
    {"reference": "r-1", "customer_reference": "c-1"},
]
NO_NAMES: list[Any] = [
    "prembly.status",  # only premblyd's own storing makes one
    *("prembly", "unknown", "completed", "x" * 10_000, "person.22212345678", True, 0),
    *(["workflow.process.completed"], {"workflow.process.completed": True}),
]


@for_each("name", NO_NAMES)
def test_a_name_that_can_be_no_type_is_of_another(name: Any) -> None:
    body = {"event": name, "verification": {"status": "VERIFIED"}, "response_code": "00"}
    assert payload.recognise(body).type == "other"
    assert not events.is_about_verification("other")


@for_each(("type_", "document"), MARKS + TWO_MARKS)
def test_a_type_is_told_by_each_of_its_marks(type_: str, document: dict[str, Any]) -> None:
    assert payload.read(json.dumps(document).encode()).type == type_


@for_each("document", NO_MARKS)
def test_a_body_without_marks_is_of_no_known_type(document: dict[str, Any] | None) -> None:
    assert payload.recognise(document).type == "unknown"


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


def holds(whole: dict[str, Any], mark: dict[str, Any]) -> bool:
    """Return whether `mark` is in `whole`, and nothing more specific replaced it."""
    return merged(mark, whole) == whole


# What gives way to a less specific mark: names that only the other mark makes a type of, and an
# analysis beside a verification.
WEAK = (*("verification.completed", "statement.analysis", "transaction.unnamed"),)


@given(st.lists(st.sampled_from(MARKS), min_size=2, max_size=5))
def test_of_several_marks_the_more_specific_one_counts(marks: list[tuple[str, Any]]) -> None:
    document: dict[str, Any] = {}
    for _, mark in marks:
        document = merged(document, mark)
    found = [type_ for type_, mark in MARKS if holds(document, mark)]  # most specific first
    told = payload.read(json.dumps(document).encode()).type
    assert told in found
    assert told == found[0] or found[0] in WEAK, document


# Everything that is a mark or a verdict somewhere, with odd values in the places of each.
WORDS = ["VERIFIED", "verified", "PENDING", "00", "02", True, 1, "true", "prembly.status", "s-1"]
ODD: st.SearchStrategy[Any] = st.sampled_from(
    [None, "", [], {}, [{}], {"a": 1}, 0, -1, False, 1e400, "\ud800", "é" * 99]
)
PLACES = sorted(
    {
        *"event completed_at source session_id is_callback_retry is_pending_payment_retry".split(),
        *"widget_info billing_info verification response_code status reference meta".split(),
        *"verification_status verification_id channel_code screening_result analysis".split(),
    }
)
values = st.recursive(
    ODD
    | st.sampled_from(WORDS)
    | st.sampled_from([mark["event"] for _, mark in MARKS if "event" in mark]),
    lambda inner: st.dictionaries(st.sampled_from([*PLACES, "data"]), inner, max_size=4),
    max_leaves=8,
)
documents = st.dictionaries(st.sampled_from([*PLACES, "data"]), values, max_size=6)


@given(documents)
@example({"response_code": "00", "verification": {"status": "VERIFIED"}, "event": "credit"})
@example({"response_code": "00", "data": {"screening_result": {"a": 1}, "verification_status": 1}})
def test_whatever_a_body_holds_its_type_is_told(body: dict[str, Any]) -> None:
    verdict = payload.recognise(body)
    type_ = verdict.type
    assert re.fullmatch(r"[a-z][a-z0-9_.]{0,63}", type_)
    assert type_ != events.STATUS, "no body can claim to be an answer of Prembly's"
    if not events.is_about_verification(type_):
        assert verdict.outcome is Outcome.UNKNOWN
    if verdict.outcome is not Outcome.UNKNOWN:
        assert verdict.verification_status is not None, "a code alone says nothing of a person"


@for_each(
    ("type_", "mark"), [(type_, mark) for type_, mark in MARKS if type_ != "verification.direct"]
)
def test_code_00_without_a_persons_verdict_has_no_outcome(type_: str, mark: dict[str, Any]) -> None:
    processed = merged(mark, {"response_code": "00", "status": True, "detail": "VERIFIED"})
    assert payload.recognise(processed).outcome is Outcome.UNKNOWN
    verified = {"verification": {"status": "VERIFIED"}, "verification_status": "VERIFIED"}
    verdict = payload.recognise(merged(processed, verified))
    is_about = events.is_about_verification(verdict.type)
    assert verdict.outcome is (Outcome.VERIFIED if is_about else Outcome.UNKNOWN)
    others = ("workflow", "transaction", "watchlist", "credit", "state", "case", "other")
    assert is_about or type_.startswith(others)


def test_an_expression_of_the_endpoint_makes_no_persons_verdict_of_a_transaction() -> None:
    places: dict[Any, Expression] = {"verification_status": Expression("data.word")}
    body: dict[str, Any] = {"data": {"word": "VERIFIED", "event": "transaction.processed"}}
    verdict = payload.recognise(body, places)
    assert (verdict.outcome, verdict.verification_status) == (Outcome.UNKNOWN, "VERIFIED")
    del body["data"]["event"]
    assert payload.recognise(body, places).outcome is Outcome.VERIFIED


def test_a_body_without_a_reference_is_known_by_another_id() -> None:
    digest = "session-6a840baf5d8c3ff241688aeb"
    failed = {"event": "workflow.process.failed"}
    bodies: list[tuple[dict[str, Any], str | None]] = [
        ({"data": {"verification_id": "v-1", "channel_code": "NIN"}}, "v-1"),
        ({"data": {"screening_result": {"transaction_id": "tx_12345"}}}, "tx_12345"),
        (failed | {"data": {"workflow_run_id": "run-1"}}, "run-1"),
        (failed | {"data": {"id": "run-2", "name": "Kyc"}}, "run-2"),
        ({"data": {"id": "no-run", "session_id": ""}}, None),
        ({"reference": "best", "data": {"verification_id": "v-1"}, "session_id": "s-1"}, "best"),
        ({"session_id": "s-1"}, digest),
        ({"verification": {"reference": ""}, "response_code": "03"}, None),
    ]
    for body, reference in bodies:
        assert payload.recognise(body).reference == reference, body


def test_a_sessions_digest_does_not_tell_its_id() -> None:
    reference = payload.recognise({"session_id": "sdk_session_hush"}).reference
    assert reference == payload.session_reference("sdk_session_hush")
    assert "hush" not in reference
    assert is_prembly_id(reference), "the log has it"


def test_where_an_endpoint_says_the_reference_is_no_other_id_stands_for_it() -> None:
    places: dict[Any, Expression] = {"reference": Expression("data.ours")}
    body = {"data": {"verification_id": "v-1", "channel_code": "NIN"}, "session_id": "s-1"}
    assert payload.recognise(body, places).reference is None


def test_a_pattern_is_for_the_whole_type() -> None:
    for patterns, type_, fits in (
        (["*"], "unknown", True),
        (["transaction.*"], "transaction.processed", True),
        (["transaction.*"], "transaction", False),
        (["transaction.*"], "xtransaction.processed", False),
        (["sdk.session", "workflow.process.?ailed"], "workflow.process.failed", True),
        (["sdk.session"], "sdk.session\n", False),
        (["sdk.session"], "sdk_session", False),
    ):
        assert events.matches(patterns, type_) is fits, (patterns, type_)
