"""Values that misbehave, in every verdict field, through every place that shows or uses them.

    python -m tests.faults.values

Nothing of them is executed, split, interpreted or logged.
"""

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from premblyd.cli import main as premblyd
from premblyd.prembly import payload
from premblyd.run.shell import MAX_VALUE_BYTES
from tests.faults import campaigns
from tests.faults.daemon import UNFINISHED, Victim, folder, table
from tests.support.configuration import shell
from tests.support.database import reading
from tests.support.http_server import Server, serving
from tests.support.waiting import wait_until
from tests.support.webhooks import KEY

MARK = "hush7"  # in every value, and never in the log
CANARY = "{canary}"
VALUES = [
    "$(touch {canary}) hush7",
    "`touch {canary}` hush7",
    "; touch {canary} # hush7",
    "' ; touch {canary} ; ' hush7",
    '" ; touch {canary} ; " hush7',
    "hush7\ntouch {canary}\n",
    "hush7\r\nX-Injected: yes\r\n\r\n",
    "| tee {canary} hush7",
    "${IFS}touch${IFS}{canary} hush7",
    "&& touch {canary} & hush7",
    "../../../etc/hush7",
    "* ? [a-z] ~ hush7",
    "-rf --help hush7",
    "--reveal",
    "hush7' OR '1'='1'; DROP TABLE event; --",
    "%s %n %x {0} {x} hush7",
    "hush7\x1b]0;title\x07\x1b[2J\x1b[31m",
    "[bold red]hush7[/] [link=file:///etc/passwd]x[/link]",
    "hush7\u202e\u2066\ufeff\u0000",
    "hush7\0touch {canary}",
    "hush7 \ud800",
    "\u0130\u017f\u212a hush7",
    "hush7" + "x" * 100_000,
    "hush7 " + "$(touch {canary}) " * 200,
    "'@' \\ hush7 \\",
    "=cmd|' /C calc'!A0 hush7",
]
PLACES = ("response_code", "status", "detail", "verification_status", "reference", "user_ref")
EXPLAINED = """\
database: sqlite:///premblyd.db
endpoints:
  - {name: prembly, path: /webhooks/prembly, keys: {live: the-key-of-the-tests}}
actions:
  - name: sh
    response_codes: ["*"]
    shell: 'printf %s "$PREMBLY_REFERENCE"'
    env: {A: b}
  - {name: exec, response_codes: ["*"], command: [/bin/true, --stdin]}
  - name: post
    response_codes: ["*"]
    when: outcome != 'pending' && (body.a || `true`)
    http:
      url: http://127.0.0.1:9/
      headers: {X-A: b}
      sign_with: whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3
      send: {select: "{reference: reference, all: body, status: status}"}
  - {name: raw, response_codes: ["00", missing], http: {url: "http://127.0.0.1:9/", send: raw}}
  - {name: envelope, response_codes: [default], http: {url: "http://127.0.0.1:9/", send: event}}
"""


def body_with(value: str) -> bytes:
    """Return a body that says `value` in every field."""
    document: dict[str, Any] = dict.fromkeys(PLACES, value)
    document |= {"session_id": value, value[:50]: value, "widget_info": {"user_ref": value}}
    return json.dumps(document).encode()


def hostile_bodies() -> list[bytes]:
    return [body_with(value.replace(CANARY, "/nowhere")) for value in VALUES]


def _actions(canary: Path, url: str) -> list[dict[str, Any]]:
    select = {"select": "{reference: reference, code: response_code, all: body}"}
    out = canary.parent / "out"
    once = {"attempts": 1}
    return [
        shell("quoted", f'printf %s "$PREMBLY_REFERENCE" > {out}-$PREMBLY_EVENT', retry=once),
        {
            "name": "environment",
            "response_codes": ["*"],
            "shell": "env -u PWD -u OLDPWD -u SHLVL -u _ -0 | base64 -w0",
            "retry": once,
        },
        *(
            {"name": name, "response_codes": ["*"], "retry": once, "http": {"url": url, **hook}}
            for name, hook in (
                ("raw", {}),
                ("event", {"send": "event"}),
                ("pick", {"send": select}),
            )
        ),
    ]


def endure(at: Path) -> list[str]:
    """Send every value in every field, and look at all that comes of it."""
    canary = at / "canary"
    bodies = [body_with(value.replace(CANARY, str(canary))) for value in VALUES]
    with serving() as server, Victim(at, actions=_actions(canary, server.url)) as victim:
        victim.start()
        events = {}
        for number, body in enumerate(bodies):
            token = VALUES[number].replace(CANARY, str(canary)).encode("ascii", "ignore").decode()
            token = "".join(letter for letter in token if letter.isprintable())[:4000]
            events[victim.send(body, token=token).json["event"]] = body
        wait_until(lambda: not victim.rows(UNFINISHED)[0][0])
        problems = [
            *_hooks(victim, events, at),
            *_posts(server, bodies),
            *_commands(victim, list(events.items())),
            *_views(victim, events),
            *victim.complaints()[:3],
        ]
        if victim.stop() != 0:
            problems.append("it did not stop cleanly")
    if canary.exists():
        problems.append("a value was executed")
    for secret in (MARK, KEY, "canary"):
        if secret in victim.whole_log():
            problems.append(f"{secret} is in the log")
    return problems


def _expected(text: str | None) -> str:
    """Return what a variable of the hook holds (CONTRACT: NUL or over 4 KiB is left empty)."""
    return "" if text is None or "\0" in text or len(text.encode()) > MAX_VALUE_BYTES else text


def _hooks(victim: Victim, events: dict[int, bytes], at: Path) -> Iterator[str]:
    sql = "SELECT CAST(output AS BLOB) FROM attempt JOIN delivery ON delivery.id = delivery_id"
    for event, body in events.items():
        verdict = payload.read(body)
        reference = _expected(verdict.reference)
        if (at / f"out-{event}").read_bytes() != reference.encode():
            yield f"event {event}: the shell saw another reference"
        ((output,),) = victim.rows(f"{sql} WHERE action = 'environment' AND event_id = ?", event)
        variables = base64.b64decode(output).decode().split("\0")
        found = dict(one.split("=", 1) for one in variables if one)
        wanted = {
            f"PREMBLY_{name.upper()}": _expected(getattr(verdict, name))
            for name in ("response_code", "status", "reference", "user_ref")
        }
        if wanted.items() - found.items():
            yield f"event {event}: the environment differs"
        if strange := {name for name in found if not name.startswith("PREMBLY_")} - _INHERITED:
            yield f"event {event}: variables {strange}"
    states = victim.rows("SELECT action, state, count(*) FROM delivery GROUP BY action, state")
    if {state for _, state, _ in states} != {"succeeded"}:
        yield f"deliveries {states}"


_INHERITED = {"PATH", "HOME", "LANG", "TZ"}


def _posts(server: Server, bodies: list[bytes]) -> Iterator[str]:
    if len(server.requests) != 3 * len(bodies):
        yield f"{len(server.requests)} posts"
    raw = [
        body for _, headers, body in server.requests if dict(headers)["webhook-id"][-3:] == "raw"
    ]
    if sorted(raw) != sorted(bodies):
        yield "a raw body changed on its way"
    for _, headers, body in server.requests:
        if {name for name, _ in headers} & {"x-injected"}:
            yield "a header was injected"
        json.loads(body)


def _commands(victim: Victim, events: list[tuple[int, bytes]]) -> Iterator[str]:
    runner = CliRunner()

    def run(*arguments: str, given: bytes | None = None) -> str:
        ran = runner.invoke(premblyd, ["--config", str(victim.config), *arguments], input=given)
        if ran.exit_code != 0:
            problems.append(f"{arguments}: {ran.exit_code} {ran.exception!r}")
        if not all(line.isprintable() for line in ran.stdout.split("\n")):
            problems.append(f"{arguments}: control characters")
        return ran.stdout

    problems: list[str] = []
    for event, body in events:
        run("explain", "-", given=body)
        explained = json.loads(run("explain", "-", "--json", given=body))
        reference = payload.read(body).reference
        if explained["verdict"]["reference"] != reference:
            problems.append(f"event {event}: explain shows another reference")
        if reference and "\0" not in reference and "\ud800" not in reference:
            listed = json.loads(run("events", f"--reference={reference}", "--json"))
            if [one["id"] for one in listed] != [event]:
                problems.append(f"event {event} is not found by its reference")
    for command in ("events", "deliveries"):
        run(command)
        json.loads(run(command, "--json"))
    for event, _ in events[::5]:
        run("show", str(event))
        run("show", str(event), "--reveal")
        json.loads(run("show", str(event), "--reveal", "--json"))
    yield from problems


def _views(victim: Victim, events: dict[int, bytes]) -> Iterator[str]:
    with reading(victim.database) as connection:
        for event, body in events.items():
            verdict = payload.read(body)
            row = connection.execute(
                "SELECT reference, user_ref, status, response_code FROM event_log WHERE id = ?",
                [event],
            ).fetchone()
            if row != (verdict.reference, verdict.user_ref, verdict.status, verdict.response_code):
                yield f"event {event}: the view shows another value"
        rows = connection.execute("SELECT count(*) FROM delivery_log").fetchone()[0]
    if rows != 5 * len(events):
        yield f"{rows} rows in delivery_log"


def main() -> None:
    campaigns.arguments(__doc__)
    with folder() as at:
        problems = endure(at)
    table({"hostile values": len(VALUES), "fields": len(PLACES) + 2, "problems": len(problems)})
    campaigns.end(problems)


if __name__ == "__main__":
    main()
