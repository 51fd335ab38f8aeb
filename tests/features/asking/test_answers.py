"""What an answer of Prembly's API states: in all places, and nothing that its envelope says."""

import json
from typing import Any
from urllib.parse import unquote

from hypothesis import given
from hypothesis import strategies as st

from premblyd.features.asking import answers
from premblyd.features.asking.answers import Question, Stated
from premblyd.ground.expressions import Expression
from premblyd.prembly import payload
from premblyd.prembly.payload import Outcome, Verdict
from tests.support.prembly_api import Shape, Verification
from tests.support.rows import for_each

UUID = "0b7c9f1d-1111-4222-8333-44445555666a"
VERIFIED = {"reference": UUID, "response_code": "00", "verification_status": "VERIFIED"}


def read(document: Any, **fields: str) -> Stated:
    places: Any = {name: Expression(text) for name, text in fields.items()}
    stated = answers.read(json.dumps(document).encode(), places)
    assert stated
    return stated


def answer(**fields: Any) -> Verdict:
    return read(json.loads(Verification(**{"reference": UUID, **fields}).answer())).verdict


@for_each("shape", [Shape.FLAT, Shape.WEBHOOK, Shape.BARE])
def test_every_shape_of_an_answer_is_read(shape: Shape) -> None:
    verdict = answer(shape=shape, user_ref="u-1", status="NOT-VERIFIED", code="01")
    assert (verdict.reference, verdict.response_code) == (UUID, "01")
    assert (verdict.outcome, verdict.user_ref) == (Outcome.NOT_VERIFIED, "u-1")


@for_each(
    "beside",
    [
        {"face_data": {"status": True}, "widget_info": {"user_ref": "u-1"}},
        {"data": VERIFIED | {"face_data": {"Status": "yes"}, "widget_info": {"user_ref": "u-1"}}},
        {"data": [VERIFIED | {"face_data": {"status": "1"}, "user_ref": "u-1"}]},
        {"data": {"data": {"face_data": {"status": "true"}}, "user_ref": "u-1"}, **VERIFIED},
        {"response": VERIFIED | {"face_data": {"response_code": "00"}, "user_ref": "u-1"}},
        {"data": {"session": VERIFIED | {"user_ref": "u-1"}, "face_data": {"status": True}}},
    ],
)
def test_what_stands_beside_data_and_within_it_is_read_too(beside: dict[str, Any]) -> None:
    verdict = read({"status": True, "data": VERIFIED} | beside).verdict
    said = (verdict.outcome, verdict.face_match, verdict.user_ref)
    assert said == (Outcome.VERIFIED, True, "u-1")


def test_00_beside_an_inner_code_says_that_the_question_was_answered() -> None:
    for outer, inner, code in (("00", "07", "07"), ("00", "", "00")):
        answered = read({"response_code": outer, "data": {"response_code": inner}})
        assert answered.verdict.response_code == code
    assert read({"response_code": "07", "data": {"response_code": "00"}}).verdict.doubt == "code"


TWICE = '{"data": %s, "data": {"verification_status": "VERIFIED"}}'


@for_each(
    "body",
    [
        '{"data": {"verification_status": "NOT-VERIFIED", "verification_status": "VERIFIED"}}',
        *(TWICE % first for first in ('"error"', "{}", "null")),
    ],
)
def test_a_key_that_an_answer_gives_twice_is_doubted(body: str) -> None:
    stated = answers.read(body.encode())
    assert stated
    assert (stated.verdict.outcome, stated.verdict.doubt) == (Outcome.UNKNOWN, "key")


def test_the_place_of_a_field_in_an_answer_can_be_said() -> None:
    stated = read(
        {"data": {"state": {"result": "VERIFIED", "id": "r-1"}, "verification_status": "x"}},
        verification_status="data.state.result",
        reference="data.state.id",
    )
    verdict = stated.verdict
    assert (verdict.outcome, verdict.reference) == (Outcome.VERIFIED, "r-1")
    assert stated.names == {"r-1"}


def test_an_answer_has_every_name_that_it_gives_the_verification() -> None:
    document = {"reference": "ver_document_1", "data": {"verification_id": UUID.upper()}}
    assert read(document).names == {"ver_document_1", payload.plain_id(UUID)}


def test_what_is_no_json_object_says_nothing() -> None:
    for body in (b"", b"[]", b"<html>", b"\xff", b"[" * 100_000):
        assert answers.read(body) is None


def test_a_session_is_asked_for_when_there_is_no_reference() -> None:
    document = {"data": {"widget_info": {"session_id": "sdk_session_1"}}}
    question = answers.question_about(payload.recognise(document))
    assert question == Question(identifier="sdk_session_1", reference=None)
    assert "sdk_session_1" not in repr(question)


@for_each(
    "reference",
    ["", ".", "..", "../../logs", "a/b", "a%2fb", "a b", "a?b", "a#b", "é", "a" * 201, "a\nb"],
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
