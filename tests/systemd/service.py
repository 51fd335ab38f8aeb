"""premblyd as a service in a machine, in the hands of a test."""

import json
import shlex
import subprocess
from typing import Any

from tests.support.waiting import wait_until
from tests.systemd.machine import Machine

INSTALL = "/share/source/systemd/install.sh"
TESTS = "/share/source/tests/systemd"
CONFIG = "/etc/premblyd/premblyd.yaml"
KEY = "/etc/premblyd/credentials/prembly-live-key"
DATABASE = "/var/lib/premblyd/premblyd.db"
SEND_URL = "http://127.0.0.1:8080/webhooks/prembly"


def configure(
    machine: Machine, *actions: str, more: str = "", restart: bool = False, live: str = "live"
) -> None:
    """Write a configuration with these actions, each as YAML between braces."""
    text = f"""
database: sqlite:///{DATABASE}
endpoints:
  - name: prembly
    path: /webhooks/prembly
    keys: {{{live}: {{file: prembly-live-key}}}}
actions: [{", ".join(f"{{{action}}}" for action in actions)}]
{more}
"""
    machine.run(f"cat >{CONFIG}", stdin=text)
    if restart:
        machine.run("systemctl restart premblyd")


def use_drop_in(machine: Machine, name: str, text: str, unit: str = "premblyd.service") -> None:
    """Have a unit use this drop-in, until the machine is booted again or `service` removes it."""
    folder = f"/run/systemd/system/{unit}.d"
    machine.run(f"mkdir -p {folder} && cat >{folder}/{name}.conf", stdin=text)
    machine.run("systemctl daemon-reload")


def wait_for_hooks(machine: Machine, event: int, count: int = 1) -> None:
    """Wait until so many hooks have succeeded for an event."""
    succeeded = f"FROM delivery WHERE event_id = {event} AND state = 'succeeded'"
    wait_for_sql(machine, f"SELECT count(*) {succeeded}", str(count))


def times_seen(machine: Machine, text: str) -> str:
    """Return in how many lines of what processes are told a text stands, beside the search."""
    own = machine.run("cat /proc/*/environ /proc/*/cmdline | grep -ac never-there-1", check=False)
    told = machine.run(f"cat /proc/*/environ /proc/*/cmdline | grep -ac {text}", check=False)
    return "0" if told.stdout == own.stdout else told.stdout


def sql(machine: Machine, query: str) -> str:
    return machine.output(f"sqlite3 -readonly {DATABASE} {shlex.quote(query)}")


def wait_for_sql(machine: Machine, query: str, answer: str) -> None:
    wait_until(lambda: sql(machine, query) == answer)


def send(machine: Machine) -> int:
    """Send a webhook; return its event's number."""
    answer = machine.output("premblyd send")
    assert answer.startswith("200 "), answer
    number: int = json.loads(answer[4:])["event"]
    return number


def send_signed(machine: Machine, key: str) -> None:
    """Send a webhook of curl and openssl alone, signed by `key`; it is stored."""
    signature = f"printf '{{}}' | openssl dgst -sha256 -hmac {key} -binary | base64"
    command = f'curl -s -d "{{}}" -H "x-prembly-signature: $({signature})" {SEND_URL}'
    assert '"status":"received"' in machine.output(command)


def processes(machine: Machine) -> list[str]:
    """Return the command line of every process in the machine."""
    lines = machine.output(
        "for each in /proc/[0-9]*/cmdline; do tr '\\0' ' ' <$each; echo; done 2>/dev/null"
    )
    return [line.strip() for line in lines.splitlines()]


class Load:
    """Webhooks that come at a steady rate while something happens."""

    def __init__(self, machine: Machine, prefix: str, rate: int = 200) -> None:
        self._machine = machine
        self._stop = f"/root/stop-{prefix}"
        self._process = machine.start(
            f"exec python3 {TESTS}/load.py --until {self._stop} --key {KEY} --prefix {prefix}"
            f" --rate {rate}"
        )
        began = f"SELECT count(*) FROM event WHERE reference LIKE '{prefix}-%'"
        machine.wait(f'test $(sqlite3 -readonly {DATABASE} "{began}") -gt 20')

    def end(self) -> dict[str, Any]:
        self._machine.run(f"touch {self._stop}")
        output, errors = self._process.communicate()
        assert self._process.returncode == 0, errors
        result: dict[str, Any] = json.loads(output)
        return result

    def abandon(self) -> None:
        self._machine.run(f"touch {self._stop}")
        self._process.kill()
        self._process.communicate()


def run_under_load(
    machine: Machine, command: str, **options: Any
) -> subprocess.CompletedProcess[str]:
    """Run a command while webhooks come, all of which are answered with 200 and stored."""
    load = Load(machine, "meanwhile", rate=50)
    try:
        done = machine.run(command, **options)
        result = load.end()
    finally:
        load.abandon()
    assert result["answers"] == {"200": result["sent"]}
    assert_stored(machine, result)
    return done


def assert_stored(machine: Machine, result: dict[str, Any]) -> None:
    """Every event that was answered with 200 is in the database."""
    stored = set(sql(machine, "SELECT id FROM event").split("\n"))
    assert {str(event) for event in result["events"]} <= stored
    assert len(result["events"]) == result["answers"].get("200", 0) > 0
