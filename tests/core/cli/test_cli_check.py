"""What `premblyd check` warns of, and how it compares the running daemon with the files."""

import json
import os
from collections.abc import Iterable
from pathlib import Path
from signal import SIGKILL
from typing import Any

import pytest

from premblyd.receive import listening
from tests.support.commands import json_of, run
from tests.support.configuration import configuration, shell
from tests.support.daemon import Premblyd
from tests.support.ports import free_port
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


def test_no_daemon_is_a_note_and_no_warning(tmp_path: Path) -> None:
    config = write(tmp_path)
    assert check(config)["daemon"] is None
    for _ in range(2):
        done = run("check", "--config", config)
        note = f"\nNo daemon runs on {tmp_path}/premblyd.db."
        assert (done.code, done.err, note in done.out) == (0, "", True)
        (tmp_path / "premblyd.db.running").write_text("{}")  # it can't be read


@pytest.mark.process
@pytest.mark.sqlite
def test_the_running_daemon_is_told_until_it_stops_or_is_killed(
    tmp_path: Path, daemon: Premblyd
) -> None:
    published = tmp_path / "premblyd.db.running"
    for end in (daemon.stop, daemon.kill):
        daemon.start()
        daemon.config.chmod(0o640)
        shown = check(daemon.config)
        assert (shown["warnings"], shown["daemon"]["listen"]) == ([], [daemon.address])
        line = f"A daemon runs on it: pid {daemon.process.pid}, version "
        assert line in run("check", "--config", daemon.config).out
        text = published.read_text()
        assert published.stat().st_mode & 0o777 == 0o640
        assert KEY not in text
        end()
        assert published.exists() == (daemon.process.returncode == -SIGKILL)
        assert check(daemon.config)["daemon"] is None
    published.write_text(json.dumps(json.loads(text) | {"pid": os.getpid()}))
    assert check(daemon.config)["daemon"] is None, "its pid is another process now"


@pytest.mark.process
def test_a_changed_file_is_told_until_it_is_reloaded(tmp_path: Path, daemon: Premblyd) -> None:
    pid = daemon.start().process.pid
    daemon.config.write_text(daemon.config.read_text() + "\n\n")
    daemon.config.chmod(0o640)
    assert warnings(daemon.config) == []
    write(tmp_path, actions=[shell("new", "true")])
    older = f"the running daemon (pid {pid}) uses an older configuration:"
    assert warnings(daemon.config) == [f"{older} `kill -HUP {pid}` makes it read the file"]
    quiet = run("check", "--quiet", "--config", daemon.config)
    assert (quiet.code, quiet.out, quiet.err) == (0, "", ""), "systemd's reload begins so"
    daemon.reload()
    assert warnings(daemon.config) == []


@pytest.mark.process
def test_what_needs_a_restart_is_told_so_before_and_after_a_reload(daemon: Premblyd) -> None:
    """One daemon for all: each is put back before the next."""
    pid = daemon.start().process.pid
    same = json.loads(daemon.config.read_text())
    daemon.config.chmod(0o640)
    other = f"127.0.0.1:{free_port()}"
    for number, (key, value, told) in enumerate(
        [
            ("hosts", {"name": "another"}, "started with another `hosts`"),
            ("listen", other, "started with another `listen`"),
        ]
    ):
        daemon.config.write_text(json.dumps(same | {key: value}))
        words = [f"the running daemon (pid {pid}) {told}: restart it"]
        assert warnings(daemon.config) == words
        daemon.reload()
        assert daemon.log("config.needs_restart")[number]["setting"] == key
        assert warnings(daemon.config) == words


@pytest.mark.process
@pytest.mark.sqlite  # of several on a server, a daemon is found by its configuration
def test_a_daemon_of_another_file_is_told(tmp_path: Path, daemon: Premblyd) -> None:
    pid = daemon.start().process.pid
    other = tmp_path / "other.yaml"
    other.write_text(daemon.config.read_text())
    other.chmod(0o640)
    reads = f"the running daemon (pid {pid}) reads {daemon.config}, not this file"
    assert warnings(other) == [reads]


@pytest.mark.process
@pytest.mark.sqlite
def test_a_daemon_that_can_not_publish_itself_works_all_the_same(
    tmp_path: Path, daemon: Premblyd
) -> None:
    (tmp_path / "premblyd.db.running").mkdir()
    assert daemon.start().send(b"{}").status == 200
    assert daemon.log("daemon.not_published")
    assert daemon.stop() == 0


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
