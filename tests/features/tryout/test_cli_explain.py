"""The dry run, and that nothing a sender writes reaches a terminal as control characters."""

import base64
import json
import re
from pathlib import Path
from typing import Any

import pytest

from premblyd.features.tryout import samples
from premblyd.features.tryout.explaining import CONFIRMED
from premblyd.features.worker.conversation import UNHEARD
from premblyd.ground.privacy import mask_document
from premblyd.prembly.bodies import parse
from tests.support.commands import run
from tests.support.configuration import configuration, shell
from tests.support.daemon import Premblyd
from tests.support.prembly_api import prembly_api
from tests.support.rows import for_each
from tests.support.waiting import wait_until

HUSH = "hush-hush-hush-hush"
SIGNING = "whsec_" + base64.b64encode(HUSH.encode()).decode()
ESCAPE, CSI, RIGHT_TO_LEFT = "\x1b]0;owned\x07", "\x9b31m", "\u202e"
EVIL = f"\\[/bold] [red]x[/red] :smile: {ESCAPE}{CSI}{RIGHT_TO_LEFT}\x7f\\"


def write(folder: Path, *actions: dict[str, Any], **endpoint: Any) -> Path:
    path = folder / "premblyd.yaml"
    endpoint = {"keys": {"live": {"file": "not-there"}}} | endpoint
    path.write_text(json.dumps(configuration(endpoint=endpoint, actions=actions)))
    return path


def explain(config: Path, body: bytes, *options: str) -> Any:
    done = run("explain", "-", "--json", "--config", config, *options, stdin=body)
    assert (done.code, done.err) == (0, "")
    return json.loads(done.out)


def test_what_is_read_is_printed_as_when_writes_it_and_a_session_is_masked(tmp_path: Path) -> None:
    config = write(tmp_path, shell("only", "true", "00"))
    body = b'{"face_data": {"status": false}, "session_id": "hush-session"}'
    printed = run("explain", "-", "--config", config, stdin=body).out
    assert "\n  face_match           false\n" in printed
    assert "\n  doubt                -\n" in printed
    assert "No action: the event would be stored, and nothing would run." in printed
    assert explain(config, body)["verdict"]["session_id"] == "•••"
    assert "hush-session" not in printed
    assert explain(config, b"not JSON")["verdict"]["kind"] == "raw"


def test_a_shell_action_is_shown_and_not_run(tmp_path: Path) -> None:
    env = {"PASSWORD": HUSH, "A": {"env": "B"}}
    config = write(tmp_path, shell("touch", f"touch {tmp_path}/ran", "00", env=env))
    exact = explain(config, samples.sample("sdk"))
    assert exact["verdict"]["outcome"] == "verified"
    (shown,) = exact["actions"]
    assert shown["command"] == ["/bin/sh", "-c", f"touch {tmp_path}/ran"]
    assert shown["stdin_bytes"] == len(samples.sample("sdk"))
    environment = shown["environment"]
    assert environment["PREMBLY_USER_REF"] == "usr_000042"
    assert (environment["PASSWORD"], environment["A"]) == ("••• (text)", "••• (env:B)")
    printed = run("explain", "-", "--config", config, stdin=samples.sample("sdk")).out
    assert f"  command:\n    /bin/sh\n    -c\n    touch {tmp_path}/ran\n" in printed
    assert "  PREMBLY_RESPONSE_CODE=00\n" in printed
    assert HUSH not in printed + json.dumps(exact)
    assert [path.name for path in tmp_path.iterdir()] == ["premblyd.yaml"]


def test_what_would_be_confirmed_is_said_and_nothing_is_asked(tmp_path: Path) -> None:
    config = write(tmp_path, shell("act", "true", "*", confirm=True))
    settings = json.loads(config.read_text())
    with prembly_api() as api:
        settings["prembly"] = {"url": api.url, "api_key": {"file": "not-there"}}
        config.write_text(json.dumps(settings))
        body = b'{"data": {"session_id": "sdk_session_hush"}}'
        (shown,) = explain(config, body)["actions"]
        assert shown["confirm"] == CONFIRMED
        assert shown["environment"]["PREMBLY_CONFIRMED"] == "true"
        printed = run("explain", "-", "--config", config, stdin=body).out
        assert f"  confirm: {CONFIRMED}\n" in printed
        assert "hush" not in printed
        assert api.asked() == 0


def test_an_http_action_is_shown_with_its_secrets_masked(tmp_path: Path) -> None:
    http = {"url": {"file": "chat-url"}, "headers": {"Authorization": HUSH}, "sign_with": SIGNING}
    login = {"url": f"https://crm:{HUSH}@crm.example.com/prembly"}
    config = write(
        tmp_path,
        {"name": "crm", "response_codes": ["00"], "http": http},
        {"name": "login", "response_codes": ["00"], "http": login},
    )
    body = samples.sample("api")
    shown, other = explain(config, body)["actions"]
    headers = shown["headers"]
    assert headers["webhook-id"].endswith("-crm")
    assert headers.pop("webhook-timestamp").isdecimal()
    assert {headers[name] for name in headers if "signature" in name or name == "token"} == {"•••"}
    assert headers["Authorization"] == "••• (text)"
    assert (shown["body"].encode(), shown["body_bytes"]) == (body, len(body))
    printed = run("explain", "-", "--config", config, stdin=body).out
    urls = ["••• (file:chat-url)", "https://•••@crm.example.com/prembly"]
    assert [shown["url"], other["url"]] == urls
    assert not [url for url in urls if f"  url: {url}\n" not in printed]
    assert not [one for one in (HUSH, SIGNING) if one in printed + json.dumps([shown, other])]


def worker(folder: Path, script: str, **more: Any) -> Path:
    """Return a configuration with a worker that is this script of sh."""
    program = folder / "worker"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    action = {"name": "act", "response_codes": ["*"], "worker": [str(program)], **more}
    return write(folder, action, keys={"live": HUSH})


def test_a_worker_is_shown_with_the_exact_lines_that_it_reads(tmp_path: Path) -> None:
    config = worker(tmp_path, f"touch {tmp_path}/ran", env={"PASSWORD": HUSH})
    (shown,) = explain(config, samples.sample("sdk"))["actions"]
    assert shown["worker"] == [f"{tmp_path}/worker"]
    assert shown["environment"]["PASSWORD"] == "••• (text)"
    greeting, line = map(json.loads, shown["lines"])
    assert (greeting["action"], line["number"], line["user_ref"]) == ("act", 1, "usr_000042")
    assert line["body"] == json.loads(samples.sample("sdk"))
    printed = run("explain", "-", "--config", config, stdin=samples.sample("sdk")).out
    assert '\n    {"number":1,' in printed
    assert HUSH not in printed + json.dumps(shown)
    assert not (tmp_path / "ran").exists()


def attempt(config: Path) -> tuple[int, str, list[str]]:
    """Return what `try` ends with and says, without the time, and what it shows below."""
    done = run("try", "act", "-", "--config", config, stdin=b'{"reference": "ver-1"}')
    assert done.err == ""
    first, *shown = done.out.splitlines()
    return done.code, re.sub(r" after \d+ ms", "", first), shown


@pytest.mark.process
def test_try_gives_a_worker_one_line_and_shows_what_it_printed_and_how_it_ended(
    tmp_path: Path,
) -> None:
    takes = "echo ready 1 >&4; read -r _ <&3; read -r line <&3; echo took it"
    for script, code, told, shown in (
        (f"{takes}; echo ok 1 known >&4", 0, "act succeeded", ["took it", "known"]),
        (f"{takes}; echo saved >&4", 1, "act failed: the worker broke", ["took it", "saved"]),
        ("echo no module >&2; exit 3", 1, "act failed: the worker process", ["no module"]),
    ):
        ended, said, lines = attempt(worker(tmp_path, script))
        assert (ended, said[: len(told)]) == (code, told)
        assert lines == [f"  | {line}" for line in shown]
    late = worker(tmp_path, "sleep 60", start_timeout="50ms")
    told = f"act failed: no `ready 1` within `start_timeout`{UNHEARD}"
    assert attempt(late) == (1, told, [])


def test_a_selection_is_shown_as_it_would_be_sent_or_why_it_would_fail(tmp_path: Path) -> None:
    url = "http://crm.example.com/"
    hooks = [{"url": url, "send": {"select": select}} for select in ("outcome", "abs(status)")]
    actions = [
        {"name": f"a{at}", "response_codes": ["*"], "http": http} for at, http in enumerate(hooks)
    ]
    config = write(tmp_path, *actions)
    good, failing = explain(config, samples.sample("pending"))["actions"]
    assert good["body"] == '"pending"'
    assert failing["error"].startswith("`select` failed for this event")
    printed = run("explain", "-", "--config", config, stdin=samples.sample("pending")).out
    assert "  error: `select` failed for this event" in printed


def test_every_other_action_is_shown_with_why_not(tmp_path: Path) -> None:
    config = write(
        tmp_path,
        shell("runs", "true", "00"),
        shell("other-code", "true", "02", "03"),
        shell("other-type", "true", types=["transaction.*", "sdk.session"]),
        shell("rest", "true", "missing", "default"),
        shell("not-verified", "true", when="outcome == 'not_verified'"),
        shell("broken", "true", when="abs(outcome) == `1`"),
    )
    not_in = "response code 00 is not in"
    named = "another action names it, so `default` does not apply"
    reasons = {
        "other-code": f"{not_in} [02, 03]",
        "other-type": "type verification.direct is not in [transaction.*, sdk.session]",
        "rest": f"{not_in} [missing, default]; {named}",
        "not-verified": "`when` is false: outcome == 'not_verified'",
        "broken": "`when` failed for this event, which counts as no: JMESPathTypeError",
    }
    exact = explain(config, samples.sample("api"))
    assert [one["action"] for one in exact["actions"]] == ["runs"]
    assert {one["action"]: one["reason"] for one in exact["not_matched"]} == reasons
    printed = run("explain", "-", "--config", config, stdin=samples.sample("api")).out
    assert f"\nWould not run\n  other-code: {reasons['other-code']}\n" in printed
    missing = explain(config, b"{}")["not_matched"][0]
    assert missing["reason"] == "the response code is missing, which is not in [00]"


def test_endpoint_and_key_are_chosen_by_name_and_seen_by_when(tmp_path: Path) -> None:
    keys = {name: {"file": "not-there"} for name in ("live", "sandbox")}
    activate = shell("activate", "true", when="verified_by == 'hmac-sha256:live'")
    config = write(tmp_path, activate, keys=keys, fields={"reference": "mine"})
    for options, actions in (((), 1), (("--key", "live"), 1), (("--key", "sandbox"), 0)):
        found = explain(config, b'{"mine": 7}', "--endpoint", "prembly", *options)
        assert (found["verdict"]["reference"], len(found["actions"])) == ("7", actions)
    for option, words in (
        ("--key", "There is no key gone at the endpoint prembly; it has live, sandbox.\n"),
        ("--endpoint", "There is no endpoint gone; the configuration has prembly.\n"),
    ):
        done = run("explain", "-", option, "gone", "--config", config, stdin=b"{}")
        assert (done.code, done.out, done.err) == (1, "", words)


@pytest.fixture(scope="module")
def evil(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A record of one webhook that attacks whoever looks at it; its hooks do too."""
    body = {"response_code": EVIL, "detail": EVIL, "reference": EVIL, EVIL: [EVIL, "\ud800"]}
    hook = shell("cat", "cat; exit 1", retry={"attempts": 1})
    with Premblyd(tmp_path_factory.mktemp("evil"), actions=[hook]) as daemon:
        daemon.start().send(json.dumps(body).encode(), user_agent=CSI.encode().decode("latin-1"))
        wait_until(lambda: daemon.rows("SELECT id FROM delivery WHERE state = 'dead'"))
        daemon.stop()
    text = json.dumps(body, ensure_ascii=False)
    (daemon.folder / "body").write_bytes(text.encode("utf-8", "replace"))
    return daemon.config


@pytest.mark.process
@for_each("command", ["events", "deliveries", "show 1", "show 1 --reveal", "explain body"])
def test_control_characters_of_a_sender_do_nothing_to_a_terminal(evil: Path, command: str) -> None:
    arguments = [str(evil.with_name(one)) if one == "body" else one for one in command.split()]
    printed, exact = (run(*arguments, *more, "--config", evil) for more in ([], ["--json"]))
    assert (printed.code, printed.err, exact.code, exact.err) == (0, "", 0, "")
    shown = printed.out + exact.out
    assert {letter for letter in shown if not letter.isprintable()} == {"\n"}
    if command == "deliveries":  # nothing of a sender's is in it
        return
    assert "[/bold] [red]x[/red] :smile: " in printed.out, "markup is plain text"
    read = json.dumps(json.loads(exact.out), ensure_ascii=False)
    assert json.dumps(EVIL, ensure_ascii=False)[1:-1] in read, "and JSON is exact"


@pytest.mark.process
def test_a_body_nested_too_deeply_is_shown_as_text(daemon: Premblyd) -> None:
    body = b'{"reference":"deep","data":' + b"[" * 3000 + b"]" * 3000 + b"}"
    assert daemon.start().send(body).status == 200
    daemon.stop()
    assert json.loads(run("show", "1", "--json", "--config", daemon.config).out)["body"] == "•••"
    revealed = json.loads(run("show", "1", "--reveal", "--json", "--config", daemon.config).out)
    assert revealed["body"] == body.decode()
    assert run("explain", "-", "--config", daemon.config, stdin=body).code == 0


def test_every_sample_shows_how_the_check_went() -> None:
    for name in samples.NAMES:
        document = parse(samples.sample(name))
        assert document
        masked = mask_document(document).document
        for key in ("response_code", "status", "detail", "message", "verification"):
            assert masked.get(key) == document.get(key)
