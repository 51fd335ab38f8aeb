"""What a body says, for every shape Prembly has sent, and that no body breaks the reading."""

import copy
import json
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Any

from premblyd.ground.expressions import Expression
from premblyd.prembly import bodies, payload
from premblyd.prembly.bodies import FieldName
from premblyd.prembly.payload import Kind, Outcome, Verdict
from tests.support.rows import for_each

PAYLOADS = Path(__file__).parents[2] / "payloads"
EXPECTED = json.loads((PAYLOADS / "expected.json").read_text())

# The contract's table "Verdict fields", spelled out: where each field may be, in order.
PLACES = {
    "response_code": "response_code responseCode data.response_code data.responseCode"
    " verification.response_code",
    "status": "status data.status",
    "detail": "detail message data.detail data.message",
    "verification_status": "verification.status data.verification.status verification_status"
    " verificationStatus data.verification_status data.data.verification.status",
    "reference": "verification.reference data.verification.reference reference data.reference"
    " referenceId data.verification_response.reference",
    "user_ref": "widget_info.user_ref data.widget_info.user_ref data.data.widget_info.user_ref"
    " user_info.user_ref user_ref data.user_ref customer_reference data.customer_reference",
    "session_id": "session_id data.session_id data.widget_info.session_id"
    " data.data.widget_info.session_id widget_info.session_id",
    "face_match": "face_data.Status face_data.status data.face_data.Status data.face_data.status"
    " data.data.face_data.Status data.data.face_data.status",
    "face_confidence": "face_data.confidence data.face_data.confidence"
    " data.biometric_results.average_confidence",
    "risk_level": "data.screening_result.risk_level screening_result.risk_level data.risk_level"
    " risk_level",
    "risk_score": "data.screening_result.risk_score screening_result.risk_score data.risk_score"
    " risk_score",
}
NOT_NULL = ("status", "face_match", "face_confidence", "risk_score")  # false is an answer there
FALSE: list[Any] = [None, False, "", [], {}]  # what JMESPath's || skips
TWO_VALUES: dict[str, tuple[Any, Any]] = {
    **dict.fromkeys(PLACES, ("first", "second")),
    "face_match": (True, False),
    "face_confidence": (97.5, 0.25),
    "risk_score": (75, 0.25),
}
ALONE = [(field, place) for field, places in PLACES.items() for place in places.split()]
PAIRS = [
    (field, *pair)
    for field, places in PLACES.items()
    if field != "face_match"  # of which all places count: tests/core/prembly/test_doubt.py
    for pair in pairwise(places.split())
]


def document(values: dict[str, Any]) -> dict[str, Any]:
    """Build nested objects from dotted paths; a path through something else is left out."""
    root: dict[str, Any] = {}
    for path, value in values.items():
        *parents, last = path.split(".")
        place: Any = root
        for name in parents:
            place = place.setdefault(name, {}) if isinstance(place, dict) else None
        if isinstance(place, dict):
            place[last] = copy.deepcopy(value)  # a later path may lead into it
    return root


def read(values: dict[str, Any], overrides: dict[FieldName, str] | None = None) -> Verdict:
    expressions = {name: Expression(text) for name, text in (overrides or {}).items()}
    return payload.read(json.dumps(document(values)).encode(), expressions)


@for_each("name", EXPECTED)
def test_a_sample_reads_as_expected(name: str) -> None:
    assert asdict(payload.read((PAYLOADS / name).read_bytes())) == EXPECTED[name]


@for_each(("field", "place"), ALONE)
def test_a_field_is_found_in_each_place(field: str, place: str) -> None:
    for value in TWO_VALUES[field]:
        assert getattr(read({place: value}), field) == value


@for_each(("field", "place", "later"), PAIRS)
def test_the_first_place_that_says_something_wins(field: str, place: str, later: str) -> None:
    first, second = TWO_VALUES[field]
    assert getattr(read({later: second, place: first}), field) == first
    for nothing in [None] if field in NOT_NULL else FALSE:
        assert getattr(read({place: nothing, later: second}), field) == second


def test_false_is_an_answer_where_only_null_is_skipped_and_no_outcome_stands_alone() -> None:
    assert read({"status": False, "data.status": True}).status == "false"
    assert read({"face_data.confidence": 0, "data.face_data.confidence": 9}).face_confidence == 0
    assert read({"status": "VERIFIED", "response_code": "00"}).outcome is Outcome.UNKNOWN


def test_an_override_replaces_where_a_field_is_found() -> None:
    overrides: dict[FieldName, str] = {
        "reference": "data.ref",
        "verification_status": "data.result.word",
    }
    values = {"reference": "top", "data.ref": "mine", "data.result.word": "PENDING", "status": "ok"}
    verdict = read(values, overrides)
    assert (verdict.reference, verdict.outcome, verdict.status) == ("mine", Outcome.PENDING, "ok")
    assert read({"reference": "top"}, overrides).reference is None


@for_each(
    "expression", ["abs(reference)", "sum([a, b])", "[sum([a, b])]", "[&a]", "&a", "length(a)"]
)
@for_each("field", PLACES)
def test_an_override_that_finds_no_value_never_raises(field: FieldName, expression: str) -> None:
    body = b'{"reference":"x","a":' + b"9" * 4300 + b',"b":1}'  # one more digit is not printable
    verdict = payload.read(body, {field: Expression(expression)})
    assert getattr(verdict, field) in (False, None, "x")  # a face that is no clear yes is a no


@for_each(
    ("outcome", "words"),
    [
        (Outcome.VERIFIED, ["VERIFIED", "verified", "Verified"]),
        (Outcome.NOT_VERIFIED, ["NOT-VERIFIED", "NOT_VERIFIED", "not verified", "Not Verified"]),
        (Outcome.PENDING, ["PENDING", "pending"]),
        (Outcome.UNKNOWN, ["UNVERIFIED", "NOTVERIFIED", "VERIFIED!", "VERIFIED VERIFIED", "", "x"]),
        (Outcome.UNKNOWN, ["ver\u0131f\u0131ed", "VER\u0130FIED", "VERIFIED\u200b", "\ufb01"]),
        (Outcome.UNKNOWN, [True, False, None, 1, ["VERIFIED"], {"VERIFIED": True}]),
    ],
)
def test_the_outcome_is_a_whole_word(outcome: Outcome, words: list[Any]) -> None:
    for word in words:
        assert read({"verification.status": word, "response_code": "00"}).outcome is outcome


@for_each(
    ("given_code", "code"),
    [(0, "00"), (1, "01"), (10, "10"), (123, "123"), (-5, "-5"), ("00", "00"), (" 02 ", "02")]
    + [
        (value, None)
        for value in ("", "  ", "\u00a0", None, True, False, [], ["00"], {}, {"a": "00"})
    ],
)
def test_a_response_code_is_text_of_at_least_two_digits(given_code: Any, code: str | None) -> None:
    assert read({"response_code": given_code}).response_code == code


@for_each(
    ("field", "place", "value", "expected"),
    [
        ("status", "status", True, "true"),
        ("status", "status", {"a": 1}, None),
        ("detail", "detail", {"nin": ["Ünknown", 1]}, '{"nin":["Ünknown",1]}'),
        ("detail", "detail", {"a": "b" * 600}, '{"a":"' + "b" * 494),
        ("verification_status", "verification.status", "Not Verified ", "Not Verified "),
        ("reference", "reference", 17, "17"),
        ("reference", "reference", "x" * 2048, "x" * 2048),
        ("reference", "reference", "é" * 1025, None),
        ("reference", "reference", int("9" * 2049), None),
        ("face_match", "face_data.Status", " TRUE", True),
        ("face_match", "face_data.Status", "false", False),
        ("face_confidence", "face_data.confidence", "97.32", 97.32),
        *(
            ("face_confidence", "face_data.confidence", odd, None)
            for odd in (True, "1_0", "x", [1], "inf", "nan", 10**400)
        ),
    ],
)
def test_a_value_is_converted(field: str, place: str, value: Any, expected: Any) -> None:
    assert getattr(read({place: value}), field) == expected


@for_each(
    ("kind", "values"),
    [
        *((Kind.SDK, {f"{place}widget_info.a": 1}) for place in ("", "data.", "data.data.")),
        (Kind.SDK, {"data.source": "SDK"}),
        (Kind.SDK, {"source": "CHECKOUT"}),
        (Kind.API, {"source": "PORTAL", "data.source": "CHECKOUT"}),
        (Kind.API, {"widget_info": {}, "data": [{"source": "SDK"}]}),
        (Kind.API, {}),
    ],
)
def test_the_kind_is_told_from_the_widget_or_the_source(kind: Kind, values: dict[str, Any]) -> None:
    assert read(values).kind is kind


@for_each("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be", "utf-32"])
def test_every_encoding_of_json_is_read(encoding: str) -> None:
    assert payload.read('{"reference":"é"}'.encode(encoding)).reference == "é"


NOT_JSON = [b"", b"\0", b"null", b"[]", b'"x"', b"{", b"{'a': True}", b"a=1&b=2", b"\xff\xfe"]
DEEP = [b"[" * 10_000, b'{"a":' * 10_000 + b"1" + b"}" * 10_000, b'{"a":' + b"9" * 100_000 + b"}"]


@for_each("body", NOT_JSON + DEEP)
def test_a_body_that_is_no_json_object_is_raw(body: bytes) -> None:
    assert payload.read(body) == Verdict()


@for_each(
    ("body", "field", "expected"),
    [
        (b'{"reference":"a","reference":"b"}', "reference", "b"),
        (b'{"reference":"a\\ud800b"}', "reference", "a?b"),
        (b'{"detail":{"a":"\\udfff"}}', "detail", '{"a":"?"}'),
        (b'{"reference":"a\\u0000"}', "reference", "a\N{REPLACEMENT CHARACTER}"),
        (b'{"face_data":{"confidence":NaN}}', "face_confidence", None),
        (b'{"detail":' + b"[" * 600 + b"]" * 600 + b"}", "kind", Kind.API),
        (b'{"detail":"' + b"x" * 2_000_000 + b'"}', "detail", "x" * 500),
        (b'{"session_id":"' + b"x" * 2_000_000 + b'"}', "session_id", None),
    ],
)
def test_an_odd_body_is_read(body: bytes, field: str, expected: Any) -> None:
    assert getattr(payload.read(body), field) == expected


def test_what_has_more_values_than_may_be_is_not_read() -> None:
    most = bodies.MAX_VALUES - 3  # two openings and the other comma
    for extra, kind in ((0, Kind.API), (1, Kind.RAW)):
        body = b'{"response_code":"00","a":[' + b"1," * (most + extra) + b"1]}"
        assert payload.read(body).kind is kind
        assert bodies.is_too_complex(body) is (kind is Kind.RAW)


def test_a_large_body_has_no_numbers_that_take_long_to_read() -> None:
    for padding, digits, is_read in ((0, 4000, True), (bodies.LARGE_BYTES, 4000, False),
                                     (bodies.LARGE_BYTES, 500, True)):  # fmt: skip
        body = b'{"pad":"%b","n":%b}' % (b"x" * padding, b"9" * digits)
        assert (bodies.parse(body) is not None) is is_read
