"""Which actions an event is for: response codes and `when`."""

import itertools
import json
from typing import Any

from premblyd.config.models import Action
from premblyd.config.routing import Routing
from premblyd.prembly.payload import WHEN_NAMES, Kind, Outcome
from tests.support.jobs import action, webhook
from tests.support.logs import Lines
from tests.support.rows import for_each

CODES: list[str | None] = ["00", "01", "02", "99", None]


def names(actions: list[Action], code: str | None) -> list[str]:
    return [one.name for one in Routing(actions).actions_for(webhook({}, response_code=code))]


def runs(when: str, body: dict[str, Any] | None = None, **verdict: Any) -> bool:
    """Return whether an action with this `when` is chosen."""
    return bool(Routing([action(when=when)]).actions_for(webhook(body, **verdict)))


@for_each(
    ("codes", "chosen"),
    [
        (["00"], ["00"]),
        (["*"], CODES),
        (["missing"], [None]),
        (["default"], ["00", "02", "99"]),  # the other action has 01
        (["02", "missing"], ["02", None]),
        (["default", "missing"], ["00", "02", "99", None]),
        (["*", "missing", "default", "00"], CODES),
        (["000"], []),
    ],
)
def test_response_codes_choose_the_action(codes: list[str], chosen: list[str | None]) -> None:
    actions = [action("this", *codes), action("other", "01")]
    assert [code for code in CODES if "this" in names(actions, code)] == chosen
    assert [code for code in CODES if "other" in names(actions, code)] == ["01"]


TYPES = ["sdk.session", "verification.direct", "transaction.processed", "unknown"]


def test_why_not_names_the_type() -> None:
    sdk = action("a", "00", types=["sdk.*", "verification.*"], when="outcome == 'verified'")
    routing = Routing([sdk])
    why_not = routing.why_not(sdk, webhook({}, type="transaction.processed", response_code="00"))
    assert why_not == "type transaction.processed is not in [sdk.*, verification.*]"
    assert routing.why_not_told(sdk, None, "00") is None, "a type that is not told excludes nothing"


def test_types_that_senders_make_up_take_no_memory() -> None:
    routing = Routing([action("a", types=["transaction.*"])])
    for number in range(300):
        made_up = webhook({}, type=f"transaction.x{number}", response_code=str(number))
        assert [each.name for each in routing.actions_for(made_up)] == ["a"]
    assert routing._of_type.cache_info().currsize <= 256


@for_each("word", ["*", "missing", "default"])
def test_a_code_that_is_spelled_as_a_word_is_none(word: str) -> None:
    one = action("a", word, "00")
    matching = Routing([one]).actions_for_code(word)
    assert Routing([one]).takes_code(one, word) is bool(matching)
    actions = [action("every", "*"), action("none", "missing"), action("rest", "default")]
    assert names(actions, word) == ["every", "rest"]


@for_each("more", [{"types": ["sdk.*"]}, {"when": "outcome == 'verified'"}])
def test_default_is_a_code_that_no_action_names_whatever_else_it_asks(more: dict[str, Any]) -> None:
    actions = [action("rest", "default"), action("named", "00", **more)]
    assert names(actions, "00") == []
    assert names(actions, "01") == ["rest"]


def test_every_matching_action_is_chosen_once_in_the_files_order() -> None:
    actions = [action("c", "00", "*"), action("a", "00"), action("x", "01"), action("b", "*")]
    assert names(actions, "00") == ["c", "a", "b"]
    assert names(actions[:1] + actions[2:3], "missing") == ["c"]


def test_a_judgement_is_what_matching_decides() -> None:
    whens = [None, "outcome == 'verified'", "face_match", "abs(outcome) == `1`"]
    lists = [["00"], ["*"], ["missing"], ["default"], ["01", "default"]]
    types = [["*"], ["sdk.*", "unknown"]]
    actions = [
        action(f"a{number}", *codes, when=when, types=patterns)
        for number, (codes, when, patterns) in enumerate(itertools.product(lists, whens, types))
    ]
    routing = Routing(actions)
    for code in CODES:
        for outcome, type_ in itertools.product(Outcome, TYPES):
            judged = webhook({}, type=type_, response_code=code, outcome=outcome)
            chosen = [each for each in actions if routing.why_not(each, judged) is None]
            assert chosen == routing.actions_for(judged)


SEEN: dict[str, Any] = {
    "kind": Kind.SDK,
    "type": "sdk.session",
    "response_code": "00",
    "status": "true",
    "detail": "fine",
    "verification_status": "VERIFIED",
    "outcome": Outcome.VERIFIED,
    "reference": "ref-1",
    "user_ref": "user-1",
    "face_match": True,
    "face_confidence": 97.5,
    "risk_level": "high",
    "risk_score": 75.0,
}


def test_when_sees_each_name() -> None:
    body = {"a": {"b": 1}}
    others = {"endpoint": "prembly", "verified_by": "hmac-sha256:live", "body": body, "doubt": ""}
    assert {*SEEN, *others} == {*WHEN_NAMES}
    for name, value in (SEEN | others).items():
        literal = f"`{json.dumps(value)}`"
        assert runs(f"{name} == {literal}", body, **SEEN), name
        assert not runs(f"{name} != {literal}", body, **SEEN), name


def test_when_sees_the_bodys_inside_and_nothing_of_a_body_that_is_no_object() -> None:
    assert runs("body.a.b > `0`", {"a": {"b": 1}})
    assert not runs("body.a.b", None)
    assert runs("!body && kind == 'raw'", None)


def test_when_never_sees_the_session_id() -> None:
    assert "session_id" not in WHEN_NAMES
    assert not runs("contains(values(@), 'hush')", {}, session_id="hush")


def test_false_null_and_empty_mean_no_and_anything_else_yes() -> None:
    for no in ("`false`", "`null`", "''", "`[]`", "`{}`", "reference", "body.x"):
        assert not runs(no, {}), no
    for yes in ("`true`", "'false'", "' '", "`0`", "`0.0`", "`[null]`", "body"):
        assert runs(yes, {"a": 1}), yes


def test_a_when_that_fails_counts_as_no_and_is_logged_without_values(lines: Lines) -> None:
    failing = ["abs(reference)", "sum(body.list)", "sort(body.list)[0]"]
    actions = [action(f"a{number}", when=when) for number, when in enumerate(failing)]
    routing = Routing([*actions, action("after")])
    chosen = routing.actions_for(webhook({"list": ["hush", 1]}, reference="hush"))
    assert [one.name for one in chosen] == ["after"]
    assert [(line["event"], line["action"]) for line in lines] == [
        ("action.when_failed", one.name) for one in actions
    ]
    assert {line["log_level"] for line in lines} == {"warning"}
    assert "hush" not in str(lines)
