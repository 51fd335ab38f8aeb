"""Each row of the table by which Prembly's answer is judged: what becomes of a delivery whose event
says one thing, when a stand-in for Prembly answers another, as often as it is asked."""

import itertools
import json
from typing import Any

import pytest

from premblyd.ask import confirm
from premblyd.databases import DatabaseAddress
from premblyd.prembly import agreement, answers, payload
from premblyd.run import dispatcher
from tests.support.database import rows
from tests.support.dispatching import Dispatching
from tests.support.jobs import action
from tests.support.prembly_api import PremblyApi
from tests.support.rows import for_each

UUID = "0b7c9f1d-1111-4222-8333-44445555666a"
OTHER_UUID = "11111111-1111-4111-8111-111111111111"
VER = "ver_document_w_face_0042"
SESSION = "sdk_session_0123456789"
# How a delivery ends, and of which result the questions are that were asked about it.
CONFIRMED = ("succeeded", {"confirmed": 1})
CONTRADICTED = ("dead", {"contradicted": 1})
ASKED_AGAIN = ("dead", {"unsettled": 4})
SETTLED = ("cancelled", {"settled": 1})
STILL_OPEN = ("cancelled", {"unsettled": 4})
NUMBERS = itertools.count(1)
QUESTION_FAILED = "Prembly's answer says that the question failed"
DOUBTED = "Prembly's answer does not agree with itself: code"
NOT_FOR = "`when` is false for what Prembly's answer says"

Says = dict[str, Any]
Row = tuple[Says, Any, tuple[str, dict[str, int]], str | None]


def says(word: Any = None, code: Any = None, **more: Any) -> Says:
    """Return what an event or an answer states, beside its names."""
    return {"verification": {"status": word}, "response_code": code, **more}


VERIFIED, NO, PENDING = says("VERIFIED", "00"), says("NOT-VERIFIED", "01"), says("PENDING", "02")
FACE, NO_FACE = {"face_data": {"status": True}}, {"face_data": {"status": False}}


def named(stated: Says, **more: Any) -> Says:
    """Return an answer about the event's verification."""
    return {"status": True, "data": {"reference_id": UUID, **stated, **more}}


# By the rows of the table, in their order: what the event says, what Prembly answers, how the
# delivery ends, and its last words.
ABOUT: dict[str, Row] = {
    "another UUID": (
        VERIFIED,
        {"data": {"reference": OTHER_UUID, **VERIFIED}},
        CONTRADICTED,
        "Prembly's answer is about another reference",
    ),
    "another session": (
        VERIFIED | {"session_id": SESSION},
        named(VERIFIED, session_id="sdk_session_other"),
        CONTRADICTED,
        "Prembly's answer is about another session",
    ),
    "ours among others": (VERIFIED, named(VERIFIED, reference=OTHER_UUID), CONFIRMED, None),
    "no name": (VERIFIED, {"data": VERIFIED}, ASKED_AGAIN, agreement.NO_NAME),
    "a name of the other kind": (
        VERIFIED,
        {"data": {"reference": VER, **VERIFIED}},
        ASKED_AGAIN,
        agreement.NO_NAME,
    ),
    "of a session, its own": (
        VERIFIED | {"reference": None, "session_id": SESSION},
        {"response": {"session_id": SESSION, **VERIFIED}},
        CONFIRMED,
        None,
    ),
    "of a session, a name of another kind": (
        VERIFIED | {"reference": None, "session_id": SESSION},
        {"data": {"reference": VER, **VERIFIED}},
        ASKED_AGAIN,
        agreement.NO_NAME,
    ),
}
NOTHING: dict[str, Row] = {
    "empty data": (VERIFIED, named({}), ASKED_AGAIN, agreement.NO_VERDICT),
    "the root's no": (VERIFIED, {**named(VERIFIED), "status": False}, ASKED_AGAIN, QUESTION_FAILED),
    "the root's no, another no": (
        says(None, "01"),
        {**named(says(None, "07")), "status": False},
        ASKED_AGAIN,
        QUESTION_FAILED,
    ),
    "the root's no, a code that is no such no": (
        says(None, "05"),
        {**named(says(None, "05")), "status": False},
        ASKED_AGAIN,
        QUESTION_FAILED,
    ),
    "the root's no, the event's NOT-VERIFIED": (
        NO,
        {**named(says("NOT-VERIFIED")), "status": False},
        CONFIRMED,
        None,
    ),
    "the root's no, the event's 07": (
        says(None, "07"),
        {**named(says(None, "07")), "status": False},
        CONFIRMED,
        None,
    ),
    "doubted": (VERIFIED, named(says("VERIFIED", "07")), ASKED_AGAIN, DOUBTED),
    "PENDING": (VERIFIED, named(PENDING), ASKED_AGAIN, agreement.NOT_YET),
    "02": (NO, named(says(None, "02")), ASKED_AGAIN, agreement.NOT_YET),
    "03": (VERIFIED, named(says(None, "03")), ASKED_AGAIN, agreement.NOT_YET),
    "processing": (
        VERIFIED,
        named(VERIFIED, status="processing"),
        ASKED_AGAIN,
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
        CONTRADICTED,
        "Prembly's answer says code 07, the event 01",
    ),
    "another outcome": (
        VERIFIED,
        named(says("NOT-VERIFIED")),
        CONTRADICTED,
        "Prembly's answer says outcome not_verified, the event verified",
    ),
    "another face": (
        says(None, "01", **FACE),
        named(says("NOT-VERIFIED", "01", **NO_FACE)),
        CONTRADICTED,
        "Prembly's answer says face_match false, the event true",
    ),
    "another user_ref": (
        VERIFIED | {"user_ref": "a"},
        named(VERIFIED, user_ref="b"),
        CONTRADICTED,
        "Prembly's answer names another user_ref than the event",
    ),
    "another user_ref, both open": (
        PENDING | {"user_ref": "a"},
        named(PENDING, user_ref="b"),
        CONTRADICTED,
        "Prembly's answer names another user_ref than the event",
    ),
}
NOT_FINAL: dict[str, Row] = {
    **{
        f"{name}, {answer}": (event, named(stated), ASKED_AGAIN, words)
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
    "99 and the same": (
        says(None, "99"),
        named(says(None, "99")),
        ASKED_AGAIN,
        agreement.NO_RESULT,
    ),
    **{
        f"{code}, the same code": (says(None, code), named(says(None, code)), CONFIRMED, None)
        for code in ("01", "07")
    },
    "01 of an event without a code": (
        says(),
        named(says(None, "01")),
        ASKED_AGAIN,
        agreement.NO_RESULT,
    ),
    "01 of an event with a word": (
        says("DECLINED", "01"),
        named(says(None, "01")),
        ASKED_AGAIN,
        agreement.NO_RESULT,
    ),
    "01 of a NOT-VERIFIED": (NO, named(says(None, "01")), ASKED_AGAIN, agreement.NO_RESULT),
    "both PENDING": (PENDING, named(PENDING), STILL_OPEN, agreement.STILL_OPEN),
    "both 02": (
        says(None, "02"),
        named(says(None, "02")),
        STILL_OPEN,
        agreement.STILL_OPEN,
    ),
    "PENDING, 02": (says("PENDING"), named(says(None, "02")), STILL_OPEN, agreement.STILL_OPEN),
    "PENDING, processing": (
        PENDING,
        named(says(), status="processing"),
        STILL_OPEN,
        agreement.STILL_OPEN,
    ),
    "both 03": (says(None, "03"), named(says(None, "03")), ASKED_AGAIN, agreement.NOT_YET),
    "PENDING, 00 alone": (PENDING, named(says(None, "00")), ASKED_AGAIN, agreement.NO_VERDICT),
    "PENDING, a word": (PENDING, named(says("DECLINED")), ASKED_AGAIN, agreement.NO_VERDICT),
}
ELSE: dict[str, Row] = {
    "VERIFIED": (VERIFIED, named(VERIFIED), CONFIRMED, None),
    "VERIFIED without a code": (VERIFIED, named(says("VERIFIED")), CONFIRMED, None),
    "NOT-VERIFIED": (NO, named(says("NOT-VERIFIED")), CONFIRMED, None),
    "of nothing, VERIFIED": (says(), named(VERIFIED), CONFIRMED, None),
    "of 00 alone, VERIFIED": (says(None, "00"), named(VERIFIED), CONFIRMED, None),
}
TABLE: dict[str, dict[str, Row]] = {
    "what it is about": ABOUT,
    "it states nothing, or not yet": NOTHING,
    "settled since": SINCE,
    "it says something else": DIFFERENT,
    "it is not final": NOT_FINAL,
    "it agrees": ELSE,
}
STRICT = {"when": "outcome == 'verified' && face_match"}
# What the action asks, beside such a row: its codes, and its other settings.
ASKED: dict[str, tuple[tuple[str, ...], dict[str, Any], Row]] = {
    "a code that it does not take": (
        ("00", "missing"),
        {},
        (
            says("NOT-VERIFIED"),
            named(NO),
            CONTRADICTED,
            "Prembly's answer says code 01, which the action does not take",
        ),
    ),
    "00 where missing is": (("missing",), {}, (says("VERIFIED"), named(VERIFIED), CONFIRMED, None)),
    "a silent code": (("00",), {}, (VERIFIED, named(says("VERIFIED")), CONFIRMED, None)),
    "when is false": (
        ("*",),
        {"when": "risk_level != 'high'"},
        (VERIFIED, named(VERIFIED, risk_level="high"), CONTRADICTED, NOT_FOR),
    ),
    "when is false, both open": (
        ("*",),
        {"when": "risk_level != 'high'"},
        (PENDING, named(PENDING, risk_level="high"), CONTRADICTED, NOT_FOR),
    ),
    "what when needs is not stated": (
        ("*",),
        STRICT,
        (
            VERIFIED | FACE,
            named(VERIFIED),
            ASKED_AGAIN,
            "Prembly's answer does not state face_match",
        ),
    ),
    "what when needs may be unstated": (
        ("*",),
        STRICT | {"confirm": {"unstated": ["face_match"]}},
        (VERIFIED | FACE, named(VERIFIED), CONFIRMED, None),
    ),
    "what when needs is stated": (
        ("*",),
        STRICT,
        (VERIFIED | FACE, named(VERIFIED, **FACE), CONFIRMED, None),
    ),
    "unstated does not stand for a result": (
        ("*",),
        {"confirm": {"unstated": ["response_code", "verification_status", "status"]}},
        (says(None, "00"), named(says(None, "00")), ASKED_AGAIN, agreement.NO_RESULT),
    ),
}


@pytest.fixture(autouse=True)
def asked_four_times(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let asking end with the fourth question, and none wait."""
    monkeypatch.setattr(confirm, "_FIRST_WAIT_S", 0)
    monkeypatch.setattr(confirm, "_WAITS_S", (0,))
    monkeypatch.setattr(confirm, "_now_s", itertools.count(0, 1000).__next__)
    monkeypatch.setattr("premblyd.ask.client.REMEMBERED_S", 0)
    monkeypatch.setattr(dispatcher, "POLL_S", 0.05)


async def judged(
    place: DatabaseAddress,
    api: PremblyApi,
    row: Row,
    codes: tuple[str, ...] = ("*",),
    names_reference: bool = True,
    **keys: Any,
) -> tuple[tuple[str, dict[str, int]], str | None]:
    """Return how a delivery ends whose event and answer are those of a row."""
    event, answer, _, _ = row
    own = f"{next(NUMBERS):08x}"  # nothing is in the record of its verification
    reference, session_id = UUID.replace("0b7c9f1d", own), f"{SESSION}{own}"

    def written(document: Says) -> bytes:
        text = json.dumps(document).replace(UUID, reference).replace(SESSION, session_id)
        return text.encode()

    api.know(reference, session_id=session_id, body=written(answer))
    body = written({"reference": UUID, "number": own, **event})
    verdict = payload.read(body)
    facts = {name: getattr(verdict, name) for name in payload.Verdict.__slots__}
    asked = action("act", *codes, types=["unknown"], **{"confirm": "true", **keys})
    settings = api.settings(status={"names_reference": names_reference})
    async with Dispatching(place, asked, prembly=settings) as at:
        await at.add("act", body=body, **facts)
        await at.until(lambda: not at.states().keys() & {"pending", "running"})
        ran = len(at.shell.runs)
    ((number, state, error),) = rows(
        place, "SELECT id, state, last_error FROM delivery ORDER BY id DESC LIMIT 1"
    )
    counted = "SELECT result, count(*) FROM inquiry WHERE delivery_id = ? GROUP BY result"
    assert ran == (state == "succeeded")
    return (state, dict(rows(place, counted, number))), error


@pytest.mark.parametrize("part", TABLE)
async def test_what_becomes_of_a_delivery_is_what_the_table_says(
    place: DatabaseAddress, api: PremblyApi, part: str
) -> None:
    found = {name: await judged(place, api, row) for name, row in TABLE[part].items()}
    assert found == {name: (ends, words) for name, (_, _, ends, words) in TABLE[part].items()}


async def test_what_the_action_asks_counts_too(place: DatabaseAddress, api: PremblyApi) -> None:
    found = {
        name: await judged(place, api, row, codes, **keys)
        for name, (codes, keys, row) in ASKED.items()
    }
    assert found == {name: (ends, words) for name, (_, _, (_, _, ends, words)) in ASKED.items()}


async def test_names_reference_false_takes_what_names_nothing_or_by_another_kind_of_id(
    place: DatabaseAddress, api: PremblyApi
) -> None:
    of_session = "of a session, a name of another kind"
    for name in ("no name", "a name of the other kind", of_session):
        assert await judged(place, api, ABOUT[name], names_reference=False) == (CONFIRMED, None)
    _, _, ends, words = ABOUT["another UUID"]
    assert await judged(place, api, ABOUT["another UUID"], names_reference=False) == (ends, words)


@for_each("sent", [UUID, VER])
def test_a_reference_that_is_sent_as_a_session_is_confirmed_by_no_other_name(sent: str) -> None:
    event = payload.read(json.dumps({"session_id": sent, **VERIFIED}).encode())
    other = VER if sent == UUID else UUID
    answer = answers.read(json.dumps({"data": {"reference": other, **VERIFIED}}).encode())
    question = answers.question_about(event)
    assert answer
    assert question
    found = agreement.why_of_no_use(event, answer, question, names_reference=False)
    assert found
    assert found.words == agreement.NO_NAME
