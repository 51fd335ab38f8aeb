"""Who may do and see what: hooks in the sandbox, auditors, strangers, the journal."""

import hashlib
import json

import pytest

from tests.systemd.machine import Machine
from tests.systemd.pages import DROP_IN, block, inline
from tests.systemd.service import (
    CONFIG,
    DATABASE,
    INSTALL,
    KEY,
    SEND_URL,
    TESTS,
    configure,
    send,
    sql,
    times_seen,
    use_drop_in,
    wait_for_hooks,
)

pytestmark = pytest.mark.machine


def stored_hash(service: Machine, event: int) -> str:
    """Return the SHA-256 of the body that is stored of an event."""
    body = sql(service, f"SELECT hex(body) FROM event WHERE id = {event}")
    return hashlib.sha256(bytes.fromhex(body)).hexdigest()


def test_a_shell_action_runs_in_the_sandbox_with_its_usual_tools(service: Machine) -> None:
    service.run("mkdir -p /srv/sink")
    service.run(f"systemd-run --unit=sink python3 {TESTS}/sink.py 9000 /srv/sink")
    script = "; ".join(
        (
            'cat >"$HOME/body"',
            'curl -sf --data-binary @"$HOME/body" http://127.0.0.1:9000/shell && echo curl works',
            "python3 -c 'import ssl, sqlite3, ctypes; print(\"python works\")'",
            "echo scratch >/tmp/scratch && mktemp >/dev/null && echo tmp works",
            "touch /etc/mark 2>/dev/null || echo /etc is closed",
            "ls /root >/dev/null 2>&1 || echo /root is closed",
            "test -e /dev/kmsg || echo no devices",
            "grep -e NoNewPrivs -e CapEff -e Seccomp: /proc/self/status; id -un; umask",
        )
    )
    shell = f'name: shell, response_codes: ["*"], shell: {json.dumps(script)}'
    http = 'name: http, response_codes: ["*"], http: {url: "http://127.0.0.1:9000/http"}'
    configure(service, shell, http, restart=True)
    event = send(service)
    wait_for_hooks(service, event, 2)
    output = sql(
        service,
        "SELECT output FROM attempt JOIN delivery ON delivery.id = delivery_id"
        f" WHERE action = 'shell' AND event_id = {event}",
    )
    assert output.split("\n") == [
        *("curl works", "python works", "tmp works", "/etc is closed", "/root is closed"),
        *("no devices", "CapEff:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2"),
        *("premblyd", "0027"),
    ]
    # Root's trial is the same: what works there works in the service.
    tried = json.loads(service.output("premblyd try --json shell /var/lib/premblyd/body"))
    assert tried["output"].rstrip("\n") == output
    bodies = service.output("sha256sum /srv/sink/* | cut -c -64 | sort -u")
    assert bodies == stored_hash(service, event)
    assert service.output("ls /srv/sink | sed s/[0-9]*-// | sort -u") == "http\nshell"


def test_an_action_reaches_further_by_a_drop_in_or_another_unit(service: Machine) -> None:
    command = "[/usr/bin/tee, /srv/archive/newest]"
    configure(service, f'name: archive, response_codes: ["*"], command: {command}')
    service.run("mkdir -p /srv/archive && chown premblyd: /srv/archive")
    try_it = "echo '{}' | premblyd try archive -"
    refused = service.run(try_it, check=False)
    assert refused.returncode == 1
    assert "Read-only file system" in refused.stdout
    use_page_s_drop_in(service)
    service.run(try_it)
    assert service.output("ls /run/systemd/system | grep -c premblyd-check || true") == "0"
    service.run("systemctl restart premblyd")
    event = send(service)
    service.wait("test -s /srv/archive/newest")
    archived = service.output("sha256sum </srv/archive/newest | cut -c -64")
    assert archived == stored_hash(service, event)


def test_root_s_check_and_send_and_an_update_see_the_keys_that_systemd_has(
    service: Machine,
) -> None:
    use_page_s_drop_in(service)
    configure(service, live="other: {env: OTHER_KEY}, live")
    service.run(f"mv {KEY} /root/key")  # only the encrypted one is left
    try:
        # As a start would see it, before there is one.
        assert f"{CONFIG} is valid." in service.output("premblyd check")
        service.run("systemctl restart premblyd")
        assert "200 " in service.output("premblyd send")
        assert "A daemon runs on it: pid " in service.output("premblyd check")
        assert "200 " in service.output("premblyd send --key other")
        assert "Updated to" in service.output(INSTALL)
        assert "200 " in service.output("premblyd send --key live")
        service.run("systemctl stop premblyd.socket premblyd.service")
        assert f"{CONFIG} is valid." in service.output("premblyd check")
        service.run(f"chmod 0600 {CONFIG}")
        done = service.run("premblyd check", check=False)
        assert done.returncode == 78
        assert "can't be read: Permission denied" in done.stderr
        service.run(f"chmod 0640 {CONFIG}; rm /etc/premblyd/prembly-live-key.cred")
        done = service.run("premblyd check", check=False)
        assert done.returncode == 78
        assert "systemd can't start it as the service: journalctl -u premblyd-check-" in done.stderr
    finally:
        service.run(f"mv /root/key {KEY}")
    assert times_seen(service, "sealed-live-key") == "0"


def test_root_s_check_tries_what_the_service_would_open(service: Machine) -> None:
    service.run("mkdir -p /srv/closed && chown premblyd: /srv/closed")
    service.run("systemctl stop premblyd.service")
    assert service.property("ActiveState", "premblyd.socket") == "active"
    service.run("premblyd check")  # the port is systemd's, which gives it to the service
    service.run("systemctl start premblyd.service")
    service.run(f"sed -i 's|^database: .*|database: sqlite:////srv/closed/premblyd.db|' {CONFIG}")
    for option in ("", "--quiet"):
        checked = service.run(f"premblyd check {option}", check=False)
        assert checked.returncode == 78
        closed = "Can't use /srv/closed for the database: Read-only file system"
        assert f"the daemon can't start: {closed}" in checked.stderr
    service.run("systemctl reload premblyd")  # takes up the rest
    assert "200 " in service.output("premblyd send")


def use_page_s_drop_in(service: Machine) -> None:
    """Use the drop-in of docs/install.md, all of it."""
    service.run("mkdir -p /srv/archive && chown premblyd: /srv/archive")
    service.run("install -m 0600 /dev/stdin /etc/premblyd/environment", stdin="OTHER_KEY='a b'\n")
    (encrypt,) = inline("systemd-creds encrypt")
    service.run(f"printf %s sealed-live-key | {encrypt} - /etc/premblyd/prembly-live-key.cred")
    use_drop_in(service, "page", block(*DROP_IN))


def test_an_auditor_reads_and_can_not_write_and_a_stranger_reads_nothing(
    service: Machine, people: None
) -> None:
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
    for command in (
        f"sqlite3 -readonly {DATABASE} 'SELECT 1'",
        *(f"cat {DATABASE}", f"cat {CONFIG}", "ls /var/lib/premblyd", "ls /etc/premblyd"),
        "premblyd events",
    ):
        assert service.run(f"runuser -u bob -- {command}", check=False).returncode != 0, command


def test_keys_are_the_service_s_alone(service: Machine, people: None) -> None:
    canary = "canary-0123456789abcdef"
    service.run(f"install -m 0600 /dev/stdin {KEY}", stdin=f"{canary}\n")
    configure(service, 'name: environment, response_codes: ["*"], shell: env', restart=True)
    event = send(service)
    service.run(f"curl -s -d x -H 'x-prembly-signature: eA==' {SEND_URL}")
    wait_for_hooks(service, event)
    service.run(f"echo 'oops: 1' >>{CONFIG}; systemctl reload premblyd || true")
    for user in ("ada", "bob"):
        for path in (KEY, "/run/credentials/premblyd.service/credentials_prembly-live-key"):
            done = service.run(f"runuser -u {user} -- cat {path}", check=False)
            assert done.returncode != 0, (user, path)
    assert times_seen(service, canary) == "0"
    assert service.run(f"journalctl --no-pager | grep -c {canary}", check=False).stdout == "0\n"
    service.run(f"! sqlite3 -readonly {DATABASE} .dump | grep {canary}")
    assert "CREDENTIALS" not in sql(service, "SELECT output FROM attempt ORDER BY id DESC LIMIT 1")
    assert service.output(f"grep -rl {canary} /etc /var /opt /tmp 2>/dev/null || true") == KEY


def test_the_journal_holds_json_lines_and_knows_the_levels(service: Machine) -> None:
    event = send(service)
    journal = "journalctl -t premblyd --no-pager -o cat"
    received = """select(.event == "webhook.received") | .event_id"""
    assert service.output(f"{journal} -n 20 | jq -R 'fromjson? | {received}' | tail -1") == str(
        event
    )
    service.run(f'curl -s -d "{{}}" -H "x-prembly-signature: bad" {SEND_URL}')
    service.wait(f"{journal} -p warning | grep -q webhook.rejected")
    assert "daemon.started" not in service.output(f"{journal} -p warning")
    assert "daemon.started" in service.output(f"{journal} -p info")
