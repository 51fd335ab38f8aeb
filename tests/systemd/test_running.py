"""The service through restarts, crashes and hangs, and with configurations good and bad."""

import time
from typing import Any

import pytest

from tests.support.waiting import wait_until
from tests.systemd.machine import Machine
from tests.systemd.pages import CHANGE_ADDRESS, OTHER_PORT, as_root, block
from tests.systemd.service import (
    CONFIG,
    assert_stored,
    configure,
    processes,
    send,
    sql,
    use_drop_in,
)

pytestmark = pytest.mark.machine
# An action for the sample that `premblyd send` sends first.
WHEN = "starts_with(reference || '', 'sample-api-0001')"
FIRST = f'name: first, response_codes: ["00"], when: "{WHEN}"'
REFUSED = "curl -s -m 2 http://127.0.0.1:8080/healthz; test $? = 7"  # not: no answer in time


def test_restarts_under_load_fail_no_request(service: Machine, load_of: Any) -> None:
    load = load_of("restart")
    for _ in range(20):
        service.run("systemctl restart premblyd")
        time.sleep(0.5)
    result = load.end()
    assert result["answers"] == {"200": result["sent"]}
    assert result["sent"] > 1000
    assert_stored(service, result)


def test_a_killed_daemon_comes_back_and_leaves_no_hook_behind(
    service: Machine, load_of: Any
) -> None:
    script = "echo $$ >>$HOME/hooks; trap '' TERM; sleep 300 & sleep 301"
    configure(service, f'{FIRST}, timeout: 10m, shell: "{script}"', restart=True)
    service.run("rm -f /var/lib/premblyd/hooks")
    event = send(service)
    service.wait("test -s /var/lib/premblyd/hooks")
    first_hook = service.output("cat /var/lib/premblyd/hooks")
    load = load_of("kill")
    for kills in range(1, 4):
        before = service.property("MainPID")
        service.run("systemctl kill --signal=KILL --kill-whom=main premblyd")
        service.wait(f"test $(systemctl show -P MainPID premblyd) != {before}")
        service.wait("systemctl is-active premblyd")
        service.wait(f"test $(wc -l </var/lib/premblyd/hooks) = {kills + 1}")
    # What the daemon was receiving at that moment fails, but nobody is refused.
    result = load.end()
    assert "ConnectionRefusedError" not in result["answers"]
    assert_stored(service, result)
    service.run(f"! kill -0 {first_hook}")
    # The hook writes its line first, and starts these then.
    wait_until(lambda: {"sleep 300", "sleep 301"} <= set(processes(service)))
    running = processes(service)
    assert (running.count("sleep 300"), running.count("sleep 301")) == (1, 1)
    attempts = "FROM attempt JOIN delivery ON delivery.id = delivery_id"
    asked = f"{attempts} WHERE event_id = {event} ORDER BY number"
    outcomes = sql(service, f"SELECT coalesce(outcome, 'running') {asked}")
    assert outcomes.split() == ["interrupted"] * 3 + ["running"]


def test_a_daemon_that_a_hook_ends_comes_back_until_it_is_stopped(service: Machine) -> None:
    configure(service, 'name: ends, response_codes: ["*"], shell: kill $PPID', restart=True)
    send(service)
    service.wait("test $(systemctl show -P NRestarts premblyd) = 1")
    service.wait("systemctl is-active premblyd")
    service.run("systemctl stop premblyd")
    assert service.property("ActiveState") == "inactive"


def test_nothing_survives_a_stop(service: Machine) -> None:
    script = "echo $$ >$HOME/hook; trap '' TERM; setsid sleep 302 & sleep 303"
    stubborn = f'name: stubborn, response_codes: ["*"], shell: "{script}"'
    configure(service, stubborn, more="stop_timeout: 1s", restart=True)
    service.run("rm -f /var/lib/premblyd/hook")
    send(service)
    service.wait("test -s /var/lib/premblyd/hook")
    wait_until(lambda: {"sleep 302", "sleep 303"} <= set(processes(service)))
    service.run("systemctl stop premblyd")
    assert not {"sleep 302", "sleep 303"} & set(processes(service))
    assert service.property("Result") == "success"


def test_a_frozen_daemon_is_restarted_by_the_watchdog(service: Machine) -> None:
    use_drop_in(service, "test", "[Service]\nWatchdogSec=8s\n")
    service.run("systemctl restart premblyd")
    time.sleep(10)
    assert service.property("NRestarts") == "0"  # it is fed
    before = service.property("MainPID")
    service.run(f"kill -STOP {before}")
    service.wait("test $(systemctl show -P NRestarts premblyd) = 1")
    service.wait("systemctl is-active premblyd")
    assert service.property("MainPID") != before
    assert "Watchdog timeout" in service.output("journalctl -u premblyd -n 50 --no-pager")
    send(service)


def test_a_bad_configuration_fails_once_and_says_where(service: Machine, load_of: Any) -> None:
    """Connections that come meanwhile must not start it over and over either."""
    load = load_of("bad")
    service.run(f"echo 'oops: 1' >>{CONFIG}")
    line = service.output(f"wc -l <{CONFIG}")
    assert_fails_once(service, "restart", f"{CONFIG}:{line}:1: unknown key `oops`")
    load.end()
    configure(service)
    service.run("systemctl start premblyd")
    send(service)


def test_a_configuration_that_the_service_may_not_read_fails_once(service: Machine) -> None:
    """What `sudo cp` of a root's file, or Ansible, makes."""
    service.run("systemctl stop premblyd")
    service.run(f"chown root:root {CONFIG} && chmod 0600 {CONFIG}")
    try:
        assert_fails_once(service, "start", f"{CONFIG}:1:1: can't be read: Permission denied")
        service.wait(REFUSED)
    finally:
        service.run(f"chown root:premblyd {CONFIG} && chmod 0640 {CONFIG}")
    service.run("systemctl start premblyd")
    send(service)


def assert_fails_once(service: Machine, how: str, problem: str) -> None:
    assert service.run(f"systemctl {how} premblyd", check=False).returncode != 0
    time.sleep(3)
    state = [service.property(name) for name in ("ExecMainStatus", "NRestarts", "ActiveState")]
    assert state == ["78", "0", "failed"]
    log = service.output("journalctl -u premblyd -n 50 --no-pager -o cat")
    assert 1 <= log.count(problem) <= 2
    assert '"event":"daemon.not_started"' in log


def test_while_starts_fail_clients_are_refused_and_it_recovers_by_itself(service: Machine) -> None:
    service.run("systemctl stop premblyd.socket premblyd")
    service.run(f"sed 's|^database|listen: 127.0.0.1:9191\\ndatabase|' {CONFIG} >/run/other.yaml")
    service.run("cp /etc/premblyd/credentials/prembly-live-key /run/ && chmod 0644 /run/prembly-*")
    service.run(
        "systemd-run --unit=other --collect -p User=premblyd"
        " premblyd --config /run/other.yaml serve"
    )
    try:
        service.wait("curl -sf http://127.0.0.1:9191/healthz")
        assert service.run("systemctl start premblyd", check=False).returncode != 0
        # Between two tries; nobody waits for an answer that does not come.
        for _ in range(3):
            service.wait(REFUSED)
            time.sleep(1)
        service.wait("test $(systemctl show -P NRestarts premblyd) -gt 0")
    finally:
        service.run("systemctl stop other; rm /run/other.yaml /run/prembly-live-key")
    service.wait("curl -sf http://127.0.0.1:8080/healthz")
    assert service.property("ActiveState", "premblyd.socket") == "active"
    send(service)


def test_the_address_changes_by_the_page_s_lines(service: Machine) -> None:
    try:
        use_drop_in(service, "port", block(*OTHER_PORT), "premblyd.socket")
        for _ in range(7):  # more often than systemd's limit of starts would allow
            service.run(as_root(*CHANGE_ADDRESS))
        assert service.output("curl -sf http://127.0.0.1:9090/healthz") == '{"status":"ok"}'
        log = service.output("journalctl -u premblyd -n 30 --no-pager -o cat")
        assert '"event":"daemon.listen_ignored"' in log
        service.run(f"echo 'listen: 127.0.0.1:9090' >>{CONFIG}")
        service.run("systemctl restart premblyd")
        assert "200 " in service.output("premblyd send")
    finally:
        service.run("rm -r /run/systemd/system/premblyd.socket.d; systemctl daemon-reload")
        service.run(as_root(*CHANGE_ADDRESS))


def test_a_reload_takes_effect_and_loses_nothing(service: Machine, load_of: Any) -> None:
    before = service.property("MainPID")
    load = load_of("reload")
    for number in range(5):
        configure(service, f'{FIRST.replace("first", f"reloaded-{number}")}, shell: "true"')
        reloads = "journalctl -u premblyd --no-pager -o cat | grep -c config.reloaded"
        reloaded = int(service.output(f"{reloads} || true"))
        service.run("systemctl reload premblyd")
        # systemd 252 can't wait until the daemon has done it.
        service.wait(f"test $({reloads}) -gt {reloaded}")
        event = send(service)
        ran = sql(service, f"SELECT action FROM delivery WHERE event_id = {event}")
        assert ran == f"reloaded-{number}"
    result = load.end()
    assert result["answers"] == {"200": result["sent"]}
    assert_stored(service, result)
    assert service.property("MainPID") == before
    log = service.output("journalctl -u premblyd --no-pager -o cat")
    assert "is valid." not in log
    assert "No daemon runs" not in log


def test_a_reload_of_a_bad_file_fails_visibly_and_changes_nothing(service: Machine) -> None:
    before = service.property("MainPID")
    configure(service, "name: x, shell: y")
    assert service.run("systemctl reload premblyd", check=False).returncode != 0
    assert service.property("ActiveState") == "active"
    assert service.property("MainPID") == before
    log = "journalctl -u premblyd -n 10 --no-pager -o cat"  # written a moment later
    service.wait(f"{log} | grep -F '{CONFIG}:7:11: `response_codes` is missing'")
    configure(service)
    service.run("systemctl reload premblyd")
    send(service)


def test_a_new_key_is_used_after_a_restart(service: Machine) -> None:
    service.run("install -m 0600 /dev/stdin /etc/premblyd/credentials/second", stdin="second-key")
    configure(service, live="second: {file: second}, live")
    # The credentials are copied at start: a reload can't see a new one, and must say so.
    assert service.run("systemctl reload premblyd", check=False).returncode != 0
    service.run("systemctl restart premblyd")
    assert "200 " in service.output("premblyd send --key second")
    verified = sql(service, "SELECT verified_by FROM event ORDER BY id DESC LIMIT 1")
    assert verified == "hmac-sha256:second"
