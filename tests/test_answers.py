"""What an answer of Prembly's API says, and whether an event says the same."""

import json
from typing import Any
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from premblyd.expressions import Expression
from premblyd.prembly import answers, payload
from premblyd.prembly.answers import Match, Question
from premblyd.prembly.payload import Outcome, Verdict
from tests.support.prembly_api import Shape, Verification

UUID = "0b7c9f1d-1111-4222-8333-44445555666a"
EVENT = Verdict(response_code="00", outcome=Outcome.VERIFIED, reference=UUID)


def answer(**fields: Any) -> Verdict:
    fields = {"reference": UUID, **fields}
    verdict = answers.read(Verification(**fields).answer())
    assert verdict
    return verdict


def match(event: Verdict = EVENT, **fields: Any) -> tuple[str, str]:
    question = answers.question_about(event)
    assert question
    comparison = answers.compare(event, answer(**fields), question)
    return comparison.match, comparison.words


@pytest.mark.parametrize("shape", [Shape.FLAT, Shape.WEBHOOK, Shape.BARE])
def test_every_shape_of_an_answer_is_read(shape: Shape) -> None:
    verdict = answer(shape=shape, user_ref="u-1", status="NOT-VERIFIED", code="01")
    assert (verdict.reference, verdict.response_code) == (UUID, "01")
    assert (verdict.outcome, verdict.user_ref) == (Outcome.NOT_VERIFIED, "u-1")


def test_a_sessions_answer_is_read() -> None:
    verdict = answer(shape=Shape.SESSION, session_id="sdk_session_1", user_ref="u-1")
    assert (verdict.session_id, verdict.user_ref) == ("sdk_session_1", "u-1")
    assert verdict.outcome is Outcome.VERIFIED


@pytest.mark.parametrize(
    "document",
    [
        {"status": True, "message": "VERIFIED", "data": {}},
        {"status": "VERIFIED", "data": {"status": "VERIFIED"}},
        {"data": {"status": "success", "response_code": "00"}, "meta": {}},
    ],
)
def test_the_envelope_is_no_verdict(document: Any) -> None:
    verdict = answers.read(json.dumps(document).encode())
    assert verdict
    assert verdict.outcome is Outcome.UNKNOWN


def test_the_place_of_a_field_in_an_answer_can_be_said() -> None:
    body = b'{"data": {"state": {"result": "VERIFIED", "id": "r-1"}}}'
    verdict = answers.read(
        body,
        {
            "verification_status": Expression("data.state.result"),
            "reference": Expression("data.state.id"),
        },
    )
    assert verdict
    assert (verdict.outcome, verdict.reference) == (Outcome.VERIFIED, "r-1")


def test_what_is_no_json_object_says_nothing() -> None:
    assert [answers.read(body) for body in (b"", b"[]", b"<html>", b"\xff", b"[" * 100_000)] == [
        None
    ] * 5


@pytest.mark.parametrize("shape", [Shape.FLAT, Shape.WEBHOOK, Shape.BARE])
def test_an_answer_that_says_the_same_confirms(shape: Shape) -> None:
    assert match(shape=shape) == (Match.SAME, "")
    assert match(shape=shape, user_ref="u-1") == (Match.SAME, "")


def test_a_uuid_may_be_spelt_with_underscores() -> None:
    assert match(reference=UUID.replace("-", "_"))[0] == Match.SAME
    assert match(reference=UUID.replace("a", "b"))[0] == Match.OTHER


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        (
            {"status": "NOT-VERIFIED"},
            "Prembly's answer says outcome not_verified, the event verified",
        ),
        ({"reference": "other-1"}, "Prembly's answer is about another reference"),
    ],
)
def test_an_answer_that_says_something_else_contradicts(fields: dict[str, Any], words: str) -> None:
    assert match(**fields) == (Match.OTHER, words)


def test_somebody_elses_user_or_face_contradicts() -> None:
    """A forger may put a customer's user_ref to a true reference."""
    event = Verdict(
        response_code="00",
        outcome=Outcome.VERIFIED,
        reference=UUID,
        user_ref="victim",
        face_match=True,
    )
    assert match(event, user_ref="forger") == (
        Match.OTHER,
        "Prembly's answer names another user_ref than the event",
    )
    assert match(event, shape=Shape.WEBHOOK, user_ref="victim", face_match=True)[0] == Match.SAME


def test_what_prembly_does_not_know_yet_neither_confirms_nor_contradicts() -> None:
    assert match(status="PENDING", code="02")[0] == Match.OPEN
    assert match(status=None, code="02")[0] == Match.OPEN
    assert match(status=None, code="00")[0] == Match.OPEN


def test_an_answer_that_says_a_fact_differently_confirms_nothing() -> None:
    assert match(code="01")[0] == Match.OPEN
    assert match(shape=Shape.WEBHOOK, face_match=False)[0] == Match.OPEN


def test_an_answer_without_a_reference_confirms_nothing() -> None:
    question = answers.question_about(EVENT)
    assert question
    verdict = answers.read(b'{"data": {"verification_status": "VERIFIED", "response_code": "00"}}')
    assert verdict
    assert answers.compare(EVENT, verdict, question).match is Match.OTHER


def test_an_odd_code_is_not_quoted() -> None:
    event = Verdict(response_code="22123456789", outcome=Outcome.VERIFIED, reference=UUID)
    found, words = match(event)
    assert found == Match.OTHER
    assert "22123456789" not in words


def test_a_session_is_asked_for_when_there_is_no_reference() -> None:
    document = {"data": {"widget_info": {"session_id": "sdk_session_1"}}}
    event = payload.recognise(document)
    question = answers.question_about(event)
    assert question == Question(identifier="sdk_session_1", reference=None)
    assert "sdk_session_1" not in repr(question)


def test_a_session_that_was_asked_for_is_compared() -> None:
    event = Verdict(outcome=Outcome.VERIFIED, session_id="sdk_session_1", user_ref="u-1")
    asked = {"shape": Shape.SESSION, "user_ref": "u-1"}
    assert match(event, session_id="sdk_session_1", **asked)[0] == Match.SAME
    assert match(event, session_id="sdk_session_2", **asked)[0] == Match.OTHER


@pytest.mark.parametrize(
    "reference",
    [
        "",
        ".",
        "..",
        "../../logs",
        "a/b",
        "a%2fb",
        "a b",
        "a?b",
        "a#b",
        "é",
        "a" * 201,
        "a\nb",
        "a\\b",
    ],
)
def test_a_reference_that_is_no_id_is_not_asked_for(reference: str) -> None:
    assert answers.question_about(Verdict(reference=reference)) is None


@given(st.text("aZ0._:~-/%?#\\ \né", max_size=12))
def test_whatever_is_asked_for_is_one_segment_of_a_path(reference: str) -> None:
    question = answers.question_about(Verdict(reference=reference))
    if question:
        assert not set(question.path_segment) & set("/?#\\ ")
        assert not question.path_segment.startswith(".")
        assert unquote(question.path_segment) == reference


NAMES = st.sampled_from(["data", "response", "session", "verification", "status", "reference"])
DOCUMENTS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text("abc01", max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4),
)


@given(DOCUMENTS)
def test_no_answer_raises_and_none_without_a_word_of_prembly_confirms(document: Any) -> None:
    verdict = answers.read(json.dumps(document).encode())
    if verdict:
        question = answers.question_about(EVENT)
        assert question
        assert answers.compare(EVENT, verdict, question).match is not Match.SAME
