"""What settles a verification, by table: of each webhook that may be stored, beside each answer
that Prembly may give of it, how often Prembly is asked, and what comes of it."""

import json
from typing import Any, NamedTuple

import pytest

from premblyd.features.asking.standing import Standing, standing_of
from premblyd.prembly import payload
from tests.features.asking.test_pending import DAY_MS, MINUTE_MS, At, make_asker
from tests.support import prembly_api
from tests.support.configuration import shell
from tests.support.prembly_api import PremblyApi, Shape

__all__ = ["make_asker"]  # a fixture
GIVE_UP = {"ask": ["1m", "30m"], "give_up": "2h"}
GIVE_UP_MS = 120 * MINUTE_MS
ACTIONS = [
    shell("activate", "true", "*", types=["*"], when="outcome == 'verified'"),
    shell("archive", "true", "*", types=["*"]),
]


class Answer(NamedTuple):
    """What Prembly says of the verification, whenever it is asked."""

    code: str | None = None
    status: str | None = None
    is_there: bool = True


VERIFIED = Answer("00", "VERIFIED")
NOT_VERIFIED = Answer("00", "NOT-VERIFIED")
CODE_01, CODE_07 = Answer("01"), Answer("07")
PENDING = Answer("02", "PENDING")
ONLY_00 = Answer("00")  # the question was answered, and no word says how it ended
DOUBTED = Answer("07", "VERIFIED")
UNKNOWN = Answer(is_there=False)
FINAL = (VERIFIED, NOT_VERIFIED, CODE_01, CODE_07)
NOT_FINAL = (PENDING, ONLY_00, DOUBTED)


class Stored(NamedTuple):
    """A webhook that is in the record, and how it stands."""

    standing: Standing
    says: dict[str, Any]


def said(code: str | None = None, word: Any = None, **more: Any) -> dict[str, Any]:
    """Return a body that says so."""
    verification = {"verification": {"status": word, "reference": "r-1"}}
    return {"response_code": code} | verification | more


ROWS = {
    "verified": Stored(Standing.RESULT, said("00", "VERIFIED")),
    "not verified": Stored(Standing.RESULT, said("00", "NOT-VERIFIED")),
    "doubted by its code": Stored(Standing.DOUBTED, said("07", "VERIFIED")),
    "01 and no word": Stored(Standing.CODE, said("01")),
    "07 and no word": Stored(Standing.CODE, said("07")),
    "00 and no word": Stored(Standing.OPEN, said("00")),
    "an unknown word": Stored(Standing.OPEN, said("00", "COMPLETED")),
    "an acknowledgement": Stored(Standing.OPEN, said("00", True)),
    "a bare reference": Stored(Standing.OPEN, {"reference": "r-1"}),
    "a thin session": Stored(
        Standing.OPEN, {"event": "verification.completed", "session_id": "sdk_session_1"}
    ),
    "pending": Stored(Standing.LATER, said("02", "PENDING")),
    "03": Stored(Standing.WALLET, said("03")),
    "neither reference nor session": Stored(Standing.OPEN, {"response_code": "00"}),
    "a workflow": Stored(
        Standing.ELSEWHERE, {"event": "workflow.process.completed", "reference": "r-1"}
    ),
}
ANSWERS = {
    "verified": VERIFIED,
    "not-verified": NOT_VERIFIED,
    "01": CODE_01,
    "07": CODE_07,
    "pending": PENDING,
    "00-alone": ONLY_00,
    "doubted": DOUBTED,
    "unknown": UNKNOWN,
}


class Came(NamedTuple):
    """What comes of it: how often Prembly is asked, how the waiting ends, and what is stored."""

    asked: int
    state: str | None = None
    stored: bool = False
    results: tuple[str, ...] = ()


def expected(name: str, row: Stored, answer: Answer) -> Came:
    """Return what should come of a webhook beside an answer that stays the same."""
    if name == "neither reference nor session":
        return Came(0)
    match row.standing:
        case Standing.RESULT | Standing.ELSEWHERE:
            return Came(0)
        case Standing.DOUBTED if answer == VERIFIED:
            return Came(1, "settled", results=("contradicted",))
        case Standing.DOUBTED if answer in FINAL:
            return Came(1, "settled", results=("confirmed",))
        case Standing.CODE if answer == Answer(row.says["response_code"]):
            return Came(1, "settled", results=("confirmed",))
    if answer in FINAL:
        return Came(1, "settled", stored=True, results=("settled",))
    result = "not_found" if answer is UNKNOWN else "unsettled"
    # At 1, 30, 60, 90 and 120 minutes; an unknown one at 1 and 30.
    often = 2 if answer is UNKNOWN else 5
    is_once = row.standing in (Standing.CODE, Standing.DOUBTED, Standing.WALLET)
    count = 1 if is_once else often
    return Came(count, "given_up", results=(result,) * count)


def tell(api: PremblyApi, name: str, answer: Answer) -> None:
    """Let Prembly say this of a verification and of a session of that name."""
    if answer.is_there:
        said = {"code": answer.code, "status": answer.status}
        api.know(f"r-{name}", **said)
        api.know(f"own-{name}", session_id=f"sdk_session_{name}", shape=Shape.SESSION, **said)


@pytest.mark.parametrize("row", ROWS)
async def test_each_webhook_beside_each_answer(at: At, row: str) -> None:
    stored = ROWS[row]
    assert standing_of(payload.read(json.dumps(stored.says).encode())) is stored.standing
    is_session = "session_id" in stored.says
    answers = {
        name: answer
        for name, answer in ANSWERS.items()
        # The stand-in's answer about a session has no code.
        if not (is_session and answer in (CODE_01, CODE_07, ONLY_00, DOUBTED))
    }
    events: dict[str, int] = {}
    async with at(pending=GIVE_UP, actions=ACTIONS):
        for name, answer in answers.items():
            tell(at.api, name, answer)
            body = json.dumps(stored.says | {"answer": name})
            for text in ("r-1", "sdk_session_1"):
                body = body.replace(text, text.replace("1", name))
            [added] = await at.receive(body.encode())
            events[name] = added.event_id
        for minute in (1, 30, 60, 90, 120, 180):
            at.clock.ahead_ms = minute * MINUTE_MS
            await at.rest()
        for name, event_id in events.items():
            came = expected(row, stored, answers[name])
            check(at, came, event_id, answers[name], name)
            asked = at.api.asked(f"sdk_session_{name}" if is_session else f"r-{name}")
            assert asked == came.asked, name


def check(at: At, came: Came, event_id: int, answer: Answer, name: str) -> None:
    """Check what the record has of an event's verification."""
    states = at.rows(f"SELECT state FROM awaited WHERE event_id = {event_id}")
    assert states == ([(came.state,)] if came.state else []), name
    results = at.rows(f"SELECT result FROM inquiry WHERE event_id = {event_id} ORDER BY id")
    assert results == [(result,) for result in came.results], name
    stored = at.rows(
        "SELECT id, type, outcome FROM event WHERE verified_by = 'prembly-api' AND reference ="
        f" (SELECT reference FROM event WHERE id = {event_id})"
    )
    outcomes = {"VERIFIED": "verified", "NOT-VERIFIED": "not_verified"}
    outcome = outcomes.get(answer.status or "", "unknown")
    assert [row[1:] for row in stored] == [("prembly.status", outcome)] * came.stored, name
    for number, *_ in stored:
        ran = at.rows(f"SELECT action FROM delivery WHERE event_id = {number} ORDER BY action")
        actions = ["activate", "archive"] if answer is VERIFIED else ["archive"]
        assert [action for (action,) in ran] == actions, name


@pytest.mark.parametrize("row", ["a bare reference", "03"])
async def test_without_any_answer_it_is_asked_again_for_seven_nights(at: At, row: str) -> None:
    at.api.fail(prembly_api.status(500))
    async with at(pending=GIVE_UP):
        await at.receive(json.dumps(ROWS[row].says).encode())
        for day in range(1, 8):
            before = at.api.asked()
            at.clock.ahead_ms = GIVE_UP_MS + day * DAY_MS
            at.inquirer.configure(None)  # forgets for how long Prembly is left alone
            at.configure()
            await at.rest()
            assert at.api.asked() > before, day
        assert at.rows("SELECT state, answered_at_ms FROM awaited") == [("given_up", None)]
