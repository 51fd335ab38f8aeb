"""Secrets and personal data, sent down every path: none comes out where nobody should read it."""

import base64
import contextlib
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from signal import SIGHUP
from typing import Any

import psutil
import pytest

from premblyd.config.load import load_config
from premblyd.ground.errors import ConfigError
from premblyd.prembly.signature import HEADER, sign
from tests.support.configuration import ONCE, shell
from tests.support.daemon import Premblyd
from tests.support.database import away
from tests.support.http_server import Handler, serving
from tests.support.requests import request
from tests.support.rows import for_each
from tests.support.waiting import wait_until
from tests.support.webhooks import PATH, signed

PHOTO = base64.b64encode(bytes(range(256)) * 20).decode()
HUSH = {
    "key": "*canary-of-a-key",
    "token": "canary-of-a-token",
    "session": "canary-of-a-session",
    "bvn": "22123456789",
    "card": "4111111111111111",
    "name": "canary-lovelace",
    "malformed signature": "canary!signature",
    **{name: f"canary-of-the-{name}" for name in ("url", "environment", "header", "path")},
}
BODY = json.dumps(
    {
        "response_code": HUSH["card"],
        "detail": f"BVN {HUSH['bvn']} verified in {HUSH['session']}",
        "reference": HUSH["name"],
        "session_id": HUSH["session"],
        "widget_info": {"user_ref": HUSH["bvn"], "session_id": HUSH["session"]},
        "data": {"bvn": HUSH["bvn"], "base64Image": PHOTO, "phone": f"+{HUSH['bvn']}"},
    }
).encode()
MALFORMED = BODY[:-1]
SIGNED = signed(BODY, HUSH["key"], token=HUSH["token"])
WRONG = signed(BODY, HUSH["key"] + "?", token=HUSH["token"])
ALSO_HUSH = [
    *(value.lstrip("*") for value in HUSH.values()),
    *(PHOTO[start : start + 32] for start in range(0, len(PHOTO) - 32, 500)),
    *(one[HEADER] for one in (SIGNED, WRONG)),
    sign(MALFORMED, HUSH["key"]),
]
MAX_BODY = 20_000
BAD_FILES = [
    "endpoints: [{{name: a, path: /a, keys: {{live: {key}}}}}]\n",  # *… is an alias in YAML
    "endpoints: [{{name: a, path: /a, keys: ['{key}']}}]\n",
    "endpoints: [{{name: a, path: /a, keys: {{'{key}'}}}}]\n",
    "endpoints: [{{name: a, path: '{path}', keys: {{live: '{key}'}}}}]\n",
    "endpoints: [{{name: a, path: /a, keys: {{live: '{key}', live: '{key}'}}}}]\n",
    "actions: [{{name: a, http: {{url: '{url}', headers: {{a: ['{header}']}}}}}}]\n",
    "actions: [{{name: a, http: {{url: 'http://h', sign_with: '{key}'}}, timeout: '{token}'}}]\n",
    "actions: [{{name: a, shell: 'x', env: {{A: {{file: [{environment}]}}}}}}]\n",
    "token: !{token}!x y\n",
    "token: &{token} x\nother: &{token} y\n",
    "token: '{token}\n",
    'token: "\\{token}"\n',
]


def actions(folder: Path, url: str) -> list[dict[str, Any]]:
    wait = f"cat > /dev/null; while test ! -e {folder}/go; do sleep 0.02; done"
    forever = {"timeout": "10m", "retry": {"first_delay": "0ms"}}
    secrets = {"headers": {"Authorization": HUSH["header"]}, "timeout": "5s"}
    http = {"response_codes": ["*"], "retry": ONCE}
    refused = {"url": f"http://127.0.0.1:1/{HUSH['url']}", **secrets}
    return [
        shell("prints", "cat; env; cat /proc/$$/environ; exit 3", retry=ONCE),
        shell("waits", wait, env={"SECRET": HUSH["environment"]}, **forever),
        shell("misses", "canary-free-command-that-is-not-there"),
        {"name": "missing", "response_codes": ["*"], "command": ["/nonexistent/hook"]},
        shell("fails", "true", when="abs(body.session_id) == `1`"),
        {"name": "echoes", "http": {"url": f"{url}/{HUSH['url']}", **secrets}, **http},
        {"name": "refused", "http": refused, **http},
        {
            "name": "selects",
            "http": {"url": url, "send": {"select": "abs(body.session_id)"}},
            **http,
        },
    ]


def answers(daemon: Premblyd) -> Iterator[tuple[int, bytes]]:
    """Send everything; yield each answer, its headers too."""
    post, token = (daemon.address, "POST", PATH), {"token": HUSH["token"]}
    malformed = signed(MALFORMED, HUSH["key"], **token)
    answers = [
        request(*post, body, headers)
        for body, headers in (
            *((BODY, SIGNED), (BODY, SIGNED), (BODY, WRONG)),
            (BODY, token | {HEADER: HUSH["malformed signature"]}),
            *((BODY, token), (BODY + b" " * MAX_BODY, SIGNED), (MALFORMED, malformed)),
        )
    ]
    with away(daemon.place):
        answers.append(request(*post, BODY, SIGNED | {"token": HUSH["token"] + "2"}))
    path = f"/{HUSH['path']}?token={HUSH['token']}"
    answers.append(request(daemon.address, "GET", path, b"", SIGNED))
    yield from ((answer.status, str(answer).encode()) for answer in answers)
    host, _, port = daemon.address.partition(":")
    odd = f"token: {HUSH['token']}\r\n{HEADER}: {SIGNED[HEADER]}\r\n"
    for head in (
        f"POST {PATH} HTTP/1.1\r\n{odd}Content-Length: {HUSH['bvn']}x\r\n\r\n",
        f"POST {PATH} HTTP/9\r\nHost: h\r\n{odd}\r\n",
        f"POST {PATH} HTTP/1.1\r\nHost: h\r\n {odd}{HUSH['token']}\r\n\r\n",
        f"{HUSH['path']}\r\n{odd}\r\n",
    ):
        with socket.create_connection((host, int(port))) as client:
            client.sendall(head.encode())
            yield 400, client.recv(4096)


def arguments(daemon: Premblyd) -> list[str]:
    """Return the argument lists of the daemon and of the hooks that run now."""
    found = []
    for one in (psutil.Process(daemon.process.pid), *daemon.hooks()):
        with contextlib.suppress(psutil.NoSuchProcess):  # it has just ended
            found.append(" ".join(one.cmdline()))
    assert len(found) > 2
    return found


def leaks(value: object) -> list[str]:
    return [hush for hush in ALSO_HUSH if hush in str(value)]


def echo(handler: Handler) -> None:
    _, headers, body = handler.server.requests[-1]
    handler.reply(500, str(headers).encode() + body)


@for_each("text", BAD_FILES)
def test_the_problems_of_a_configuration_quote_no_secret(tmp_path: Path, text: str) -> None:
    path = tmp_path / "premblyd.yaml"
    path.write_text("database: sqlite:///x.db\n" + text.format(**HUSH))
    with pytest.raises(ConfigError) as refused:
        load_config(path)
    assert not leaks(refused.value)


@pytest.mark.process
def test_a_canary_comes_out_nowhere(tmp_path: Path) -> None:
    """The log is JSON at first, and for people's eyes after the crash."""
    seen: dict[str, object] = {}
    with (
        serving(echo) as server,
        Premblyd(
            tmp_path,
            endpoint={"keys": {"live": HUSH["key"]}},
            actions=actions(tmp_path, server.url),
            max_body=f"{MAX_BODY} B",
            log={"format": "json", "level": "debug"},
        ) as daemon,
    ):
        daemon.start(is_executed=True)  # which has arguments of its own
        got = list(answers(daemon))
        expected = [200, 200, 401, 401, 401, 413, 200, 503, 404, *[400] * 4]
        assert [status for status, _ in got] == expected
        ended = "SELECT action, count(*) FROM delivery WHERE state = 'dead' GROUP BY action"
        failing = ("echoes", "misses", "missing", "prints", "refused", "selects")
        daemon.wait_for_rows([(name, 2) for name in failing], ended)
        wait_until(lambda: len(daemon.hooks()) >= 2)  # the ones that wait
        seen["arguments"] = arguments(daemon)
        good = daemon.config.read_text()
        for number, bad in enumerate(BAD_FILES, 1):
            daemon.config.write_text("database: sqlite:///x.db\n" + bad.format(**HUSH))
            daemon.signal(SIGHUP)
            wait_until(lambda: daemon.log_text().count("config.reload_refused") == number)  # noqa: B023
        daemon.kill()
        seen["log before the crash"] = daemon.log_text()
        daemon.config.write_text(good.replace('"format": "json"', '"format": "console"'))
        (tmp_path / "go").touch()
        daemon.start()
        waited = "SELECT state, attempt_count FROM delivery WHERE action = 'waits'"
        daemon.wait_for_rows([("succeeded", 2)] * 2, waited)
        got += answers(daemon)
        assert [status for status, _ in got] == expected * 2
        assert daemon.stop() == 0
        seen["log after the crash"] = daemon.log_text()
    seen["answers"] = b"".join(answer for _, answer in got)
    seen["rejections"] = daemon.rows("SELECT * FROM rejection")
    seen["errors"] = daemon.rows("SELECT error, worker, action_digest FROM attempt")
    seen["last errors"] = daemon.rows("SELECT last_error, action, state FROM delivery")
    reasons = [reason for (reason,) in daemon.rows("SELECT reason FROM rejection ORDER BY id")]
    assert reasons[:3] == [f"{what} signature" for what in ("wrong", "malformed", "missing")]
    assert {"body too large", "no such path"} <= set(reasons[3:])
    # They did go where they belong, so that looking elsewhere proves something.
    printed = "SELECT output FROM attempt WHERE output LIKE '%canary%' ORDER BY id LIMIT 1"
    [(output,)] = daemon.rows(printed)
    assert all(value in output for value in (HUSH["session"], HUSH["bvn"], PHOTO))
    stored = daemon.rows("SELECT token, body FROM event ORDER BY id LIMIT 1")
    assert stored == [(HUSH["token"], BODY)]
    assert BODY in [body for _, _, body in server.requests]
    words = "webhook.received webhook.duplicate webhook.rejected attempt.finished"
    for word in f"{words} action.when_failed store.unavailable config.problem".split():
        assert word in str(seen["log before the crash"])
    assert "webhook.rejected" in str(seen["log after the crash"])
    for name, value in seen.items():
        assert not leaks(value), f"in {name}: {value!s}"
