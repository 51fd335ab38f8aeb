"""Whether an answer of Prembly's API confirms an event for an action: a table of cases."""

import json
from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from premblyd.config.routing import Routing
from premblyd.features.asking import agreement, answers
from premblyd.features.asking.agreement import Agreement, Finding
from premblyd.features.asking.settling import requirement_of
from premblyd.prembly import payload
from premblyd.prembly.payload import Outcome, Verdict
from tests.support.jobs import action, webhook
from tests.support.prembly_api import Verification
from tests.support.rows import for_each

UUID = "0b7c9f1d-1111-4222-8333-44445555666a"
OTHER = "11111111-1111-4111-8111-111111111111"
EVENT = Verdict(response_code="00", outcome=Outcome.VERIFIED, reference=UUID)
PLAIN: dict[str, Any] = {"codes": ("*",)}
README: dict[str, Any] = {
    "codes": ("00", "missing"),
    "when": "outcome == 'verified' && face_match != `false`",
}


def decide(
    event: Verdict,
    document: Any,
    *,
    codes: tuple[str, ...] = ("*",),
    names_reference: bool = True,
    others: Any = (),
    **keys: Any,
) -> Agreement:
    """Return what an answer means for an event and an action."""
    question = answers.question_about(event)
    stated = answers.read(json.dumps(document).encode())
    assert question
    assert stated
    asked = action("act", *codes, **{"confirm": "true", **keys})
    arrived = webhook({"body": 1}, **{name: getattr(event, name) for name in event.__slots__})
    requirement = requirement_of(asked, arrived, Routing([asked, *others]))
    return agreement.decide(event, stated, question, requirement, names_reference=names_reference)


def found(event: Verdict = EVENT, keys: Any = PLAIN, **fields: Any) -> tuple[Finding, str]:
    """Return what the stand-in's answer with these fields means."""
    document = json.loads(Verification(**{"reference": UUID, **fields}).answer())
    agreed = decide(event, document, **keys)
    return agreed.finding, agreed.words


def test_a_uuid_may_be_spelt_with_underscores() -> None:
    assert found(reference=UUID.replace("-", "_"))[0] is Finding.CONFIRMED
    assert found(reference=UUID.replace("a", "b"))[0] is Finding.CONTRADICTED


def test_an_answer_need_name_no_reference_where_the_configuration_says_so() -> None:
    document = {"data": {"verification_status": "VERIFIED", "response_code": "00"}}
    agreed = decide(EVENT, document, names_reference=False)
    assert agreed.finding is Finding.CONFIRMED
    assert "reference" not in agreed.stated
    other = {"data": {"reference": OTHER, **document["data"]}}
    assert decide(EVENT, other, names_reference=False).finding is Finding.CONTRADICTED
    beside = Verdict(
        outcome=Outcome.VERIFIED, reference="victim 1", session_id="sdk_session_1"
    )  # which can't be asked for
    session = {"response": {"session_id": "sdk_session_1", "verification_status": "VERIFIED"}}
    assert decide(beside, session, names_reference=False).finding is Finding.ASK_AGAIN
    of_session = Verdict(outcome=Outcome.VERIFIED, session_id="ver_00012345")  # or of a reference
    assert decide(of_session, document, names_reference=False).words == agreement.NO_NAME


def test_codes_are_tested_where_the_answer_has_one_and_the_event_none() -> None:
    event = Verdict(outcome=Outcome.NOT_VERIFIED, reference=UUID)
    other = action("other", "07")

    def finding(code: str, *codes: str) -> Finding:
        said = {"reference": UUID, "verification_status": "NOT-VERIFIED", "response_code": code}
        return decide(event, {"data": said}, codes=codes, others=[other]).finding

    assert finding("01", "01") is Finding.CONFIRMED
    assert finding("01", "*") is Finding.CONFIRMED
    assert finding("01", "default") is Finding.CONFIRMED
    assert finding("07", "default") is Finding.CONTRADICTED  # another action names it
    assert finding("01", "missing") is Finding.CONTRADICTED
    assert finding("00", "missing") is Finding.CONFIRMED


@for_each(
    "when",
    [
        "outcome == 'verified' && @.face_match",
        "outcome == 'verified' && (@ | face_match)",
        "contains(to_string(@), 'face_match\":true')",
        "merge({x: `1`}, @).face_match",
    ],
)
def test_however_a_when_looks_at_a_fact_the_answer_must_state_it(when: str) -> None:
    event = replace(EVENT, face_match=True)
    document = {"data": {"reference": UUID, "verification_status": "VERIFIED"}}
    agreed = decide(event, document, when=when)
    assert (agreed.finding, agreed.words) == (
        Finding.ASK_AGAIN,
        "Prembly's answer does not state face_match",
    )


def test_an_answer_withstands_no_end_of_other_events() -> None:
    asked = action("act", "*", when="outcome == 'verified' && face_match != `false`")
    requirement = requirement_of(asked, webhook({}), Routing([asked]))

    def withstands(*others: Verdict) -> bool:
        answer = Verdict(outcome=Outcome.VERIFIED, reference=UUID)
        return agreement.withstands(answer, others, requirement)

    assert withstands()
    assert withstands(*[Verdict(detail=str(number)) for number in range(100)])
    assert not withstands(*[Verdict(detail=str(number)) for number in range(101)])
    assert withstands(Verdict(face_match=True), Verdict(response_code="02"))
    assert not withstands(Verdict(face_match=True), Verdict(face_match=False))


def test_a_hook_gets_the_events_facts_and_those_that_the_answer_states() -> None:
    event = payload.recognise({"session_id": "sdk_session_1", "data": {"user_ref": "u-1"}})
    document = {
        "response": {
            "session_id": "sdk_session_1",
            "verification_status": "VERIFIED",
            "face_data": {"status": True, "confidence": 97.5},
        }
    }
    agreed = decide(event, document)
    assert agreed.finding is Finding.CONFIRMED
    expected: Any = {"outcome": Outcome.VERIFIED, "face_match": True, "user_ref": "u-1"}
    assert agreed.verdict == replace(
        event, verification_status="VERIFIED", face_confidence=97.5, **expected
    )
    assert agreed.stated == ("verification_status", "outcome", "face_match", "face_confidence")


def test_a_doubted_event_is_not_talked_out_of_its_doubt() -> None:
    body = {"verification": {"reference": UUID, "status": "VERIFIED"}, "response_code": ["01"]}
    event = payload.recognise(body)
    assert event.doubt == "code"
    agreed = decide(event, {"data": {"reference": UUID, "verification_status": "VERIFIED"}})
    assert (agreed.finding, agreed.words) == (Finding.ASK_AGAIN, agreement.NO_DOUBT)
    agreed = decide(event, {"data": {"reference": UUID, "verification_status": "NOT-VERIFIED"}})
    assert agreed.finding is Finding.CONFIRMED
    assert agreed.verdict
    assert agreed.verdict.outcome is Outcome.UNKNOWN
    assert agreed.stated == ("reference", "verification_status")


@for_each(
    "doubted",
    [
        {"face_data": {"status": False}},
        {"success": False},
        {"data": {"verification": {"status": "NOT-VERIFIED"}}},
        {"event": "verification.failed"},
    ],
)
@for_each("word", ["VERIFIED", None])
def test_a_forged_doubt_rejects_nobody(doubted: dict[str, Any], word: str | None) -> None:
    body = {"verification": {"reference": UUID, "status": "VERIFIED"}, "response_code": "00"}
    event = payload.recognise(body | doubted)
    assert event.doubt
    document = {"reference": UUID, "verification_status": word, "response_code": "00"}
    agreed = decide(event, {"data": document}, when="outcome != 'verified'")
    assert (agreed.finding, agreed.words) == (Finding.ASK_AGAIN, agreement.NO_DOUBT)


def test_a_customer_reference_is_no_user_ref_to_contradict_by() -> None:
    event = Verdict(outcome=Outcome.VERIFIED, reference=UUID, user_ref="u-1")
    said = {"reference": UUID, "verification_status": "VERIFIED"}
    agreed = decide(event, {"data": {**said, "customer_reference": "order-17"}})
    assert (agreed.finding, "user_ref" in agreed.stated) == (Finding.CONFIRMED, False)
    assert agreed.verdict
    assert agreed.verdict.user_ref == "u-1"
    agreed = decide(event, {"data": {**said, "customer_reference": "u-1"}})
    assert "user_ref" in agreed.stated
    both = {**said, "customer_reference": "u-1", "data": {"widget_info": {"user_ref": "u-2"}}}
    assert decide(event, {"data": both}).finding is Finding.CONTRADICTED


def test_an_event_and_an_answer_that_do_not_fit_together_contradict_and_are_not_quoted() -> None:
    event = Verdict(response_code="01", reference=UUID)
    assert found(event, code=None) == (
        Finding.CONTRADICTED,
        "Prembly's answer and the event do not fit together: VERIFIED and another code than 00",
    )
    event = Verdict(face_match=False, reference=UUID)
    assert found(event)[0] is Finding.CONTRADICTED
    event = Verdict(response_code="22123456789", outcome=Outcome.VERIFIED, reference=UUID)
    finding, words = found(event)
    assert (finding, "22123456789" in words) == (Finding.CONTRADICTED, False)


@for_each("reference", ["ver_document_00012345", "1234567", "ver_abc", UUID])
def test_a_reference_that_is_sent_as_a_sessions_id_contradicts(reference: str) -> None:
    event = payload.recognise({"session_id": reference, "verification": {"status": "VERIFIED"}})
    for name in ("reference", "verification_id"):
        document = {"data": {name: reference.replace("-", "_"), "verification_status": "VERIFIED"}}
        if reference != UUID:
            document["data"][name] = reference
        agreed = decide(event, document)
        assert (agreed.finding, agreed.words) == (
            Finding.CONTRADICTED,
            "what the event calls a session is a reference at Prembly",
        )


NAMES = st.sampled_from(["data", "response", "session", "verification", "status", "reference"])
DOCUMENTS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text("abc01", max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4),
)


@given(DOCUMENTS)
def test_no_answer_raises_and_none_without_a_word_of_prembly_confirms(document: Any) -> None:
    if isinstance(document, dict):
        assert decide(EVENT, document).finding is not Finding.CONFIRMED
