"""Each row of the table by which Prembly's answer is judged: what it means for an event that says
one thing when Prembly answers another; and README's recipe beside answers of very many shapes.
What becomes of the delivery by each finding is in test_confirm.py."""

from typing import Any

from premblyd.prembly import agreement, payload
from premblyd.prembly.agreement import Finding
from tests.support.rows import for_each
from tests.test_agreement import README, decide

UUID = "0b7c9f1d-1111-4222-8333-44445555666a"
OTHER_UUID = "11111111-1111-4111-8111-111111111111"
VER = "ver_document_w_face_0042"
SESSION = "sdk_session_0123456789"
RUNS, DEAD, WAITS = Finding.CONFIRMED, Finding.CONTRADICTED, Finding.ASK_AGAIN
SETTLED, STILL_OPEN = Finding.SETTLED_SINCE, Finding.STILL_OPEN
QUESTION_FAILED = "Prembly's answer says that the question failed"
DOUBTED = "Prembly's answer does not agree with itself: code"
NOT_FOR = "`when` is false for what Prembly's answer says"

Says = dict[str, Any]
Row = tuple[Says, Any, Finding, str]


def says(word: Any = None, code: Any = None, **more: Any) -> Says:
    """Return what an event or an answer states, beside its names."""
    return {"verification": {"status": word}, "response_code": code, **more}


VERIFIED, NO, PENDING = says("VERIFIED", "00"), says("NOT-VERIFIED", "01"), says("PENDING", "02")
FACE, NO_FACE = {"face_data": {"status": True}}, {"face_data": {"status": False}}


def named(stated: Says, **more: Any) -> Says:
    """Return an answer about the event's verification."""
    return {"status": True, "data": {"reference_id": UUID, **stated, **more}}


# By the rows of the table, in their order: what the event says, what Prembly answers, what that
# means, and in which words.
ABOUT: dict[str, Row] = {
    "another UUID": (
        VERIFIED,
        {"data": {"reference": OTHER_UUID, **VERIFIED}},
        DEAD,
        "Prembly's answer is about another reference",
    ),
    "another session": (
        VERIFIED | {"session_id": SESSION},
        named(VERIFIED, session_id="sdk_session_other"),
        DEAD,
        "Prembly's answer is about another session",
    ),
    "ours among others": (VERIFIED, named(VERIFIED, reference=OTHER_UUID), RUNS, ""),
    "no name": (VERIFIED, {"data": VERIFIED}, WAITS, agreement.NO_NAME),
    "a name of the other kind": (
        VERIFIED,
        {"data": {"reference": VER, **VERIFIED}},
        WAITS,
        agreement.NO_NAME,
    ),
    "of a session, its own": (
        VERIFIED | {"reference": None, "session_id": SESSION},
        {"response": {"session_id": SESSION, **VERIFIED}},
        RUNS,
        "",
    ),
    "of a session, a name of another kind": (
        VERIFIED | {"reference": None, "session_id": SESSION},
        {"data": {"reference": VER, **VERIFIED}},
        WAITS,
        agreement.NO_NAME,
    ),
}
NOTHING: dict[str, Row] = {
    "empty data": (VERIFIED, named({}), WAITS, agreement.NO_VERDICT),
    "the root's no": (VERIFIED, {**named(VERIFIED), "status": False}, WAITS, QUESTION_FAILED),
    "the root's no, another no": (
        says(None, "01"),
        {**named(says(None, "07")), "status": False},
        WAITS,
        QUESTION_FAILED,
    ),
    "the root's no, a code that is no such no": (
        says(None, "05"),
        {**named(says(None, "05")), "status": False},
        WAITS,
        QUESTION_FAILED,
    ),
    "the root's no, the event's NOT-VERIFIED": (
        NO,
        {**named(says("NOT-VERIFIED")), "status": False},
        RUNS,
        "",
    ),
    "the root's no, the event's 07": (
        says(None, "07"),
        {**named(says(None, "07")), "status": False},
        RUNS,
        "",
    ),
    "doubted": (VERIFIED, named(says("VERIFIED", "07")), WAITS, DOUBTED),
    "PENDING": (VERIFIED, named(PENDING), WAITS, agreement.NOT_YET),
    "02": (NO, named(says(None, "02")), WAITS, agreement.NOT_YET),
    "03": (VERIFIED, named(says(None, "03")), WAITS, agreement.NOT_YET),
    "processing": (
        VERIFIED,
        named(VERIFIED, status="processing"),
        WAITS,
        "Prembly's answer does not agree with itself: status",
    ),
}
SINCE: dict[str, Row] = {
    f"{name}, {answer}": (event, named(stated), SETTLED, agreement.SETTLED_SINCE)
    for name, event in {"PENDING": PENDING, "02": says(None, "02"), "03": says(None, "03")}.items()
    for answer, stated in {
        "VERIFIED": VERIFIED,
        "NOT-VERIFIED": NO,
        "01": says(None, "01"),
        "07": says(None, "07"),
    }.items()
}
DIFFERENT: dict[str, Row] = {
    "another code": (
        says(None, "01"),
        named(says(None, "07")),
        DEAD,
        "Prembly's answer says code 07, the event 01",
    ),
    "another outcome": (
        VERIFIED,
        named(says("NOT-VERIFIED")),
        DEAD,
        "Prembly's answer says outcome not_verified, the event verified",
    ),
    "another face": (
        says(None, "01", **FACE),
        named(says("NOT-VERIFIED", "01", **NO_FACE)),
        DEAD,
        "Prembly's answer says face_match false, the event true",
    ),
    "another user_ref": (
        VERIFIED | {"user_ref": "a"},
        named(VERIFIED, user_ref="b"),
        DEAD,
        "Prembly's answer names another user_ref than the event",
    ),
    "another user_ref, both open": (
        PENDING | {"user_ref": "a"},
        named(PENDING, user_ref="b"),
        DEAD,
        "Prembly's answer names another user_ref than the event",
    ),
}
NOT_FINAL: dict[str, Row] = {
    **{
        f"{name}, {answer}": (event, named(stated), WAITS, words)
        for name, event in {
            "nothing": says(),
            "an unknown word": says("COMPLETED"),
            "true for a word": says(True),
            "00 alone": says(None, "00"),
        }.items()
        for answer, stated, words in [
            ("PENDING", says("PENDING"), agreement.NOT_YET),
            ("02", says(None, "02"), agreement.NOT_YET),
            ("processing", says("processing"), agreement.NOT_YET),
            ("queued", says(None, None, status="queued"), agreement.NOT_YET),
            ("processing beside 00", says(None, "00", status="processing"), agreement.NOT_YET),
            ("00 alone", says(None, "00"), agreement.NO_RESULT),
            ("true for a word, and 00", says(True, "00"), agreement.NO_RESULT),
            ("an unknown word", says("COMPLETED"), agreement.NO_RESULT),
            ("nothing", says(), agreement.NO_VERDICT),
            ("a face alone", says(None, None, **FACE), agreement.NO_RESULT),
        ]
    },
    "99 and the same": (says(None, "99"), named(says(None, "99")), WAITS, agreement.NO_RESULT),
    **{
        f"{code}, the same code": (says(None, code), named(says(None, code)), RUNS, "")
        for code in ("01", "07")
    },
    "01 of an event without a code": (says(), named(says(None, "01")), WAITS, agreement.NO_RESULT),
    "01 of an event with a word": (
        says("DECLINED", "01"),
        named(says(None, "01")),
        WAITS,
        agreement.NO_RESULT,
    ),
    "01 of a NOT-VERIFIED": (NO, named(says(None, "01")), WAITS, agreement.NO_RESULT),
    "both PENDING": (PENDING, named(PENDING), STILL_OPEN, agreement.STILL_OPEN),
    "both 02": (says(None, "02"), named(says(None, "02")), STILL_OPEN, agreement.STILL_OPEN),
    "PENDING, 02": (says("PENDING"), named(says(None, "02")), STILL_OPEN, agreement.STILL_OPEN),
    "PENDING, processing": (
        PENDING,
        named(says(), status="processing"),
        STILL_OPEN,
        agreement.STILL_OPEN,
    ),
    "both 03": (says(None, "03"), named(says(None, "03")), WAITS, agreement.NOT_YET),
    "PENDING, 00 alone": (PENDING, named(says(None, "00")), WAITS, agreement.NO_VERDICT),
    "PENDING, a word": (PENDING, named(says("DECLINED")), WAITS, agreement.NO_VERDICT),
}
ELSE: dict[str, Row] = {
    "VERIFIED": (VERIFIED, named(VERIFIED), RUNS, ""),
    "VERIFIED without a code": (VERIFIED, named(says("VERIFIED")), RUNS, ""),
    "NOT-VERIFIED": (NO, named(says("NOT-VERIFIED")), RUNS, ""),
    "of nothing, VERIFIED": (says(), named(VERIFIED), RUNS, ""),
    "of 00 alone, VERIFIED": (says(None, "00"), named(VERIFIED), RUNS, ""),
}
PARTS = (ABOUT, NOTHING, SINCE, DIFFERENT, NOT_FINAL, ELSE)
STRICT = {"when": "outcome == 'verified' && face_match"}
# What the action asks, beside such a row: its codes, and its other settings.
ASKED: dict[str, tuple[tuple[str, ...], dict[str, Any], Row]] = {
    "a code that it does not take": (
        ("00", "missing"),
        {},
        (
            says("NOT-VERIFIED"),
            named(NO),
            DEAD,
            "Prembly's answer says code 01, which the action does not take",
        ),
    ),
    "00 where missing is": (("missing",), {}, (says("VERIFIED"), named(VERIFIED), RUNS, "")),
    "a silent code": (("00",), {}, (VERIFIED, named(says("VERIFIED")), RUNS, "")),
    "when is false": (
        ("*",),
        {"when": "risk_level != 'high'"},
        (VERIFIED, named(VERIFIED, risk_level="high"), DEAD, NOT_FOR),
    ),
    "when is false, both open": (
        ("*",),
        {"when": "risk_level != 'high'"},
        (PENDING, named(PENDING, risk_level="high"), DEAD, NOT_FOR),
    ),
    "what when needs is not stated": (
        ("*",),
        STRICT,
        (VERIFIED | FACE, named(VERIFIED), WAITS, "Prembly's answer does not state face_match"),
    ),
    "what when needs may be unstated": (
        ("*",),
        STRICT | {"confirm": {"unstated": ["face_match"]}},
        (VERIFIED | FACE, named(VERIFIED), RUNS, ""),
    ),
    "what when needs is stated": (
        ("*",),
        STRICT,
        (VERIFIED | FACE, named(VERIFIED, **FACE), RUNS, ""),
    ),
    "unstated does not stand for a result": (
        ("*",),
        {"confirm": {"unstated": ["response_code", "verification_status", "status"]}},
        (says(None, "00"), named(says(None, "00")), WAITS, agreement.NO_RESULT),
    ),
}


def judged(row: Row, codes: tuple[str, ...] = ("*",), **keys: Any) -> tuple[Finding, str]:
    """Return what the answer of a row means for its event."""
    event, answer, _, _ = row
    agreed = decide(payload.recognise({"reference": UUID, **event}), answer, codes=codes, **keys)
    return agreed.finding, agreed.words


@for_each(("name", "row"), [item for part in PARTS for item in part.items()])
def test_an_answer_means_what_the_table_says(name: str, row: Row) -> None:
    assert judged(row) == row[2:], name


@for_each(("codes", "keys", "row"), list(ASKED.values()))
def test_what_the_action_asks_counts_too(
    codes: tuple[str, ...], keys: dict[str, Any], row: Row
) -> None:
    assert judged(row, codes, **keys) == row[2:]


def test_names_reference_false_takes_what_names_nothing_or_by_another_kind_of_id() -> None:
    of_session = "of a session, a name of another kind"
    for name in ("no name", "a name of the other kind", of_session):
        assert judged(ABOUT[name], names_reference=False) == (RUNS, "")
    assert judged(ABOUT["another UUID"], names_reference=False) == ABOUT["another UUID"][2:]


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
    "the webhook itself": ({"status": True, **WEBHOOK}, RUNS),
    "a list of one": ({"status": True, "data": [OK]}, RUNS),
    "in response": ({"status": True, "response": OK}, RUNS),
    "in data.session": ({"status": True, "data": {"session": OK}}, RUNS),
    "in data.data": ({"status": True, "data": {"data": WEBHOOK, "reference": REF}}, RUNS),
    "no code": (data(response_code=None), RUNS),
    "an empty code": (data(response_code=""), RUNS),
    "a code as a number": (data(response_code=0), RUNS),
    "the envelope's own 00": ({"response_code": "00", "data": OK}, RUNS),
    "a word in small letters": (data(verification_status="verified"), RUNS),
    "a word twice": ({**data(), "verification_status": "VERIFIED"}, RUNS),
    "another name beside it": (data(verification_id="11111111-1111-4111-8111-111111111111"), RUNS),
    "a face in other words": (data(face_data={"Status": "Matched", "response_code": "00"}), RUNS),
    "an empty face": (data(face_data={}), RUNS),
    "what it does not know": (data(price="200.0", endpoint={"status": "ACTIVE"}), RUNS),
    # It says nothing, or not yet.
    "an empty object": ({}, WAITS),
    "empty data": ({"status": True, "message": "Request successful.", "data": {}}, WAITS),
    "null data": ({"status": True, "data": None}, WAITS),
    "an empty list": ({"status": True, "data": []}, WAITS),
    "a list of two": ({"status": True, "data": [OK, OK]}, WAITS),
    "text for data": ({"status": True, "data": "VERIFIED"}, WAITS),
    "processing": ({"status": "processing"}, WAITS),
    "processing with its name": ({"status": "processing", "data": {"reference": REF}}, WAITS),
    "not found in words": ({"status": False, "message": "Verification not found"}, WAITS),
    "not found by code": ({"status": True, "response_code": "01", "message": "No"}, WAITS),
    "only the message": ({"status": True, "message": "VERIFIED", "data": {}}, WAITS),
    "only its status": ({"status": "VERIFIED", "data": {"reference": REF}}, WAITS),
    "only its name": ({"status": True, "data": {"reference": REF}}, WAITS),
    "no name": ({"status": True, "data": WORDS}, WAITS),
    "an empty name": (data(reference=""), WAITS),
    "PENDING": (data(verification_status="PENDING", response_code="02"), WAITS),
    "in progress": (data(verification_status="IN_PROGRESS"), WAITS),
    "00 and no word": (data(verification_status=None), WAITS),
    "a longer word": (data(verification_status="VERIFIED by phone"), WAITS),
    "a word with a dotless i": (data(verification_status="VERıFIED"), WAITS),
    "a word in an object": (data(verification_status={"status": "VERIFIED"}), WAITS),
    # It does not agree with itself.
    "the envelope says no": ({**data(), "status": False}, WAITS),
    "the envelope says failed": ({**data(), "status": "failed"}, WAITS),
    "no success": ({**data(), "success": "false"}, WAITS),
    "an inner status says no": (data(status=False), WAITS),
    "an inner status is the other word": (data(status="NOT-VERIFIED"), WAITS),
    "an inner status is unsuccessful": (data(status="Unsuccessful"), WAITS),
    "the envelope says rejected": ({**data(), "status": "rejected"}, WAITS),
    "success is no": ({**data(), "success": "no"}, WAITS),
    "a list in data.session": (data(session=[NO_FACE]), WAITS),
    "a list in response": ({**data(), "response": [NO_FACE]}, WAITS),
    "face false in data.response": (data(response=NO_FACE), WAITS),
    "another word in data.verification_response": (
        data(verification_response={"verification": {"status": "NOT-VERIFIED"}}),
        WAITS,
    ),
    "face false": (data(**NO_FACE), WAITS),
    "face false beside data": ({**data(), **NO_FACE}, WAITS),
    "face failed": (data(face_data={"Status": "failed"}), WAITS),
    "face code 01": (data(face_data={"response_code": "01"}), WAITS),
    "one face yes, one no": ({**data(**FACE), **NO_FACE}, WAITS),
    "VERIFIED and 07": (data(response_code="07"), WAITS),
    "VERIFIED and 01 outside": ({**data(), "response_code": "01"}, WAITS),
    "a list for a code": (data(response_code=["00"]), WAITS),
    "two words": ({**data(), "verification_status": "NOT-VERIFIED"}, WAITS),
    "an odd second word": ({**data(), "verification": {"status": "DECLINED"}}, WAITS),
    "false for a second word": ({**data(), "verification": {"status": False}}, WAITS),
    "an alert by its name": (data(event="fraud.identity_flagged"), WAITS),
    "a face deep inside": (data(verification={"face_data": {"status": False}}), WAITS),
    "a face in other letters": (data(faceData={"Match": False}), WAITS),
    "a no beside the word": (data(is_verified=False), WAITS),
    "an outcome": (data(outcome="declined"), WAITS),
    "a biometric result": (data(biometric_results={"match": "no"}), WAITS),
    "a list of two beside it": ({**OK, "data": [FACE, NO_FACE]}, WAITS),
    "a code in other letters": (data(Response_Code="01"), WAITS),
    # It says something else.
    "NOT-VERIFIED": (data(verification_status="NOT-VERIFIED"), DEAD),
    "the webhook says NOT-VERIFIED": (
        {"data": WEBHOOK | {"verification": {"reference": REF, "status": "NOT-VERIFIED"}}},
        DEAD,
    ),
    "07 and no word": (data(verification_status=None, response_code="07"), DEAD),
    "another reference": (data(reference="other-1"), DEAD),
    "another reference outside": ({"reference": "other-1", "data": WORDS}, DEAD),
    "another user_ref": (data(user_ref="somebody-else"), DEAD),
    "another user_ref beside data": (
        {**data(), "widget_info": {"user_ref": "somebody-else"}},
        DEAD,
    ),
}
# Of an event that says PENDING and 02, for an action that tells people to wait: it has no use here.
OPEN_WAYS: dict[str, tuple[Any, Finding]] = {
    "PENDING too": (data(verification_status="PENDING", response_code="02"), STILL_OPEN),
    "verified by now": (data(), SETTLED),
    "not verified by now": (data(verification_status="NOT-VERIFIED"), SETTLED),
    "nothing": ({"status": True, "data": {}}, WAITS),
    "doubted": (data(**NO_FACE), WAITS),
    "another": (data(reference="other-1"), DEAD),
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


OPEN: dict[str, Any] = {"codes": ("*",), "when": "outcome == 'pending'"}
WHOLE = says("VERIFIED", "00", **FACE, user_ref="u-1", session_id=SESSION)


@for_each(
    ("event", "keys", "ways"),
    [(WHOLE, README, WAYS), (PENDING, OPEN, OPEN_WAYS), (says("VERIFIED"), README, THIN_WAYS)],
)
def test_readmes_recipe_runs_for_what_confirms_it_in_whatever_shape_and_for_nothing_else(
    event: Says, keys: dict[str, Any], ways: dict[str, tuple[Any, Finding]]
) -> None:
    arrived = payload.recognise({"reference": REF, **event})
    assert arrived.doubt in (None, "")
    found = {name: decide(arrived, answer, **keys).finding for name, (answer, _) in ways.items()}
    assert found == {name: finding for name, (_, finding) in ways.items()}
