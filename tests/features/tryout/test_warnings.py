"""What `premblyd check` warns of, of the core's keys and of features'."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from premblyd.receive import listening
from tests.support.commands import json_of, run
from tests.support.configuration import configuration, shell
from tests.support.rows import for_each
from tests.support.webhooks import KEY, SECRET_PATH


def write(folder: Path, **changes: Any) -> Path:
    path = folder / "premblyd.yaml"
    if path.exists():  # a daemon's
        changes.setdefault("database", json.loads(path.read_text())["database"])
    path.write_text(json.dumps(configuration(**changes)))
    path.chmod(0o640)
    return path


def check(config: Path) -> Any:
    """Return what `check --json` prints of a good configuration."""
    return json_of(config, "check")


def warnings(config: Path) -> list[str]:
    """Return what it warns of. That it prints the same without --json, test_cli looks at."""
    found: list[str] = check(config)["warnings"]
    return found


def hold_doubts(folder: Path, cases: Iterable[tuple[dict[str, Any], str | None]]) -> None:
    """Hold that each configuration has this warning alone; None: that it has none."""
    for changes, doubt in cases:
        found = warnings(write(folder, **changes))
        assert len(found) == (doubt is not None), (changes, found)
        assert doubt is None or doubt in found[0], changes
        assert "hush" not in str(found)


def test_a_code_that_no_webhook_is_known_to_have_is_doubted(tmp_path: Path) -> None:
    codes = ("00", "01", "02", "03", "07", "*", "missing", "default")
    none = 'Prembly documents no response code "04" (but 00, 01, 02, 03, 07)'
    cases = {"04": none, **dict.fromkeys(codes)}
    actions = {code: [shell("a", "true", code, types=["*"])] for code in cases}
    hold_doubts(tmp_path, (({"actions": actions[code]}, doubt) for code, doubt in cases.items()))


def test_an_endpoint_a_key_or_a_type_that_is_not_there_is_doubted(tmp_path: Path) -> None:
    for when, doubt in (
        ("endpoint == 'prembli'", "endpoint is one of 'prembly'; write 'prembly'"),
        ("contains(['public-key:live'], verified_by)", "verified_by is one of 'hmac-sha256:live'"),
        ("type == 'transaction.procesed'", "did you mean 'transaction.processed'?"),
        ("endpoint == 'prembly' && verified_by == 'hmac-sha256:live'", None),
    ):
        select = {"url": "http://127.0.0.1:9/", "send": {"select": f"{{a: {when}}}"}}
        http = {"name": "a", "types": ["*"], "response_codes": ["*"], "http": select}
        actions = (shell("a", "true", when=when, types=["*"]), http)
        hold_doubts(tmp_path, (({"actions": [action]}, doubt) for action in actions))


PAGE: dict[str, Any] = {"name": "page", "shell": "true"}


def test_an_action_that_would_run_for_what_it_may_not_be_about_is_doubted(tmp_path: Path) -> None:
    for action, types in (
        ({"response_codes": ["missing"]}, "watchlist.identity_flagged, workflow.process.completed"),
        ({"response_codes": ["default"]}, "credit.decision, statement.analysis"),
        ({"response_codes": ["00"], "when": "outcome != 'verified'"}, "credit.decision"),
        ({"response_codes": ["*"], "when": "risk_level == 'high'"}, "transaction.case.opened"),
        ({"response_codes": ["02", "03"]}, None),
        ({"response_codes": ["00"], "when": "outcome == 'verified'"}, None),
        ({"response_codes": ["*"]}, None),
        ({"response_codes": ["missing"], "types": ["*"]}, None),
    ):
        has_no = "action page has no `types`, and would run for events"
        found = warnings(write(tmp_path, endpoint={"path": SECRET_PATH}, actions=[PAGE | action]))
        assert [text.startswith(has_no) for text in found] == [True] * (types is not None), action
        assert not found or f"({types}" in found[0], action


def test_a_type_that_no_event_is_known_to_have_is_doubted(tmp_path: Path) -> None:
    cases = {
        "sdk.sesion": "no type sdk.sesion; did you mean sdk.session?",
        "transaction": "did you mean transaction.*?",
        **dict.fromkeys(("transaction.released", "case.opened", "verification.?sync")),
    }
    page = PAGE | {"response_codes": ["*"]}
    actions = {pattern: [page | {"types": [pattern]}] for pattern in cases}
    hold_doubts(tmp_path, (({"actions": actions[each]}, doubt) for each, doubt in cases.items()))


ACTIVATE = PAGE | {
    "response_codes": ["00"],
    "types": ["sdk.session", "verification.*", "prembly.status"],
    "when": "outcome == 'verified'",
}


NEXT_KEY = "verified_by == 'hmac-sha256:next' && outcome == 'verified'"


ASKED = {"api_key": "live_sk_hush", "url": "https://api.prembly.com"}


@for_each(
    ("action", "endpoint", "is_doubted"),
    [
        ({}, {}, True),
        ({"when": "verification_status == 'VERIFIED' && face_match"}, {}, True),
        ({}, {"path": "/webhooks/prembly-2026"}, True),
        ({"confirm": True}, {}, False),
        ({}, {"path": SECRET_PATH}, False),
        ({}, {"path": "/hooks/prembly-5c0a7d0f4b1e4f3c.json"}, False),
        ({}, {"allow_ips": ["192.0.2.0/24"]}, False),
        ({"when": "outcome == 'not_verified'"}, {}, False),
        ({"when": "outcome == 'pending'", "response_codes": ["*"]}, {}, False),
        ({"when": NEXT_KEY}, {"keys": {"live": KEY, "next": "another-key"}}, True),
        ({"when": "verified_by == 'prembly-api' && outcome == 'verified'"}, {}, False),
    ],
)
def test_an_action_that_trusts_the_signature_alone_is_doubted(
    tmp_path: Path, action: dict[str, Any], endpoint: dict[str, Any], is_doubted: bool
) -> None:
    actions = [ACTIVATE | action]
    found = warnings(write(tmp_path, endpoint=endpoint, actions=actions, prembly=ASKED))
    doubts = [line for line in found if "whoever has your public key" in line]
    assert len(doubts) == is_doubted
    for line in doubts:
        assert line.startswith("action page runs for people who are verified")
        assert "`confirm: true`" in line
        assert "endpoint prembly a path that nobody can guess" in line


def test_a_key_that_is_none_of_premblys_is_doubted_and_not_quoted(tmp_path: Path) -> None:
    asked: list[tuple[dict[str, Any], str | None]] = [
        ({"api_key": "live_sk_hush", "url": "http://api.example.com"}, "is not https"),
        ({"api_key": "live_sk_hush", "url": "http://127.0.0.1:9"}, None),
    ]
    hold_doubts(tmp_path, (({"prembly": prembly}, doubt) for prembly, doubt in asked))
    keys = {
        "<your public hush>": "endpoint prembly, key live: it is a placeholder",
        "live_sk_hush": "endpoint prembly, key live: it looks like the secret key",
        "'live_pk_hush'": "it has quotes, white space or letters",
        "live_pk_hush\ufeff": "it has quotes, white space or letters",
    }
    ends = {key: {"keys": {"live": key}} for key in keys}
    hold_doubts(tmp_path, (({"endpoint": ends[key]}, doubt) for key, doubt in keys.items()))


def test_a_console_in_the_open_is_doubted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listening, "why_not", lambda _: None)  # these addresses are not here
    there = {"listen": "127.0.0.1:8081", "url": "https://ops.example.com"}
    consoles: list[tuple[dict[str, str], str | None]] = [
        ({"listen": "0.0.0.0:8081"}, "without TLS"),
        (there, None),
        ({"listen": "[::1]:8081"}, None),
    ]
    hold_doubts(tmp_path, (({"console": console}, doubt) for console, doubt in consoles))


def test_an_action_that_gets_what_can_not_be_confirmed_is_doubted(tmp_path: Path) -> None:
    def found(**keys: Any) -> list[str]:
        action = shell("a", "true", "*", confirm=True, **keys)
        return warnings(write(tmp_path, actions=[action], prembly={"api_key": "live_sk_x"}))

    for types in (["*"], ["transaction.*"]):
        (text,) = found(types=types)
        assert text.startswith("action a has `confirm`, and Prembly can't be asked for ")
        assert "transaction.processed" in text
    assert found(types=["sdk.session", "verification.*", "prembly.status"]) == []
    assert found(types=["*"], when="outcome == 'verified'") == []
    routes = check(tmp_path / "premblyd.yaml")["actions_by_response_code"]
    assert "confirmed by Prembly first)" in str(routes)


def test_the_programs_of_a_shell_line_and_a_worker_are_looked_for_too(tmp_path: Path) -> None:
    stays = {"name": "stays", "response_codes": ["*"], "worker": ["/nowhere/worker", "--now"]}
    actions = [shell("gone", "/nowhere/at-all --now"), shell("there", "/bin/sh -c true"), stays]
    assert warnings(write(tmp_path, actions=actions)) == [
        "action gone: /nowhere/at-all is not an executable here",
        "action stays: /nowhere/worker is not an executable here",
    ]


def test_pending_that_comes_to_nothing_is_doubted(tmp_path: Path) -> None:
    asking = {"prembly": {"api_key": "hush"}, "pending": {"ask": ["1m", "1h"], "give_up": "1h"}}
    action = shell("a", "true", "00", types=["sdk.session"])
    (no_action,) = warnings(write(tmp_path, actions=[action], **asking))
    assert "no action is for the type prembly.status" in no_action
    action["types"] = ["prembly.*"]
    assert warnings(write(tmp_path, actions=[action], **asking)) == []


def test_what_is_kept_for_ever_is_a_fact_and_no_warning(tmp_path: Path) -> None:
    kept = "body 90d, identity 1y"
    for retention, words in (
        ({}, "nothing is deleted (no `retention`)"),
        ({"retention": {"body": "90d", "identity": "1y"}}, kept),
    ):
        config = write(tmp_path, **retention)
        assert warnings(config) == []
        assert f"\nRetention: {words}.\n" in run("check", "--config", config).out
