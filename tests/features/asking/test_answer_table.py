"""Each row of the table by which Prembly's answer is judged: what it means for an event that says
one thing when Prembly answers another; and README's recipe beside answers of very many shapes.
What becomes of the delivery by each finding is in test_confirm.py."""

from typing import Any

from premblyd.features.asking import agreement
from premblyd.features.asking.agreement import Finding
from premblyd.prembly import payload
from tests.features.asking.test_agreement import README, decide
from tests.support.rows import for_each

UUID = "0b7c9f1d-1111-4222-8333-44445555666a"
OTHER_UUID = "11111111-1111-4111-8111-111111111111"
VER = "ver_document_w_face_0042"
SESSION = "sdk_session_0123456789"
RUNS, DEAD, WAITS = Finding.CONFIRMED, Finding.CONTRADICTED, Finding.ASK_AGAIN
SETTLED, STILL_OPEN = Finding.SETTLED_SINCE, Finding.STILL_OPEN
QUESTION_FAILED = "Prembly's answer says that the question failed"
DOUBTED = "Prembly's answer does not agree with itself:"
IT = "Prembly's answer"
ANOTHER_USER, NOT_TAKEN = "names another user_ref than the event", "which the action does not take"
NOT_FOR = "`when` is false for what Prembly's answer says"

Says = dict[str, Any]
Row = tuple[Says, Any, str]  # what the event says, what Prembly answers, and the words for that


def says(word: Any = None, code: Any = None, **more: Any) -> Says:
    """Return what an event or an answer states, beside its names."""
    return {"verification": {"status": word}, "response_code": code, **more}


VERIFIED, NO, PENDING = says("VERIFIED", "00"), says("NOT-VERIFIED", "01"), says("PENDING", "02")
NOTHING, ONLY_00, ONLY_01, ONLY_02 = says(), says(None, "00"), says(None, "01"), says(None, "02")
ONLY_03, ONLY_07, NOT_VERIFIED = says(None, "03"), says(None, "07"), says("NOT-VERIFIED")
FACE, NO_FACE = {"face_data": {"status": True}}, {"face_data": {"status": False}}
OF_SESSION = VERIFIED | {"reference": None, "session_id": SESSION}


def named(stated: Says, **more: Any) -> Says:
    """Return an answer about the event's verification."""
    return {"status": True, "data": {"reference_id": UUID, **stated, **more}}


def failed(stated: Says) -> Says:
    """Return an answer whose envelope says no."""
    return {**named(stated), "status": False}


# By what it means.
ROWS: dict[Finding, list[Row]] = {
    RUNS: [
        (VERIFIED, named(VERIFIED), ""),
        (VERIFIED, named(says("VERIFIED")), ""),
        (VERIFIED, named(VERIFIED, reference=OTHER_UUID), ""),  # ours among others
        (OF_SESSION, {"response": {"session_id": SESSION, **VERIFIED}}, ""),
        (NO, named(NOT_VERIFIED), ""),
        (NO, failed(NOT_VERIFIED), ""),
        (NOTHING, named(VERIFIED), ""),
        (ONLY_00, named(VERIFIED), ""),
        (ONLY_01, named(ONLY_01), ""),
        (ONLY_07, named(ONLY_07), ""),
        (ONLY_07, failed(ONLY_07), ""),
    ],
    DEAD: [
        (
            VERIFIED,
            {"data": {"reference": OTHER_UUID, **VERIFIED}},
            f"{IT} is about another reference",
        ),
        (
            VERIFIED | {"session_id": SESSION},
            named(VERIFIED, session_id="sdk_session_other"),
            f"{IT} is about another session",
        ),
        (ONLY_01, named(ONLY_07), f"{IT} says code 07, the event 01"),
        (VERIFIED, named(NOT_VERIFIED), f"{IT} says outcome not_verified, the event verified"),
        (ONLY_01 | FACE, named(NO | NO_FACE), f"{IT} says face_match false, the event true"),
        *(
            (event | {"user_ref": "a"}, named(event, user_ref="b"), f"{IT} {ANOTHER_USER}")
            for event in (VERIFIED, PENDING)
        ),
    ],
    WAITS: [
        (VERIFIED, {"data": VERIFIED}, agreement.NO_NAME),
        (VERIFIED, {"data": {"reference": VER, **VERIFIED}}, agreement.NO_NAME),
        (OF_SESSION, {"data": {"reference": VER, **VERIFIED}}, agreement.NO_NAME),
        (VERIFIED, named({}), agreement.NO_VERDICT),
        (VERIFIED, failed(VERIFIED), QUESTION_FAILED),
        (ONLY_01, failed(ONLY_07), QUESTION_FAILED),
        (says(None, "05"), failed(says(None, "05")), QUESTION_FAILED),
        (VERIFIED, named(says("VERIFIED", "07")), f"{DOUBTED} code"),
        (VERIFIED, named(VERIFIED, status="processing"), f"{DOUBTED} status"),
        (VERIFIED, named(PENDING), agreement.NOT_YET),
        (NO, named(ONLY_02), agreement.NOT_YET),
        (VERIFIED, named(ONLY_03), agreement.NOT_YET),
        *(
            (event, named(stated), words)
            for event in (NOTHING, says("COMPLETED"), says(True), ONLY_00)
            for stated, words in [
                (says("PENDING"), agreement.NOT_YET),
                (ONLY_02, agreement.NOT_YET),
                (says("processing"), agreement.NOT_YET),
                (says(None, None, status="queued"), agreement.NOT_YET),
                (says(None, "00", status="processing"), agreement.NOT_YET),
                (ONLY_00, agreement.NO_RESULT),
                (says(True, "00"), agreement.NO_RESULT),
                (says("COMPLETED"), agreement.NO_RESULT),
                (NOTHING, agreement.NO_VERDICT),
                (NOTHING | FACE, agreement.NO_RESULT),
            ]
        ),
        (says(None, "99"), named(says(None, "99")), agreement.NO_RESULT),
        (NOTHING, named(ONLY_01), agreement.NO_RESULT),
        (says("DECLINED", "01"), named(ONLY_01), agreement.NO_RESULT),
        (NO, named(ONLY_01), agreement.NO_RESULT),
        (ONLY_03, named(ONLY_03), agreement.NOT_YET),
        (PENDING, named(ONLY_00), agreement.NO_VERDICT),
        (PENDING, named(says("DECLINED")), agreement.NO_VERDICT),
    ],
    SETTLED: [
        (event, named(stated), agreement.SETTLED_SINCE)
        for event in (PENDING, ONLY_02, ONLY_03)
        for stated in (VERIFIED, NO, ONLY_01, ONLY_07)
    ],
    STILL_OPEN: [
        (PENDING, named(PENDING), agreement.STILL_OPEN),
        (ONLY_02, named(ONLY_02), agreement.STILL_OPEN),
        (says("PENDING"), named(ONLY_02), agreement.STILL_OPEN),
        (PENDING, named(says(), status="processing"), agreement.STILL_OPEN),
    ],
}
NO_RISK = {"when": "risk_level != 'high'"}
STRICT = {"when": "outcome == 'verified' && face_match"}
UNSTATED: dict[str, Any] = {"unstated": ["response_code", "verification_status", "status"]}
TRUE_FACE = VERIFIED | FACE
# What the action asks, beside such a row: its codes, and its other settings.
ASKED: list[tuple[str, dict[str, Any], Finding, Row]] = [
    ("00 missing", {}, DEAD, (NOT_VERIFIED, named(NO), f"{IT} says code 01, {NOT_TAKEN}")),
    ("missing", {}, RUNS, (says("VERIFIED"), named(VERIFIED), "")),
    ("00", {}, RUNS, (VERIFIED, named(says("VERIFIED")), "")),
    ("*", NO_RISK, DEAD, (VERIFIED, named(VERIFIED, risk_level="high"), NOT_FOR)),
    ("*", NO_RISK, DEAD, (PENDING, named(PENDING, risk_level="high"), NOT_FOR)),
    ("*", STRICT, WAITS, (TRUE_FACE, named(VERIFIED), f"{IT} does not state face_match")),
    (
        "*",
        STRICT | {"confirm": {"unstated": ["face_match"]}},
        RUNS,
        (TRUE_FACE, named(VERIFIED), ""),
    ),
    ("*", STRICT, RUNS, (TRUE_FACE, named(TRUE_FACE), "")),
    ("*", {"confirm": UNSTATED}, WAITS, (ONLY_00, named(ONLY_00), agreement.NO_RESULT)),
]


def judged(row: Row, codes: str = "*", **keys: Any) -> tuple[Finding, str]:
    """Return what the answer of a row means for its event."""
    arrived = payload.recognise({"reference": UUID, **row[0]})
    agreed = decide(arrived, row[1], codes=tuple(codes.split()), **keys)
    return agreed.finding, agreed.words


@for_each(("finding", "row"), [(finding, row) for finding, rows in ROWS.items() for row in rows])
def test_an_answer_means_what_the_table_says(finding: Finding, row: Row) -> None:
    assert judged(row) == (finding, row[-1])


@for_each(("codes", "keys", "finding", "row"), ASKED)
def test_the_action_asks_too(codes: str, keys: dict[str, Any], finding: Finding, row: Row) -> None:
    assert judged(row, codes, **keys) == (finding, row[-1])


def test_names_reference_false_takes_what_names_nothing_or_by_another_kind_of_id() -> None:
    for row in ROWS[WAITS][:3]:
        assert judged(row, names_reference=False) == (RUNS, "")
    assert judged(ROWS[DEAD][0], names_reference=False)[0] is DEAD


REF = "r-1"
WORDS: dict[str, Any] = {"verification_status": "VERIFIED", "response_code": "00"}
OK = {"reference": REF, **WORDS}
WEBHOOK = {"verification": {"reference": REF, "status": "VERIFIED"}, "response_code": "00"}


def data(**more: Any) -> dict[str, Any]:
    """Return an answer with `data` that says VERIFIED, changed so."""
    return {"status": True, "message": "Request successful.", "data": OK | more}


# Of an event that says VERIFIED and 00, with a face that matches and a user_ref.
WAYS: dict[str, tuple[Any, Finding]] = {
    # It agrees.
    "the same": (data(), RUNS),
    "the same and a face": (data(**FACE), RUNS),
    "a face beside data": ({**data(), **FACE}, RUNS),
    "a user_ref beside data": ({**data(), "widget_info": {"user_ref": "u-1"}}, RUNS),
    "the webhook in data": ({"status": True, "data": WEBHOOK}, RUNS),
    "a list of one": ({"status": True, "data": [OK]}, RUNS),
    "in response": ({"status": True, "response": OK}, RUNS),
    "in data.session": ({"status": True, "data": {"session": OK}}, RUNS),
    "in data.data": ({"status": True, "data": {"data": WEBHOOK, "reference": REF}}, RUNS),
    "no code": (data(response_code=None), RUNS),
    "the envelope's own 00": ({"response_code": "00", "data": OK}, RUNS),
    "a word twice": ({**data(), "verification_status": "VERIFIED"}, RUNS),
    "another name beside it": (data(verification_id="11111111-1111-4111-8111-111111111111"), RUNS),
    "a face in other words": (data(face_data={"Status": "Matched", "response_code": "00"}), RUNS),
    # It says nothing, or not yet.
    "an empty object": ({}, WAITS),
    "empty data": ({"status": True, "message": "Request successful.", "data": {}}, WAITS),
    "a list of two": ({"status": True, "data": [OK, OK]}, WAITS),
    "processing": ({"status": "processing"}, WAITS),
    "not found by code": ({"status": True, "response_code": "01", "message": "No"}, WAITS),
    "only its name": ({"status": True, "data": {"reference": REF}}, WAITS),
    "no name": ({"status": True, "data": WORDS}, WAITS),
    "PENDING": (data(verification_status="PENDING", response_code="02"), WAITS),
    "00 and no word": (data(verification_status=None), WAITS),
    # It does not agree with itself.
    "the envelope says no": ({**data(), "status": False}, WAITS),
    "no success": ({**data(), "success": "false"}, WAITS),
    "an inner status is the other word": (data(status="NOT-VERIFIED"), WAITS),
    "another word in data.verification_response": (
        data(verification_response={"verification": {"status": "NOT-VERIFIED"}}),
        WAITS,
    ),
    "face false": (data(**NO_FACE), WAITS),
    "one face yes, one no": ({**data(**FACE), **NO_FACE}, WAITS),
    "VERIFIED and 07": (data(response_code="07"), WAITS),
    "a list for a code": (data(response_code=["00"]), WAITS),
    "two words": ({**data(), "verification_status": "NOT-VERIFIED"}, WAITS),
    "a face deep inside": (data(verification={"face_data": {"status": False}}), WAITS),
    "a list of two beside it": ({**OK, "data": [FACE, NO_FACE]}, WAITS),
    # It says something else.
    "NOT-VERIFIED": (data(verification_status="NOT-VERIFIED"), DEAD),
    "the webhook says NOT-VERIFIED": (
        {"data": WEBHOOK | {"verification": {"reference": REF, "status": "NOT-VERIFIED"}}},
        DEAD,
    ),
    "07 and no word": (data(verification_status=None, response_code="07"), DEAD),
    "another reference": (data(reference="other-1"), DEAD),
    "another user_ref": (data(user_ref="somebody-else"), DEAD),
    "another user_ref beside data": (
        {**data(), "widget_info": {"user_ref": "somebody-else"}},
        DEAD,
    ),
}
# Of an event that says VERIFIED and neither code nor face.
THIN_WAYS: dict[str, tuple[Any, Finding]] = {
    "the same": (data(response_code=None), RUNS),
    "00 and a face": (data(**FACE), RUNS),
    "face false": (data(**NO_FACE), WAITS),
    "face false, beside data": ({**data(), **NO_FACE}, WAITS),
    "07": (data(response_code="07"), WAITS),
    "07 and no word": (data(verification_status=None, response_code="07"), DEAD),
    "no word, and a no": (data(verification_status=None, is_verified=False), WAITS),
    "face false and no word": (data(verification_status=None, **NO_FACE), DEAD),
}


WHOLE = says("VERIFIED", "00", **FACE, user_ref="u-1", session_id=SESSION)


@for_each(
    ("event", "keys", "ways"),
    [(WHOLE, README, WAYS), (says("VERIFIED"), README, THIN_WAYS)],
)
def test_readmes_recipe_runs_for_what_confirms_it_in_whatever_shape_and_for_nothing_else(
    event: Says, keys: dict[str, Any], ways: dict[str, tuple[Any, Finding]]
) -> None:
    arrived = payload.recognise({"reference": REF, **event})
    assert arrived.doubt in (None, "")
    found = {name: decide(arrived, answer, **keys).finding for name, (answer, _) in ways.items()}
    assert found == {name: finding for name, (_, finding) in ways.items()}
