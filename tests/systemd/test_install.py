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
    SEND_URL,
    Load,
    assert_stored,
    configure,
    send,
    sql,
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
