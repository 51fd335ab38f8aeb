"""README's recipe against a stand-in for Prembly's API that answers in many ways: for each the rule
says whether the hook runs, waits, or is dead, and that is what happens."""

import json
from typing import Any

import pytest

from premblyd.databases import DatabaseAddress
from premblyd.prembly import payload
from tests.support.database import rows
from tests.support.dispatching import Dispatching
from tests.support.jobs import action, told
from tests.support.prembly_api import PremblyApi

RUNS, WAITS, DEAD, CANCELLED = "succeeded", "pending", "dead", "cancelled"
RECIPE: dict[str, Any] = {
    "when": "outcome == 'verified' && face_match != `false`",
    "confirm": "true",
    "retry": {"attempts": 1},
}
REF = "@"  # stands for the verification's own reference
SESSION = "sdk_session_@"
VERIFIED: dict[str, Any] = {"verification_status": "VERIFIED", "response_code": "00"}
OK = {"reference": REF, **VERIFIED}
WEBHOOK = {"verification": {"reference": REF, "status": "VERIFIED"}, "response_code": "00"}
FACE = {"face_data": {"status": True}}
NO_FACE = {"face_data": {"status": False}}


def data(**more: Any) -> dict[str, Any]:
    """Return an answer with `data` that says VERIFIED, changed so."""
    return {"status": True, "message": "Request successful.", "data": OK | more}


# Of an event that says VERIFIED and 00, with a face that matches and a user_ref.
WAYS: dict[str, tuple[Any, str]] = {
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
    "no name": ({"status": True, "data": VERIFIED}, WAITS),
    "an empty name": (data(reference=""), WAITS),
    "PENDING": (data(verification_status="PENDING", response_code="02"), WAITS),
    "PENDING alone": (data(verification_status="PENDING", response_code=None), WAITS),
    "02": (data(verification_status=None, response_code="02"), WAITS),
    "03": (data(verification_status=None, response_code="03"), WAITS),
    "in progress": (data(verification_status="IN_PROGRESS"), WAITS),
    "00 and no word": (data(verification_status=None), WAITS),
    "true for a word": (data(verification_status=True), WAITS),
    "an odd word": (data(verification_status="COMPLETED"), WAITS),
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
    "face 0": (data(face_data={"Status": 0}), WAITS),
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
    "a key twice": (
        b'{"data": {"reference": "@", "verification_status": "NOT-VERIFIED",'
        b' "verification_status": "VERIFIED"}}',
        WAITS,
    ),
    # It says something else.
    "NOT-VERIFIED": (data(verification_status="NOT-VERIFIED"), DEAD),
    "NOT-VERIFIED and 01": (data(verification_status="NOT_VERIFIED", response_code="01"), DEAD),
    "the webhook says NOT-VERIFIED": (
        {"data": WEBHOOK | {"verification": {"reference": REF, "status": "NOT-VERIFIED"}}},
        DEAD,
    ),
    "07 and no word": (data(verification_status=None, response_code="07"), DEAD),
    "another reference": (data(reference="other-1"), DEAD),
    "another reference outside": ({"reference": "other-1", "data": VERIFIED}, DEAD),
    "another session": (data(session_id="sdk_session_other"), DEAD),
    "another user_ref": (data(user_ref="somebody-else"), DEAD),
    "another user_ref beside data": (
        {**data(), "widget_info": {"user_ref": "somebody-else"}},
        DEAD,
    ),
    # It is no answer.
    "no object": (b"[]", WAITS),
    "a proxy's page": (b"<html>502 Bad Gateway</html>", WAITS),
}
# Of an event that says PENDING and 02, for an action that tells people to wait: it has no use here.
OPEN_WAYS: dict[str, tuple[Any, str]] = {
    "PENDING too": (data(verification_status="PENDING", response_code="02"), WAITS),
    "verified by now": (data(), CANCELLED),
    "not verified by now": (data(verification_status="NOT-VERIFIED"), CANCELLED),
    "nothing": ({"status": True, "data": {}}, WAITS),
    "doubted": (data(**NO_FACE), WAITS),
    "another": (data(reference="other-1"), DEAD),
}
# Of an event that says VERIFIED and neither code nor face.
THIN_WAYS: dict[str, tuple[Any, str]] = {
    "the same": (data(response_code=None), RUNS),
    "00 and a face": (data(**FACE), RUNS),
    "face false": (data(**NO_FACE), WAITS),
    "face false, beside data": ({**data(), **NO_FACE}, WAITS),
    "07": (data(response_code="07"), WAITS),
    "07 and no word": (data(verification_status=None, response_code="07"), DEAD),
    "no word, and a no": (data(verification_status=None, is_verified=False), WAITS),
    "face false and no word": (data(verification_status=None, **NO_FACE), DEAD),
}


def body(reference: str, **more: Any) -> dict[str, Any]:
    verification = {"reference": reference, "status": "VERIFIED"}
    return {"response_code": "00", "verification": verification, **more}


EVENTS: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, tuple[Any, str]]]] = {
    "whole": (RECIPE, {**FACE, "widget_info": {"user_ref": "u-1"}, "session_id": SESSION}, WAYS),
    "open": (
        {**RECIPE, "when": "outcome == 'pending'"},
        {"response_code": "02", "verification": {"reference": REF, "status": "PENDING"}},
        OPEN_WAYS,
    ),
    "thin": (RECIPE, {"response_code": None}, THIN_WAYS),
}


@pytest.mark.parametrize("kind", EVENTS)
async def test_for_each_answer_happens_what_the_rule_says(
    place: DatabaseAddress, api: PremblyApi, kind: str
) -> None:
    recipe, says, ways = EVENTS[kind]
    asked = action("activate", "00", "02", "missing", **recipe)
    async with Dispatching(place, asked, prembly=api.settings()) as at:
        for number, (document, _) in enumerate(ways.values()):
            reference = f"r{number}"
            answer = document if isinstance(document, bytes) else json.dumps(document).encode()
            api.know(reference, body=answer.replace(b"@", reference.encode()))
            text = json.dumps(body(REF, **says)).replace(REF, reference)
            verdict = payload.read(text.encode())
            assert verdict.doubt in (None, "")
            facts = {name: getattr(verdict, name) for name in payload.Verdict.__slots__}
            await at.add("activate", body=text.encode(), **facts)
        await at.until(lambda: len(decided(place)) == len(ways))
        found = dict(zip(ways, decided(place), strict=True))
        ran = {told(run, "REFERENCE") for _, run in at.shell.runs}
    assert found == {name: happens for name, (_, happens) in ways.items()}
    assert ran == {
        f"r{number}" for number, (_, happens) in enumerate(ways.values()) if happens == RUNS
    }
    results = "SELECT DISTINCT result FROM inquiry JOIN delivery ON delivery.id = delivery_id"
    assert {r for (r,) in rows(place, f"{results} WHERE state = 'dead'")} == {"contradicted"}
    assert "contradicted" not in {r for (r,) in rows(place, f"{results} WHERE state <> 'dead'")}


def decided(place: DatabaseAddress) -> list[str]:
    """Return the states of those deliveries, in their order, that an answer was judged for."""
    sql = """SELECT state FROM delivery WHERE state <> 'running' AND EXISTS (
        SELECT 1 FROM attempt WHERE delivery_id = delivery.id AND outcome IS NOT NULL)
        ORDER BY id"""
    return [state for (state,) in rows(place, sql)]


def test_there_are_more_than_70_ways() -> None:
    assert len(WAYS) > 70
