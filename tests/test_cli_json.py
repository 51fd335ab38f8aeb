"""The names that every `--json` output has, in their order: people's scripts read them."""

import json
from pathlib import Path
from typing import Any

from tests.support.commands import json_of, run

VERDICT = (
    "kind response_code status detail verification_status outcome reference user_ref face_match"
    " face_confidence".split()
)
EVENT = [
    *"id key endpoint received_at_ms remote_ip body_bytes body_digest verified_by".split(),
    *VERDICT,
    *"duplicate_count last_duplicate_at_ms type risk_level risk_score doubt removed_parts".split(),
    "contradicted",
]
IN_A_LIST = [*EVENT, "handled", "deliveries"]
DELIVERY = (
    "id event_id action state due_at_ms attempt_count attempts_left created_at_ms finished_at_ms"
    " last_error ran_instead_id type response_code outcome reference ran_instead_event_id"
    " waits_for_id blocks_order contradicted confirmed_at_ms".split()
)
ATTEMPT = (
    "id delivery_id number worker action_digest started_at_ms finished_at_ms outcome exit_code"
    " http_status error output output_truncated".split()
)
AWAITED = (
    "id endpoint reference event_id state due_at_ms ask_count created_at_ms finished_at_ms"
    " settled_by_id last_error asked_at_ms answered_at_ms known_at_ms".split()
)
REJECTION = "id at_ms endpoint remote_ip reason body_bytes body_digest hint".split()


def test_every_row_of_a_list_has_these_names(config: Path) -> None:
    lists = {"events": IN_A_LIST, "deliveries": DELIVERY, "unsettled": AWAITED}
    for command, names in (lists | {"rejections": REJECTION}).items():
        listed = json_of(config, command)
        assert listed
        assert [list(row) for row in listed] == [names] * len(listed)


def test_an_event_that_is_shown_has_these_names(config: Path) -> None:
    shown = json_of(config, "show", 1)
    stored = [name for name in EVENT if name != "handled"]  # its deliveries stand below
    whole = [*stored[:5], "token", *stored[5:]]
    whole.insert(whole.index("face_match"), "session_id")
    whole.remove("contradicted")
    of_features = ("erasure_id", "on_hold", "contradicted", "awaited", "inquiries")
    assert list(shown) == [*whole, "body", "deliveries", *of_features]
    _assert_deliveries(shown)
    revealed = json_of(config, "show", 1, "--reveal")
    whole.insert(whole.index("token") + 1, "headers")
    assert list(revealed) == [*whole, "body", "deliveries", *of_features]
    _assert_deliveries(revealed)


def _assert_deliveries(shown: Any) -> None:
    assert shown["deliveries"]
    for delivery in shown["deliveries"]:
        assert list(delivery) == [*DELIVERY, "attempts"]
        assert [list(attempt) for attempt in delivery["attempts"]][:1] == [ATTEMPT]


def test_a_replay_prints_these_names(config: Path) -> None:
    planned = json_of(config, "replay", "--dead", "--dry-run")
    assert list(planned) == ["would_queue", "left_alone"]
    row = "id event_id action state"
    assert {" ".join(each) for each in planned["would_queue"]} == {row}
    assert list(json_of(config, "replay", "--dead")) == ["queued", "left_alone"]


def test_a_check_prints_these_names(config: Path) -> None:
    names = "ok actions_by_response_code warnings database daemon"
    assert list(json_of(config, "check")) == names.split()
    config.write_text("{}")
    done = run("check", "--json", "--config", config)
    refused = json.loads(done.out)
    assert (done.code, list(refused)) == (78, ["ok", "problems"])
    assert list(refused["problems"][0]) == ["file", "line", "column", "message"]


def test_an_explanation_has_these_names(config: Path, tmp_path: Path) -> None:
    body = tmp_path / "body.json"
    body.write_text('{"response_code": "00"}')
    explained = json_of(config, "explain", body)
    assert list(explained) == ["endpoint", "verdict", "actions", "not_matched"]
    names = ["kind", "type", *VERDICT[1:8], "session_id", *VERDICT[8:]]
    names += ["risk_level", "risk_score", "doubt"]
    assert list(explained["verdict"]) == names
    assert list(explained["actions"][0]) == ["action", "command", "environment", "stdin_bytes"]
    assert list(explained["not_matched"][0]) == ["action", "reason"]
