"""Installing by one command, the steps it prints, upgrading, undoing and uninstalling."""

import pytest

from tests.systemd import machine as machines
from tests.systemd.conftest import Installed
from tests.systemd.machine import Machine
from tests.systemd.service import (
    CONFIG,
    DATABASE,
    INSTALL,
    KEY,
    configure,
    run_under_load,
    send,
    send_signed,
    sql,
    wait_for_sql,
)

pytestmark = pytest.mark.machine

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


def test_one_command_installs_a_running_service(installed: Installed) -> None:
    assert installed.state == "active"
    assert installed.enabled == "enabled\nenabled"
    assert installed.health == '{"status":"ok"}'
    steps = [line for line in installed.printed.splitlines() if line[:1].isdecimal()]
    assert [step[:2] for step in steps] == ["1.", "2.", "3.", "4.", "5."]
    assert installed.modes.splitlines() == [
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
    send_signed(service, "my-real-key")


def test_what_is_missing_is_named_with_the_command_that_installs_it(fresh_machine: Machine) -> None:
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
        " /etc/systemd/system/premblyd.socket /etc/systemd/system/premblyd-reconcile.timer"
        " /etc/systemd/system/premblyd-reconcile.service"
        " /etc/systemd/system/premblyd-backup.timer /etc/systemd/system/premblyd-backup.service"
    )
    assert verified.stderr == ""
    assert (
        service.run("journalctl -b -o cat | grep 'premblyd.*Unknown key'", check=False).stdout == ""
    )
    exposure = service.output("systemd-analyze security --no-pager premblyd.service | tail -1")
    assert float(exposure.split(": ")[1].split()[0]) <= 1.3


# Programs that come first in the PATH of an upgrade: what goes wrong, at which step. Each does what
# it stands for, too.
INTERRUPT = 'kill -INT "$PPID"'
FAULTS = {
    "interrupted while the service stops": (
        "systemctl",
        f'test "$*" != "stop premblyd.service" || {INTERRUPT}',
    ),
    "interrupted while it copies": (
        "runuser",
        f'case "$*" in *" save "*) {INTERRUPT}; exit 130;; esac',
    ),
    "no room for the copy": ("runuser", 'case "$*" in *" save "*) ulimit -f 8;; esac'),
    "the database is locked": (
        "runuser",
        'case "$*" in *" save "*) /root/hold; PATH=${PATH#*:} runuser "$@"; code=$?;'
        " rm /root/held; exit $code;; esac",
    ),
    "interrupted while it puts the units": (
        "systemctl",
        f'test "$*" != "daemon-reload" -o -e /root/once || {{ touch /root/once; {INTERRUPT}; }}',
    ),
    "interrupted while the new one starts": (
        "systemctl",
        'case "$*" in "start premblyd."*) test -e /root/once ||'
        f" {{ touch /root/once; {INTERRUPT}; }};; esac",
    ),
}
HOLD = f"""#!/bin/sh
python3 -c '
import os, sqlite3, time
connection = sqlite3.connect("{DATABASE}", isolation_level=None)
connection.execute("PRAGMA locking_mode = EXCLUSIVE")
connection.execute("BEGIN EXCLUSIVE")
open("/root/held", "w").close()
while os.path.exists("/root/held"): time.sleep(0.1)' >/dev/null 2>&1 &
while ! test -e /root/held; do sleep 0.1; done
"""
RECORD = "SELECT (SELECT count(*) FROM event), (SELECT count(*) FROM attempt)"


def test_an_interrupted_upgrade_leaves_the_database_as_it_is(service: Machine) -> None:
    configure(service, 'actions: [{name: x, response_codes: ["*"], shell: "true"}]')
    service.run("systemctl restart premblyd")
    # The copy that an upgrade before this one has left, with fewer events.
    service.run(
        f"rm -f {DATABASE}.before-upgrade; runuser -u premblyd -- sqlite3 {DATABASE}"
        f" 'VACUUM INTO \"{DATABASE}.before-upgrade\"'"
    )
    service.run("install /dev/stdin /root/hold", stdin=HOLD)
    running = service.output("readlink /opt/premblyd/current")
    for fault, (program, line) in FAULTS.items():
        event = send(service)
        waiting = f"SELECT count(*) FROM delivery WHERE event_id = {event} AND state = 'succeeded'"
        wait_for_sql(service, waiting, "1")
        before = sql(service, RECORD)
        real = service.output(f"command -v {program}")
        service.run("rm -rf /root/faults /root/once /root/held; mkdir /root/faults")
        text = f'#!/bin/sh\n{line}\nexec {real} "$@"\n'
        service.run(f"install /dev/stdin /root/faults/{program}", stdin=text)
        path = {"PATH": f"/root/faults:{machines.ENVIRONMENT['PATH']}"}
        done = service.run(INSTALL, check=False, environ=path)
        assert done.returncode == 1, fault
        assert "The old version runs again; nothing was lost." in done.stderr, fault
        assert "Traceback" not in done.stderr, fault
        assert sql(service, RECORD) == before, fault
        assert service.output("readlink /opt/premblyd/current") == running, fault
        assert service.property("ActiveState") == "active", fault
        left = service.output(f"ls {DATABASE}*.part /opt/premblyd/versions 2>/dev/null || true")
        assert ".part" not in left, fault
        assert f"\n{int(running.rpartition('/')[2]) + 1}\n" not in f"{left}\n", fault


def test_no_other_user_holds_up_a_start_or_an_upgrade(service: Machine, people: None) -> None:
    """Everyone can lock what he can open."""
    found = service.output("find /opt/premblyd -maxdepth 2").split()
    for number, path in enumerate(found):
        service.run(f"systemd-run --unit=bob-{number} -p User=bob flock {path} sleep 300")
    assert "/opt/premblyd" in found
    service.wait("lslocks --output PATH --noheadings | grep -qx /opt/premblyd")
    try:
        service.run("systemctl restart premblyd")
        send(service)
        assert "Upgraded to" in service.output(INSTALL)
    finally:
        service.run("systemctl stop 'bob-*'; systemctl reset-failed 'bob-*'", check=False)


def test_an_upgrade_takes_nothing_from_what_lies_around_and_leaves_nothing(
    service: Machine,
) -> None:
    """The checkout is a user's, who has built in it before."""
    service.run("id dev || useradd --create-home dev")
    service.run("rm -rf /home/dev/it; cp -r /share/source /home/dev/it")
    stale = "build/lib/premblyd/model/migrations/9999_deleted.py"
    service.run(f"cd /home/dev/it && mkdir -p $(dirname {stale}) && echo >{stale}")
    service.run("mkdir /home/dev/it/premblyd.egg-info; chown -R dev: /home/dev/it")
    # Root's Python would take these for its own, where they lie.
    service.run(
        "cd /home/dev && for name in pip venv ensurepip secrets; do echo 1/0 >$name.py; done"
    )
    assert "Upgraded to" in service.output("cd /home/dev && it/systemd/install.sh --from it")
    assert service.output("find /opt/premblyd -name '9999*'") == ""
    assert service.output("find /opt/premblyd -name source") == ""
    assert service.output("find /home/dev/it ! -user dev") == ""


def test_an_upgrade_keeps_every_event_and_a_broken_one_is_undone(fresh_machine: Machine) -> None:
    machine = fresh_machine
    machines.copy_previous(machine.share / "previous")
    (machine.share / "previous/premblyd/__init__.py").write_text('__version__ = "0.0.1"\n')
    machine.run("/share/previous/systemd/install.sh")
    assert machine.output("premblyd --version").endswith("0.0.1")
    configure(machine)
    done = run_under_load(machine, INSTALL)
    assert "Upgraded to" in done.stdout
    assert not machine.output("premblyd --version").endswith("0.0.1")
    events = sql(machine, "SELECT count(*) FROM event")

    running = machine.output("readlink /opt/premblyd/current")
    for number, (change, more) in enumerate([(SPOIL, 0), (RECEIVE, 1), (RECEIVE + MIGRATE, 0)]):
        broken = f"/share/broken-{number}"
        machine.run(f"cp -r /share/source {broken}")
        machine.run(f"cat >>{broken}/premblyd/cli/serve.py", stdin=BROKEN % change)
        done = machine.run(f"{broken}/systemd/install.sh", check=False)
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
    aside = machine.output(f"ls -d {DATABASE}.replaced-* | tail -n 1")
    assert aside in done.stderr
    kept = f"{aside}/premblyd.db"
    assert int(machine.output(f"sqlite3 {kept} 'SELECT count(*) FROM event'")) == int(events)

    done = machine.run(f"{INSTALL} --from premblyd-that-is-nowhere", check=False)
    assert done.returncode == 1
    assert "nothing was changed" in done.stderr
    send(machine)

    machine.run(f"echo 'oops: 1' >>{CONFIG}")
    done = machine.run(INSTALL, check=False)
    assert done.returncode == 78
    assert "unknown key `oops`" in done.stderr
    assert machine.output("curl -sf http://127.0.0.1:8080/healthz") == '{"status":"ok"}'
    configure(machine)

    done = machine.run(f"{INSTALL} --uninstall")
    assert "/var/lib/premblyd" in done.stdout
    assert "/etc/premblyd" in done.stdout
    assert machine.run("systemctl status premblyd", check=False).returncode == 4  # no such unit
    assert machine.output("find /etc/systemd -name 'premblyd*' -not -type d") == ""
    assert machine.output("ls /opt /usr/local/bin").split() == ["/opt:", "/usr/local/bin:"]
    before = int(machine.output(f"sqlite3 {DATABASE} 'SELECT count(*) FROM event'"))
    machine.run(f"{INSTALL} --uninstall")  # again changes nothing

    configuration = machine.output(f"cat {CONFIG}")
    machine.run(INSTALL)
    assert machine.output(f"cat {CONFIG}") == configuration
    assert int(sql(machine, "SELECT count(*) FROM event")) == before
    send(machine)

    # What stays goes by the line that it prints.
    machine.run("mkdir -p /etc/systemd/system/premblyd.service.d")
    machine.run("mkdir /etc/systemd/system/premblyd-reconcile.service.d")
    said = machine.run(f"{INSTALL} --uninstall").stdout
    machine.run(said.partition("Remove them too:")[2].replace("sudo ", ""))
    assert machine.output("find /etc /var/lib -name 'premblyd*'") == ""
    assert machine.run("id premblyd", check=False).returncode == 1
