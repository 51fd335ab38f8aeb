"""premblyd as a service on a booted machine, installed and used as the README says."""

import json
import shlex
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.systemd import machine as machines
from tests.systemd.machine import Machine

pytestmark = pytest.mark.machine

INSTALL = "/share/source/systemd/install.sh"
TESTS = "/share/source/tests/systemd"
CONFIG = "/etc/premblyd/premblyd.yaml"
KEY = "/etc/premblyd/credentials/prembly-live-key"
DATABASE = "/var/lib/premblyd/premblyd.db"
SEND_URL = "http://127.0.0.1:8080/webhooks/prembly"
OLD_SYSTEMD = "#!/bin/sh\necho 'systemd 249 (249.11)'\n"
# A daemon that changes the database and then does not start.
BROKEN = f"""
import sqlite3
connection = sqlite3.connect("{DATABASE}")
connection.executescript('''%s''')
connection.close()
raise SystemExit("broken on purpose")
"""
SPOIL = "ALTER TABLE event ADD COLUMN spoilt TEXT; DELETE FROM delivery; DELETE FROM event;"
RECEIVE = """
CREATE TEMP TABLE more AS SELECT * FROM event ORDER BY id LIMIT 1;
UPDATE more SET id = (SELECT max(id) + 1 FROM event), key = hex(randomblob(16));
INSERT INTO event SELECT * FROM more;
"""
MIGRATE = "CREATE TABLE spoilt (id INTEGER);"


def configure(machine: Machine, actions: str = "actions: []") -> None:
    text = f"""
database: sqlite:///{DATABASE}
endpoints:
  - name: prembly
    path: /webhooks/prembly
    keys:
      live: {{file: prembly-live-key}}
{actions}
"""
    machine.run(f"cat >{CONFIG}", stdin=text)


def sql(machine: Machine, query: str) -> str:
    return machine.output(f"sqlite3 -readonly {DATABASE} {shlex.quote(query)}")


def wait_for_sql(machine: Machine, query: str, answer: str, *, timeout_s: float = 30) -> None:
    deadline = time.monotonic() + timeout_s
    while (found := sql(machine, query)) != answer:
        assert time.monotonic() < deadline, f"{query}: {found}, not {answer}"
        time.sleep(0.1)


def send(machine: Machine) -> int:
    """Send a webhook; return its event's number."""
    answer = machine.output("premblyd send")
    assert answer.startswith("200 "), answer
    number: int = json.loads(answer[4:])["event"]
    return number


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
        output, errors = self._process.communicate(timeout=120)
        assert self._process.returncode == 0, errors
        result: dict[str, Any] = json.loads(output)
        return result

    def abandon(self) -> None:
        self._machine.run(f"touch {self._stop}")
        self._process.kill()
        self._process.communicate()


@pytest.fixture
def load_of(service: Machine) -> Iterator[Any]:
    started: list[Load] = []

    def begin(prefix: str, **options: Any) -> Load:
        started.append(Load(service, prefix, **options))
        return started[-1]

    yield begin
    for one in started:
        one.abandon()


def assert_stored(machine: Machine, result: dict[str, Any]) -> None:
    """Every event that was answered with 200 is in the database."""
    stored = set(sql(machine, "SELECT id FROM event").split("\n"))
    assert {str(event) for event in result["events"]} <= stored
    assert len(result["events"]) == result["answers"].get("200", 0) > 0


@pytest.fixture(scope="session")
def installed(machine: Machine) -> subprocess.CompletedProcess[str]:
    return machine.run(INSTALL, timeout_s=300)


@pytest.fixture
def service(machine: Machine, installed: object) -> Iterator[Machine]:
    """The installed service, with no action."""
    configure(machine)
    machine.run("systemctl start premblyd.socket && systemctl restart premblyd")
    yield machine
    # A hook that still runs should not hold up the next test.
    machine.run("rm -rf /run/systemd/system/premblyd.service.d && systemctl daemon-reload")
    machine.run("systemctl kill --signal=KILL --kill-whom=all premblyd", check=False)


# --- Install ------------------------------------------------------------------------------


def test_one_command_installs_a_running_service(
    machine: Machine, installed: subprocess.CompletedProcess[str]
) -> None:
    assert machine.property("ActiveState") == "active"
    assert machine.output("systemctl is-enabled premblyd.service premblyd.socket") == (
        "enabled\nenabled"
    )
    assert machine.output("curl -sf http://127.0.0.1:8080/healthz") == '{"status":"ok"}'
    steps = [line for line in installed.stdout.splitlines() if line[:1].isdecimal()]
    assert [step[:2] for step in steps] == ["1.", "2.", "3.", "4.", "5."]
    modes = machine.output(
        f"stat -c '%a %U:%G %n' /etc/premblyd {CONFIG} /etc/premblyd/credentials {KEY}"
        f" /var/lib/premblyd {DATABASE} {DATABASE}-wal"
    )
    assert modes.splitlines() == [
        "750 root:premblyd /etc/premblyd",
        f"640 root:premblyd {CONFIG}",
        "700 root:root /etc/premblyd/credentials",
        f"600 root:root {KEY}",
        "750 premblyd:premblyd /var/lib/premblyd",
        f"640 premblyd:premblyd {DATABASE}",
        f"640 premblyd:premblyd {DATABASE}-wal",
    ]


def test_the_next_steps_work_as_they_are_printed(service: Machine) -> None:
    service.run(f"install -m 0600 /dev/stdin {KEY}", stdin="my-real-key\n")
    service.run("premblyd check")
    service.run("systemctl restart premblyd")
    assert "200 " in service.output("premblyd send")
    assert "sample-api" in service.output("premblyd events")
    signed = "printf '{}' | openssl dgst -sha256 -hmac my-real-key -binary | base64"
    command = f'curl -s -d "{{}}" -H "x-prembly-signature: $({signed})" {SEND_URL}'
    assert '"status":"received"' in service.output(command)


def test_what_is_missing_is_named_with_the_command_that_installs_it(
    fresh_machine: Machine,
) -> None:
    fresh_machine.run(
        "mkdir /root/old && install /dev/stdin /root/old/systemctl", stdin=OLD_SYSTEMD
    )
    path = {"PATH": f"/root/old:{machines.ENVIRONMENT['PATH']}"}
    done = fresh_machine.run(INSTALL, check=False, environ=path)
    assert done.returncode == 1
    assert "systemd 249 is too old: 252 is needed" in done.stderr

    fresh_machine.run("chmod -x /usr/bin/python3*")
    done = fresh_machine.run(INSTALL, check=False)
    assert done.returncode == 1
    assert "Run: apt-get install python3 python3-venv" in done.stderr
    assert fresh_machine.output("ls /opt") == ""


def test_the_installed_units_are_sound_and_hardly_exposed(service: Machine) -> None:
    verified = service.run(
        "systemd-analyze verify /etc/systemd/system/premblyd.service"
        " /etc/systemd/system/premblyd.socket"
    )
    # systemd before 254 has no growing delay between restarts, and says so.
    assert [line for line in verified.stderr.splitlines() if "'Restart" not in line] == []
    exposure = service.output("systemd-analyze security --no-pager premblyd.service | tail -1")
    assert float(exposure.split(": ")[1].split()[0]) <= 1.3


# --- Actions in the sandbox ---------------------------------------------------------------


def test_a_shell_action_runs_in_the_sandbox_with_its_usual_tools(service: Machine) -> None:
    service.run("mkdir -p /srv/sink")
    service.run(f"systemd-run --unit=sink python3 {TESTS}/sink.py 9000 /srv/sink")
    script = """\
      cat >"$HOME/body"
      curl -sf --data-binary @"$HOME/body" http://127.0.0.1:9000/shell && echo curl works
      python3 -c 'import ssl, sqlite3, ctypes; print("python works")'
      echo scratch >/tmp/scratch && mktemp >/dev/null && echo tmp works
      touch /etc/mark 2>/dev/null || echo /etc is closed
      ls /root >/dev/null 2>&1 || echo /root is closed
      test -e /dev/kmsg || echo no devices
      grep -e NoNewPrivs -e CapEff -e Seccomp: /proc/self/status
      id -un; umask
"""
    configure(
        service,
        f"""
actions:
  - name: shell
    response_codes: ["*"]
    shell: |
{script}
  - name: http
    response_codes: ["*"]
    http: {{url: "http://127.0.0.1:9000/http"}}
""",
    )
    service.run("systemctl restart premblyd")
    event = send(service)
    wait_for_sql(
        service,
        f"SELECT count(*) FROM delivery WHERE event_id = {event} AND state = 'succeeded'",
        "2",
    )
    output = sql(
        service,
        "SELECT output FROM attempt JOIN delivery ON delivery.id = delivery_id"
        f" WHERE action = 'shell' AND event_id = {event}",
    )
    assert output.split("\n") == [
        "curl works",
        "python works",
        "tmp works",
        "/etc is closed",
        "/root is closed",
        "no devices",
        "CapEff:\t0000000000000000",
        "NoNewPrivs:\t1",
        "Seccomp:\t2",
        "premblyd",
        "0027",
    ]
    bodies = service.output("sha256sum /srv/sink/* | cut -c -64 | sort -u")
    assert bodies == sql(service, f"SELECT body_sha256 FROM event WHERE id = {event}")
    assert service.output("ls /srv/sink | sed s/[0-9]*-// | sort") == "http\nshell"


def test_an_action_reaches_further_by_a_drop_in_or_another_unit(service: Machine) -> None:
    service.run("mkdir -p /srv/archive && chown premblyd: /srv/archive")
    service.run("mkdir -p /run/systemd/system/premblyd.service.d")
    for name, text in {
        "premblyd.service.d/archive.conf": "[Service]\nReadWritePaths=/srv/archive\n",
        # What needs root is asked for by a file, and done by a unit that root wrote.
        "unlock-customer.path": "[Path]\nPathExists=/var/lib/premblyd/unlock-customer\n",
        "unlock-customer.service": (
            "[Service]\nType=oneshot\n"
            "ExecStart=/bin/mv /var/lib/premblyd/unlock-customer /root/unlocked\n"
        ),
    }.items():
        service.run(f"cat >/run/systemd/system/{name}", stdin=text)
    configure(
        service,
        """
actions:
  - name: archive
    response_codes: ["*"]
    command: [/usr/bin/tee, /srv/archive/newest]
  - name: unlock
    response_codes: ["*"]
    shell: echo "$PREMBLY_REFERENCE" >"$HOME/new" && mv "$HOME/new" "$HOME/unlock-customer"
""",
    )
    service.run("systemctl daemon-reload && systemctl start unlock-customer.path")
    service.run("systemctl restart premblyd")
    event = send(service)
    service.wait("test -s /root/unlocked")
    assert service.output("cat /root/unlocked") == "sample-api-0001"
    service.wait("test -s /srv/archive/newest")
    assert service.output("sha256sum </srv/archive/newest | cut -c -64") == (
        sql(service, f"SELECT body_sha256 FROM event WHERE id = {event}")
    )
    service.run("systemctl stop unlock-customer.path")


# --- Restart, crash, hang -----------------------------------------------------------------


def test_restarts_under_load_fail_no_request(service: Machine, load_of: Any) -> None:
    load = load_of("restart")
    for _ in range(20):
        service.run("systemctl restart premblyd")
        time.sleep(0.5)
    result = load.end()
    assert result["answers"] == {"200": result["sent"]}
    assert result["sent"] > 2000
    assert_stored(service, result)


def test_a_killed_daemon_comes_back_and_leaves_no_hook_behind(
    service: Machine, load_of: Any
) -> None:
    configure(
        service,
        """
actions:
  - name: slow
    response_codes: ["00"]
    when: reference == 'sample-api-0001'
    shell: 'echo $$ >>$HOME/hooks; trap "" TERM; sleep 300 & sleep 301'
    timeout: 10m
""",
    )
    service.run("systemctl restart premblyd; rm -f /var/lib/premblyd/hooks")
    event = send(service)
    service.wait("test -s /var/lib/premblyd/hooks")
    first_hook = service.output("cat /var/lib/premblyd/hooks")
    load = load_of("kill")
    for _ in range(3):
        before = service.property("MainPID")
        service.run("systemctl kill --signal=KILL --kill-whom=main premblyd")
        service.wait(f"test $(systemctl show -P MainPID premblyd) != {before}")
        service.wait("systemctl is-active premblyd")
        time.sleep(0.5)
    # What the daemon was receiving at that moment fails, but nobody is refused.
    result = load.end()
    assert "ConnectionRefusedError" not in result["answers"]
    assert_stored(service, result)
    service.run(f"! kill -0 {first_hook}")
    service.wait("test $(wc -l </var/lib/premblyd/hooks) = 4")
    running = processes(service)
    assert (running.count("sleep 300"), running.count("sleep 301")) == (1, 1)
    outcomes = sql(
        service,
        "SELECT coalesce(outcome, 'running') FROM attempt"
        " JOIN delivery ON delivery.id = delivery_id"
        f" WHERE event_id = {event} ORDER BY number",
    )
    assert outcomes.split() == ["interrupted"] * 3 + ["running"]


def test_nothing_survives_a_stop(service: Machine) -> None:
    configure(
        service,
        """
stop_timeout: 1s
actions:
  - name: stubborn
    response_codes: ["*"]
    shell: 'echo $$ >$HOME/hook; trap "" TERM; setsid sleep 302 & sleep 303'
""",
    )
    service.run("systemctl restart premblyd; rm -f /var/lib/premblyd/hook")
    send(service)
    service.wait("test -s /var/lib/premblyd/hook")
    assert {"sleep 302", "sleep 303"} <= set(processes(service))
    started = time.monotonic()
    service.run("systemctl stop premblyd")
    assert time.monotonic() - started < 15
    assert not {"sleep 302", "sleep 303"} & set(processes(service))
    assert service.property("Result") == "success"


def test_a_frozen_daemon_is_restarted_by_the_watchdog(service: Machine) -> None:
    service.run("mkdir -p /run/systemd/system/premblyd.service.d")
    service.run(
        "cat >/run/systemd/system/premblyd.service.d/test.conf", stdin="[Service]\nWatchdogSec=3s\n"
    )
    service.run("systemctl daemon-reload && systemctl restart premblyd")
    time.sleep(5)
    assert service.property("NRestarts") == "0"  # it is fed
    before = service.property("MainPID")
    service.run(f"kill -STOP {before}")
    service.wait("test $(systemctl show -P NRestarts premblyd) = 1")
    service.wait("systemctl is-active premblyd")
    assert service.property("MainPID") != before
    assert "Watchdog timeout" in service.output("journalctl -u premblyd -n 50 --no-pager")
    send(service)


def test_status_says_what_it_does(service: Machine) -> None:
    assert "requests in flight" in service.property("StatusText")


# --- Configuration ------------------------------------------------------------------------


def test_a_bad_configuration_fails_once_and_says_where(service: Machine) -> None:
    service.run("systemctl stop premblyd")
    service.run(f"echo 'oops: 1' >>{CONFIG}")
    line = service.output(f"wc -l <{CONFIG}")
    assert service.run("systemctl start premblyd", check=False).returncode != 0
    # Connections that come must not start it over and over either.
    for _ in range(5):
        service.run("curl -s -m 1 http://127.0.0.1:8080/healthz", check=False)
        time.sleep(0.5)
    assert service.property("ExecMainStatus") == "78"
    assert service.property("NRestarts") == "0"
    assert service.property("ActiveState") == "failed"
    log = service.output("journalctl -u premblyd -n 30 --no-pager -o cat")
    assert log.count(f"{CONFIG}:{line}:1: unknown key `oops`") == 1
    configure(service)
    service.run("systemctl start premblyd")
    send(service)


def test_a_restart_into_a_bad_configuration_is_not_repeated_by_waiting_requests(
    service: Machine, load_of: Any
) -> None:
    load = load_of("bad")
    service.run(f"echo 'oops: 1' >>{CONFIG}")
    assert service.run("systemctl restart premblyd", check=False).returncode != 0
    time.sleep(3)
    assert service.property("ActiveState") == "failed"
    started = service.output("journalctl -u premblyd -n 50 -o cat | grep -c 'unknown key `oops`'")
    assert int(started) <= 2
    load.end()
    configure(service)
    service.run("systemctl start premblyd")
    send(service)


def test_a_reload_takes_effect_and_loses_nothing(service: Machine, load_of: Any) -> None:
    before = service.property("MainPID")
    load = load_of("reload")
    for number in range(5):
        configure(
            service,
            f"""
actions:
  - name: reloaded-{number}
    response_codes: ["00"]
    when: reference == 'sample-api-0001'
    shell: "true"
""",
        )
        service.run("systemctl reload premblyd")
        # systemd 252 can't wait until the daemon has done it.
        time.sleep(1)
        event = send(service)
        assert sql(service, f"SELECT action FROM delivery WHERE event_id = {event}") == (
            f"reloaded-{number}"
        )
    result = load.end()
    assert result["answers"] == {"200": result["sent"]}
    assert_stored(service, result)
    assert service.property("MainPID") == before


def test_a_reload_of_a_bad_file_fails_visibly_and_changes_nothing(service: Machine) -> None:
    before = service.property("MainPID")
    configure(service, "actions: [{name: x, shell: y}]")
    done = service.run("systemctl reload premblyd", check=False)
    assert done.returncode != 0
    assert service.property("ActiveState") == "active"
    assert service.property("MainPID") == before
    log = service.output("journalctl -u premblyd -n 10 --no-pager -o cat")
    assert f"{CONFIG}:8:11: `response_codes` is missing" in log
    configure(service)
    service.run("systemctl reload premblyd")
    send(service)


def test_a_new_key_is_used_after_a_restart(service: Machine) -> None:
    service.run("install -m 0600 /dev/stdin /etc/premblyd/credentials/second", stdin="second-key")
    text = service.output(f"cat {CONFIG}")
    text = text.replace("live: {", "second: {file: second}\n      live: {")
    service.run(f"cat >{CONFIG}", stdin=text)
    # The credentials are copied at start: a reload can't see a new one, and must say so.
    assert service.run("systemctl reload premblyd", check=False).returncode != 0
    service.run("systemctl restart premblyd")
    assert "200 " in service.output("premblyd send --key second")
    verified = sql(service, "SELECT verified_by FROM event ORDER BY id DESC LIMIT 1")
    assert verified == "hmac-sha256:second"


def test_a_key_may_be_kept_encrypted(service: Machine) -> None:
    service.run(
        "printf %s sealed-key | systemd-creds encrypt --name=sealed - /etc/premblyd/sealed.cred"
    )
    service.run("mkdir -p /run/systemd/system/premblyd.service.d")
    service.run(
        "cat >/run/systemd/system/premblyd.service.d/sealed.conf",
        stdin="[Service]\nLoadCredentialEncrypted=sealed:/etc/premblyd/sealed.cred\n",
    )
    text = service.output(f"cat {CONFIG}")
    service.run(
        f"cat >{CONFIG}", stdin=text.replace("live: {", "sealed: {file: sealed}\n      live: {")
    )
    service.run("systemctl daemon-reload && systemctl restart premblyd")
    signed = "printf '{}' | openssl dgst -sha256 -hmac sealed-key -binary | base64"
    command = f'curl -s -d "{{}}" -H "x-prembly-signature: $({signed})" {SEND_URL}'
    assert '"status":"received"' in service.output(command)


# --- Who may see what ---------------------------------------------------------------------


@pytest.fixture(scope="session")
def people(machine: Machine, installed: object) -> None:
    machine.run("useradd --create-home ada && usermod -aG premblyd ada && useradd bob")


def test_an_auditor_reads_and_can_not_write(service: Machine, people: None) -> None:
    send(service)
    query = "SELECT count(*) FROM event_log"
    count = sql(service, query)
    as_ada = "runuser -u ada --"
    assert service.output(f"{as_ada} sqlite3 -readonly {DATABASE} '{query}'") == count
    assert "sample-api" in service.output(f"{as_ada} premblyd events --limit 1")
    for statement in ("DELETE FROM event", "CREATE TABLE mine (id)"):
        done = service.run(f"{as_ada} sqlite3 {DATABASE} '{statement}'", check=False)
        assert done.returncode != 0
    assert service.run(f"{as_ada} touch /var/lib/premblyd/mine", check=False).returncode != 0
    service.run("systemctl stop premblyd.socket premblyd.service")
    uri = f"file:{DATABASE}?immutable=1"
    assert service.output(f"{as_ada} sqlite3 '{uri}' '{query}'") == count
    assert sql(service, query) == count


def test_a_stranger_reads_nothing(service: Machine, people: None) -> None:
    for command in (
        f"sqlite3 -readonly {DATABASE} 'SELECT 1'",
        f"cat {DATABASE}",
        f"cat {CONFIG}",
        "ls /var/lib/premblyd",
        "ls /etc/premblyd",
        "premblyd events",
    ):
        assert service.run(f"runuser -u bob -- {command}", check=False).returncode != 0, command


def test_keys_are_the_service_s_alone(service: Machine, people: None) -> None:
    canary = "canary-0123456789abcdef"
    service.run(f"install -m 0600 /dev/stdin {KEY}", stdin=f"{canary}\n")
    configure(
        service,
        """
actions:
  - name: environment
    response_codes: ["*"]
    shell: env
""",
    )
    service.run("systemctl restart premblyd")
    event = send(service)
    service.run(f"curl -s -d x -H 'x-prembly-signature: eA==' {SEND_URL}")
    wait_for_sql(
        service,
        f"SELECT count(*) FROM delivery WHERE event_id = {event} AND state = 'succeeded'",
        "1",
    )
    service.run(f"echo 'oops: 1' >>{CONFIG}; systemctl reload premblyd || true")
    for user in ("ada", "bob"):
        for path in (KEY, "/run/credentials/premblyd.service/credentials_prembly-live-key"):
            done = service.run(f"runuser -u {user} -- cat {path}", check=False)
            assert done.returncode != 0, (user, path)
    assert service.run(
        f"cat /proc/*/environ /proc/*/cmdline | grep -ac {canary}", check=False
    ).stdout == (
        # The search itself has it in its arguments, and so has its shell.
        service.run(
            "cat /proc/*/environ /proc/*/cmdline | grep -ac never-there-1", check=False
        ).stdout
    )
    assert service.run(f"journalctl --no-pager | grep -c {canary}", check=False).stdout == "0\n"
    service.run(f"! sqlite3 -readonly {DATABASE} .dump | grep {canary}")
    assert "CREDENTIALS" not in sql(service, "SELECT output FROM attempt ORDER BY id DESC LIMIT 1")
    assert service.output(f"grep -rl {canary} /etc /var /opt /tmp 2>/dev/null || true") == KEY


def test_the_journal_holds_json_lines(service: Machine) -> None:
    event = send(service)
    found = service.output(
        "journalctl -t premblyd -n 20 --no-pager -o cat"
        """ | jq -R 'fromjson? | select(.event == "webhook.received") | .event_id' | tail -1"""
    )
    assert found == str(event)


def test_the_journal_knows_the_levels(service: Machine) -> None:
    service.run(f'curl -s -d "{{}}" -H "x-prembly-signature: bad" {SEND_URL}')
    service.wait("journalctl -t premblyd -p warning --no-pager -o cat | grep -q webhook.rejected")
    warnings = service.output("journalctl -t premblyd -p warning --no-pager -o cat")
    assert "daemon.started" not in warnings
    assert "daemon.started" in service.output("journalctl -t premblyd -p info --no-pager -o cat")


# --- Behind a proxy -----------------------------------------------------------------------

NGINX = """
server {
    listen 192.0.2.7:8081;
    client_max_body_size %s;
    location /webhooks/ {
        proxy_pass http://%s;
        proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
    }
}
"""
OVER_UNIX = """
[Socket]
ListenStream=
ListenStream=/run/premblyd.sock
SocketGroup=www-data
SocketMode=0660
"""
# Holds the database's write lock for longer than the daemon waits for it.
HOLD = f"""
import sqlite3, time
connection = sqlite3.connect("{DATABASE}", isolation_level=None, timeout=20)
connection.execute("BEGIN IMMEDIATE")
time.sleep(12)
"""


@pytest.fixture
def nginx(service: Machine) -> Iterator[Any]:
    service.run("ip address replace 192.0.2.7/32 dev lo && ip address replace 192.0.2.9/32 dev lo")

    def begin(limit: str, upstream: str) -> None:
        service.run("cat >/etc/nginx/conf.d/premblyd.conf", stdin=NGINX % (limit, upstream))
        service.run("nginx -t && systemctl restart nginx")

    yield begin
    service.run("rm -rf /etc/nginx/conf.d/premblyd.conf /etc/systemd/system/premblyd.socket.d")
    service.run("systemctl stop nginx premblyd.service premblyd.socket; systemctl daemon-reload")


def post(machine: Machine, body: str, *options: str) -> str:
    """Post a file through nginx as another address; return the answer's head and body."""
    sign = f'openssl dgst -sha256 -hmac "$(cat {KEY})" -binary {body} | base64'
    return machine.output(
        f"curl -s -i -H Expect: --interface 192.0.2.9 --data-binary @{body} {' '.join(options)}"
        f' -H "x-prembly-signature: $({sign})" http://192.0.2.7:8081/webhooks/prembly'
    )


@pytest.mark.parametrize("upstream", ["127.0.0.1:8080", "unix:/run/premblyd.sock:"])
def test_behind_nginx_addresses_limits_and_refusals_come_through(
    service: Machine, nginx: Any, upstream: str
) -> None:
    if upstream.startswith("unix:"):
        service.run("mkdir -p /etc/systemd/system/premblyd.socket.d")
        service.run("cat >/etc/systemd/system/premblyd.socket.d/unix.conf", stdin=OVER_UNIX)
        service.run("systemctl daemon-reload && systemctl stop premblyd.service premblyd.socket")
        service.run("systemctl start premblyd.socket premblyd.service")
    nginx("16m", upstream)
    # A JSON text of exactly premblyd's limit, and one of a byte more.
    size = 16 << 20
    service.run(
        f"printf '\"%0{size - 2}d\"' 0 >/root/most; printf '\"%0{size - 1}d\"' 0 >/root/over"
    )
    assert post(service, "/root/most").startswith("HTTP/1.1 200")
    newest = "SELECT remote_ip, body_bytes FROM event ORDER BY id DESC LIMIT 1"
    assert sql(service, newest) == f"192.0.2.9|{size}"
    assert post(service, "/root/over").startswith("HTTP/1.1 413")
    nginx("32m", upstream)
    assert '{"error":"Body too large"}' in post(service, "/root/over")

    forged = post(service, "/root/most", "-H 'X-Forwarded-For: 198.51.100.1'")
    assert '"duplicate":' in forged
    assert sql(service, "SELECT DISTINCT remote_ip FROM event WHERE remote_ip LIKE '198%'") == ""

    hold = service.start("exec python3 -", environ={"PYTHONUNBUFFERED": "1"})
    assert hold.stdin
    hold.stdin.write(HOLD)
    hold.stdin.close()
    hold.stdin = None
    time.sleep(0.5)
    service.run("echo '{}' >/root/small")
    answer = post(service, "/root/small")
    assert answer.startswith("HTTP/1.1 503")
    assert "Retry-After: 5" in answer
    hold.communicate(timeout=30)
    assert post(service, "/root/small").startswith("HTTP/1.1 200")


# --- Upgrade, rollback, uninstall ---------------------------------------------------------


def test_an_upgrade_keeps_every_event_and_a_broken_one_is_undone(fresh_machine: Machine) -> None:
    machine = fresh_machine
    machines.copy_previous(machine.share / "previous")
    (machine.share / "previous/premblyd/__init__.py").write_text('__version__ = "0.0.1"\n')
    machine.run("/share/previous/systemd/install.sh", timeout_s=300)
    assert machine.output("premblyd --version").endswith("0.0.1")
    configure(machine)
    load = Load(machine, "upgrade", rate=50)
    done = machine.run(INSTALL, timeout_s=300)
    result = load.end()
    assert "Upgraded to" in done.stdout
    assert not machine.output("premblyd --version").endswith("0.0.1")
    assert result["answers"] == {"200": result["sent"]}
    assert_stored(machine, result)
    events = sql(machine, "SELECT count(*) FROM event")

    running = machine.output("readlink /opt/premblyd/current")
    for number, (change, more) in enumerate([(SPOIL, 0), (RECEIVE, 1), (RECEIVE + MIGRATE, 0)]):
        broken = f"/share/broken-{number}"
        machine.run(f"cp -r /share/source {broken}")
        machine.run(f"cat >>{broken}/premblyd/cli/serve.py", stdin=BROKEN % change)
        done = machine.run(f"{broken}/systemd/install.sh", check=False, timeout_s=300)
        assert done.returncode == 1
        assert "broken on purpose" in done.stderr
        assert "The old version runs again" in done.stderr
        assert machine.property("ActiveState") == "active"
        assert machine.output("readlink /opt/premblyd/current") == running
        assert machine.output("ls /opt/premblyd/versions | wc -l") == "2"
        # What was answered with 200 is never thrown away, not even by a broken version.
        assert int(sql(machine, "SELECT count(*) FROM event")) == int(events) + more
        events = sql(machine, "SELECT count(*) FROM event")
        assert "spoilt" not in sql(machine, "SELECT sql FROM sqlite_master")
        send(machine)
        events = str(int(events) + 1)
    aside = f"{DATABASE}.failed-upgrade"
    assert aside in done.stderr
    assert int(machine.output(f"sqlite3 {aside} 'SELECT count(*) FROM event'")) == int(events)

    done = machine.run(f"{INSTALL} --from premblyd-that-is-nowhere", check=False, timeout_s=300)
    assert done.returncode == 1
    assert "nothing was changed" in done.stderr
    send(machine)

    machine.run(f"echo 'oops: 1' >>{CONFIG}")
    done = machine.run(INSTALL, check=False, timeout_s=300)
    assert done.returncode == 78
    assert "unknown key `oops`" in done.stderr
    assert machine.output("curl -sf http://127.0.0.1:8080/healthz") == '{"status":"ok"}'
    configure(machine)

    done = machine.run(f"{INSTALL} --uninstall")
    assert "/var/lib/premblyd" in done.stdout
    assert "/etc/premblyd" in done.stdout
    assert machine.run("systemctl status premblyd", check=False).returncode == 4  # no such unit
    assert machine.output("ls /opt /usr/local/bin").split() == ["/opt:", "/usr/local/bin:"]
    before = int(machine.output(f"sqlite3 {DATABASE} 'SELECT count(*) FROM event'"))
    machine.run(f"{INSTALL} --uninstall")  # again changes nothing

    configuration = machine.output(f"cat {CONFIG}")
    machine.run(INSTALL, timeout_s=300)
    assert machine.output(f"cat {CONFIG}") == configuration
    assert int(sql(machine, "SELECT count(*) FROM event")) == before
    send(machine)
