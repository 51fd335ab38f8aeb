"""Comparisons that can't be what their author meant are refused, with what to write instead."""

from pathlib import Path

import pytest

from premblyd.config.load import parse_config
from premblyd.config.secrets import SecretPlaces
from premblyd.config.values import selecting
from premblyd.ground.errors import ConfigError
from premblyd.ground.expressions import ExpressionError
from tests.support.rows import for_each

REFUSED = {
    # literals without their backticks, and texts in their place
    "face_match != false": "backticks, `false`",
    'face_match == "false"': "backticks, `false`",
    "face_match > `0`": "is never true",
    "face_confidence > '90'": "is never true: face_confidence is a number or `null`; write `90`",
    # other types than the name has
    "response_code == `0`": "is never true: response_code is text or `null`; write '00'",
    "body == 'x'": "body is an object or `null`",
    "outcome == `null`": "outcome is one of 'verified', 'not_verified', 'pending', 'unknown'",
    "outcome == 'verified' && face_match == `false`": "is never true: a face that does not match"
    " verifies nobody, so the outcome is unknown; write verification_status == 'VERIFIED' &&"
    " face_match == `false`",
    "user_ref && (`false` == face_match && kind) && 'verified' == outcome": "is never true",
    "outcome == 'verified' && response_code == '01'": "another code than 00 verifies nobody",
    "outcome == 'verified' && doubt == 'face'": "a body with a doubt verifies nobody",
    "length(reference) > '3'": "length(…) is a number; write `3`",
    # words that the name never is
    "outcome == 'VERIFIED'": "write 'verified'",
    "outcome == 'NOT-VERIFIED'": "write 'not_verified'",
    "kind == 'SDK'": "write 'sdk'",
    "contains(['VERIFIED', 'pending'], outcome)": "write 'verified'",
    'contains(`["verified", "PENDING"]`, outcome)': "write 'pending'",
    "verified_by == 'live'": "'hmac-sha256:live'",
    "type == 'SDK'": "type == 'SDK' is never true: no event has such a type",
    "risk_score == '75'": "risk_score is a number or `null`; write `75`",
    # true for the opposite too
    "contains(outcome, 'verified')": "is true for 'not_verified' too; write outcome == 'verified'",
    "contains(face_match, 'true')": "always fails",
    "outcome == 'verified' || 'pending'": "write … || outcome == 'pending'",
    # as part of more
    "response_code == '00' && (status || face_match != 'false')": "face_match != 'false'",
    "not_null(body.a, outcome == 'VERIFIED')": "write 'verified'",
}
TAKEN = [
    "type == 'sdk.session' || type == 'credit' || type == 'case.opened'",
    "type == 'transaction.procesed'",  # a name that Prembly may send; `check` warns of it
    "starts_with(type, 'transaction.') && contains(type, 'escalated') && risk_level == 'high'",
    "contains(['sdk.session', 'prembly.status'], type) && verified_by == 'prembly-api'",
    "face_match != `false`",
    "outcome == 'verified' || face_match == `false`",
    "outcome == 'verified' && !(face_match == `false`)",
    "verification_status == 'VERIFIED' && face_match == `false`",
    "doubt && contains(doubt, 'face')",
    "face_confidence == `97.5` || face_confidence == `null`",
    "outcome == 'not_verified' || outcome == 'pending'",
    "contains(['verified', 'pending'], outcome)",
    "starts_with(outcome, 'not')",
    "contains(verification_status, 'VERIFIED')",
    "verified_by == 'hmac-sha256:live' || verified_by == 'public-key:live'",
    'body == `{"a": 1}`',
    "body.face_match != 'false' && body.outcome == 'VERIFIED' && body.kind == `1`",
    "body.list[?outcome == 'VERIFIED'].face_match == 'false'",
    "sort_by(body.a, &(outcome == 'VERIFIED'))",
    "body | outcome == 'VERIFIED'",
    "to_number(status) > `1` && type(body.a) == 'array'",
    "outcome == 'verified' && 'yes' || 'no'",
]


@for_each("text", REFUSED)
def test_what_has_one_answer_for_every_event_is_refused_with_what_to_write(text: str) -> None:
    with pytest.raises(ExpressionError) as raised:
        selecting(text)
    assert REFUSED[text] in str(raised.value)


@for_each("text", TAKEN)
def test_what_may_be_true_is_taken(text: str) -> None:
    selecting(text)


def problems(action: str) -> list[str]:
    path = Path("/nowhere/premblyd.yaml")
    text = (
        "database: sqlite:///x.db\n"
        "endpoints: [{name: p, path: /p, keys: {live: a-key}}]\n"
        f"actions:\n  - {{name: a, response_codes: ['*'], {action}}}\n"
    )
    with pytest.raises(ConfigError) as raised:
        parse_config(text, path, SecretPlaces(path.parent, {}))
    return [str(problem) for problem in raised.value.problems]


def test_the_configuration_refuses_it_with_its_place() -> None:
    (problem,) = problems("""shell: "true", when: "face_match != 'false'" """)
    assert problem.startswith("/nowhere/premblyd.yaml:4:59: face_match != 'false' is always true")
    select = """http: {url: "http://x/", send: {select: "{a: outcome == 'VERIFIED'}"}}"""
    (problem,) = problems(select)
    assert "outcome == 'VERIFIED' is never true" in problem
