"""A fact that is told twice and differently is no fact: what verifies a person, what does not."""

import json
from pathlib import Path
from typing import Any

from premblyd.ground import jsontext
from premblyd.ground.expressions import Expression
from premblyd.prembly import bodies, events, payload
from premblyd.prembly.bodies import FieldName
from premblyd.prembly.payload import Outcome, Verdict
from tests.support.rows import for_each

PAYLOADS = Path(__file__).parents[2] / "payloads"
VERIFIED: dict[str, Any] = {
    "status": True,
    "response_code": "00",
    "verification": {"status": "VERIFIED", "reference": "r-1"},
}
FACES = ("face_data", "data.face_data", "data.data.face_data")


def read(values: dict[str, Any], overrides: dict[FieldName, str] | None = None) -> Verdict:
    """Read VERIFIED with other values in some places."""
    document = json.loads(json.dumps(VERIFIED))
    for path, value in values.items():
        *parents, last = path.split(".")
        place = document
        for name in parents:
            place = place.setdefault(name, {})
        place[last] = value
    expressions = {name: Expression(text) for name, text in (overrides or {}).items()}
    return payload.read(json.dumps(document).encode(), expressions)


def assert_doubted(verdict: Verdict, doubt: str) -> None:
    assert (verdict.outcome, verdict.doubt) == (Outcome.UNKNOWN, doubt)


def assert_verified(verdict: Verdict) -> None:
    assert (verdict.outcome, verdict.doubt) == (Outcome.VERIFIED, "")


@for_each("number", "01 02 10 14 15 19 24 27 31".split())
def test_what_prembly_sends_of_a_verified_person_is_verified(number: str) -> None:
    (path,) = PAYLOADS.glob(f"{number}_*.json")
    assert_verified(payload.read(path.read_bytes()))


# --- What examiners of 0.2.0 found to be called verified ------------------------------------


NO_WORDS = (
    "closed expired suspended cancelled abandoned invalid incomplete processing manual_review"
).split()
RESULTS = [False, "false", "No", "n", 0, " 0 ", "0.0", "none", "negative", -1, "-1"]
# Of each doubt: at which places which values make it, and which are silent there.
PLACES: list[tuple[str, str, list[Any], list[Any]]] = [
    (
        "code",
        "responseCode data.response_code data.responseCode verification.response_code",
        ["01"],
        [" 00 ", 0],
    ),
    (
        "code",
        "response_code",
        [["00"], True, False, {}, {"a": "00"}, 0.0, [], "0", "000", 1],
        [None, "", "  "],
    ),
    (
        "status",
        "data.verification.status verification_status verificationStatus data.verification_status"
        " data.data.verification.status",
        ["NOT-VERIFIED", "PENDING", "CANCELLED", "Verified.", " ", False, 0, ["VERIFIED"], {}],
        [None, "", True, "verified"],
    ),
    (
        "status",
        "status data.status success data.success state data.state data.final_status kyc_status",
        [False, "False", "failed", "ERROR", "pending", "Manual Review", *NO_WORDS],
        [True, 0, None, "", "success", "active", "Lagos", "00", {"a": False}],
    ),
    (
        "status",
        "passed data.approved isApproved is_passed data.match",
        RESULTS,
        [True, "yes", 1, 0.98, "0.7", None, "", "00", {"a": False}, [], "-"],
    ),
    (
        "status",
        "rejected data.rejected is_rejected",
        [True, "true", "Yes", 1],
        [False, "no", 0, None, "", [], "reasons"],
    ),
    (
        "face",
        "is_live data.liveness face_verified data.selfie_match face_match face_data.match"
        " data.biometric_results.face_match",
        RESULTS,
        [None, "", {}],
    ),
    ("face", "face_data", [False, "failed", 0, [], ["x"]], [{"Status": None}, {"confidence": 1}]),
    (
        "type",
        "event data.event",
        [
            *("fraud.identity_flagged", "completed", "Verification completed", True, ["a"], 17),
            *("prembly.status", "verification.failed"),
        ],
        ["verification.completed", "sdk.session", "", None],
    ),
]


@for_each(("doubt", "places", "doubted", "silent"), PLACES)
def test_what_does_not_fit_at_any_place_verifies_nobody(
    doubt: str, places: str, doubted: list[Any], silent: list[Any]
) -> None:
    for place in places.split():
        for value in doubted:
            assert_doubted(read({place: value}), doubt)
        for value in silent:
            assert_verified(read({place: value}))


def test_an_unknown_event_name_keeps_its_own_type() -> None:
    assert read({"event": "fraud.identity_flagged"}).type == "fraud.identity_flagged"
    assert read({"event": "Verification completed"}).type == events.OTHER
    silent = {"event": "fraud.identity_flagged", "verification.status": "NOT-VERIFIED"}
    assert (read(silent).outcome, read(silent).doubt) == (Outcome.UNKNOWN, "")


def test_an_event_of_another_kind_has_no_outcome_and_nothing_to_doubt() -> None:
    verdict = read({"event": "workflow.process.completed", "response_code": "01"})
    assert (verdict.outcome, verdict.doubt) == (Outcome.UNKNOWN, "")


NO_YES = ["failed", 0, "no", "not match", False, [], ["true"], 2, " ", "x"]
OTHER_CODES = ["01", 1, "99", True, ["00"], {"a": 1}]


@for_each("face", FACES)
@for_each(
    ("name", "values"), {"Status": NO_YES, "status": NO_YES, "response_code": OTHER_CODES}.items()
)
def test_a_face_that_is_no_yes_verifies_nobody(face: str, name: str, values: list[Any]) -> None:
    for value in values:
        verdict = read({f"{face}.{name}": value})
        assert_doubted(verdict, "face")
        assert verdict.face_match is False, value


@for_each("face", FACES)
def test_a_clear_yes_is_a_match(face: str) -> None:
    for value in (True, 1, "1", "true", "Yes", "MATCH", "matched", "Successful", "verified"):
        verdict = read({f"{face}.Status": value, f"{face}.response_code": "00"})
        assert_verified(verdict)
        assert verdict.face_match is True


def test_a_face_that_says_nothing_is_silent_and_its_code_speaks_alone() -> None:
    for value in (None, "", {}, {"Status": None, "response_code": ""}, {"confidence": 1}):
        assert read({"face_data": value}).face_match is None
    assert read({"face_data.response_code": "00"}).face_match is True
    no = {"verification.status": "NOT-VERIFIED", "face_data.response_code": "01"}
    assert read(no).face_match is False


@for_each("face", FACES[1:])
@for_each("value", ["x", " ", ["x"], [], 1.5, False])
def test_one_yes_of_a_face_beside_one_that_is_no_object_is_no_match(face: str, value: Any) -> None:
    for word in ("VERIFIED", True):
        verdict = read({"verification.status": word, "face_data.Status": True, face: value})
        assert verdict.outcome is Outcome.UNKNOWN
        assert verdict.face_match is False


KEYS_TWICE = [
    '{"verification":{"status":"NOT-VERIFIED","status":"VERIFIED"}}',
    '{"verification":{"status":"VERIFIED","status":"VERIFIED"}}',
    '{"verification":{"status":"VERIFIED","s\\u0074atus":"VERIFIED"}}',
    '{"verification":{"status":"NOT-VERIFIED"},"verification":{"status":"VERIFIED"}}',
    '{"response_code":"01","verification":{"status":"VERIFIED"},"response_code":"00"}',
    '{"verification":{"status":"VERIFIED"},"face_data":{"Status":false,"Status":true}}',
    '{"verification":{"status":"VERIFIED"},"event":"fraud.flagged","event":""}',
    '{"verification":{"status":"VERIFIED"},"data":{"data":{},"data":{}}}',
]


@for_each("padding", [0, bodies.LARGE_BYTES])
@for_each("body", KEYS_TWICE)
def test_a_key_that_is_given_twice_verifies_nobody(body: str, padding: int) -> None:
    assert_doubted(payload.read(body.encode() + b" " * padding), "key")


def test_a_key_that_is_given_twice_elsewhere_is_none_of_these() -> None:
    for more in ('"detail":1,"detail":2', '"list":[{"status":1,"status":2}]', '"a":{"b":1,"b":2}'):
        assert_verified(payload.read(b'{"verification":{"status":"VERIFIED"},%b}' % more.encode()))


# --- A no, wherever it stands ---------------------------------------------------------------


@for_each(
    ("place", "no", "doubt"),
    [
        ("data.verification.face_data", {"status": False}, "face"),
        ("face_data.match", False, "face"),
        ("FACE_DATA", {"STATUS": "x"}, "face"),
        ("data.biometric_results.face_match", 0, "face"),
        ("verification.face_data.response_code", "01", "face"),
        ("data.applicant.checks", [{"deep": {"face_data": {"status": "not match"}}}], "face"),
        ("data.outcome", "declined", "status"),
        ("data", [{}, {"status": "failed"}], "status"),
        ("data.data.status", False, "status"),
        ("data.verification_response", {"verification": {"status": "CANCELLED"}}, "status"),
        ("data.Verification_Status", "not_verified", "status"),
        ("data.results", [{"response-code": 1}], "code"),
    ],
)
def test_a_no_counts_wherever_it_stands_and_a_yes_does_not(place: str, no: Any, doubt: str) -> None:
    assert_doubted(read({place: no}), doubt)
    assert read({place: no, "verification.status": "CANCELLED"}).outcome is Outcome.UNKNOWN
    yes = {"verification": {"status": True}, "data.data.Verification.Status": "VERIFIED"}
    assert read({**yes, "faceData": {"status": True}}).face_match is None
    assert read(yes).outcome is Outcome.UNKNOWN


def test_what_is_about_another_thing_is_no_doubt() -> None:
    """A company, an address, a phone, and pictures that are compared, speak of themselves."""
    for place, value in {
        "data.status": "INACTIVE",
        "data.company_status": "DISSOLVED",
        "data.directors": [{"status": False, "response_code": "01"}],
        "data.phone": {"verification_status": "NOT-VERIFIED", "is_verified": False},
        "data.address.response": {"status": "failed", "response_code": "02"},
        "data.images": {"face_data": "iVBORw0KGgo", "faceMatch": 97.5},
        "data.biometric_results": {"comparison_result": [{"result": {"status": False}}]},
        "data.watchListed": "NO",
        "session": {},
        "billing_status": False,
    }.items():
        assert_verified(read({place: value}))


# --- How doubts are told --------------------------------------------------------------------


def test_doubts_are_told_in_one_order_and_quote_nothing() -> None:
    body = (
        '{"event":"hush.a","face_data":{"status":"hush"},"response_code":"99","success":"error",'
        '"verification":{"status":"VERIFIED"},"verification":{"status":"VERIFIED"}}'
    )
    assert_doubted(payload.read(body.encode()), "status,code,face,type,key")


def test_without_verified_nothing_is_doubted() -> None:
    for word in ("NOT-VERIFIED", "PENDING", "CANCELLED", None, True):
        verdict = read({"verification.status": word, "face_data.status": "no"})
        assert verdict.doubt == ""
        assert verdict.outcome is not Outcome.VERIFIED
    pending = read({"verification.status": "PENDING", "response_code": "02"})
    assert pending.outcome is Outcome.PENDING


def test_a_status_that_acknowledges_leaves_the_word_to_the_next_place_that_speaks() -> None:
    for word, outcome in (("VERIFIED", Outcome.VERIFIED), ("NOT-VERIFIED", Outcome.NOT_VERIFIED)):
        verdict = read({"verification.status": True, "verification_status": word})
        assert (verdict.outcome, verdict.verification_status) == (outcome, word)
    words = {"data.verification_status": "CANCELLED", "verificationStatus": "PENDING"}
    assert read({"verification.status": True, **words}).verification_status == "PENDING"


# --- Where an operator says where a fact is found -------------------------------------------


def test_an_operators_place_replaces_all_places_of_that_fact() -> None:
    wrong = {"responseCode": "01", "face_data.Status": "failed", "success": False, "a": "ok"}
    overrides: dict[FieldName, str] = {
        "response_code": "response_code",
        "face_match": "data.face_match",
        "status": "a",
    }
    assert_doubted(read(wrong), "status,code,face")
    assert_verified(read(wrong, overrides))
    assert_doubted(read(wrong | {"data.face_match": "mismatch"}, overrides), "face")
    assert_doubted(read(wrong | {"a": "failed"}, overrides), "status")
    words: dict[FieldName, str] = {"verification_status": "data.word"}
    assert_verified(read({"verification.status": "CANCELLED", "data.word": "VERIFIED"}, words))
    assert read({"data.word": "CANCELLED"}, words).outcome is Outcome.UNKNOWN


def test_a_key_given_twice_counts_where_an_operator_looks_for_it() -> None:
    overrides = {"face_match": Expression("data.checks[0].face")}
    body = b'{"verification":{"status":"VERIFIED"},"data":{"checks":[{"face":0,"face":true}]}}'
    assert_doubted(payload.read(body, overrides), "key")  # type: ignore[arg-type]
    assert_verified(payload.read(body))
    elsewhere = b'{"verification":{"status":"VERIFIED"},"face_data":{"Status":0,"Status":1}}'
    assert_verified(payload.read(elsewhere, overrides))  # type: ignore[arg-type]


def test_an_object_that_repeats_a_key_is_an_object_to_all_else() -> None:
    document = bodies.parse(b'{"a":{"b":1,"b":2},"c":[]}')
    assert document == {"a": {"b": 2}, "c": []}
    assert jsontext.dumps(document) == b'{"a":{"b":2},"c":[]}'
    assert Expression("type(a)").search(document) == "object"
    assert Expression("keys(a)").search(document) == ["b"]
