"""Installing by one command, the steps it prints, updating, undoing and uninstalling."""

from typing import Any

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
    wait_for_hooks,
)

pytestmark = pytest.mark.machine

UNDONE = "The old version runs again; nothing was lost."
OLD_SYSTEMD = "#!/bin/sh\necho 'systemd 249 (249.11)'\n"
BROKEN = 'raise SystemExit("broken on purpose")'
OTHER_TABLES = "def digest(part: str = '') -> str: return 'of another build'"


def assert_refused(machine: Machine, command: str, code: int, *words: str, **options: Any) -> None:
    done = machine.run(command, check=False, **options)
    assert done.returncode == code
    assert [word for word in words if word not in done.stderr] == []


def test_one_command_installs_a_running_service(installed: Installed, service: Machine) -> None:
    about = (installed.state, installed.enabled, installed.health)
    assert about == ("active", "enabled\nenabled", '{"status":"ok"}')
    steps = [line for line in installed.printed.splitlines() if line[:1].isdecimal()]
    assert [step[:2] for step in steps] == ["1.", "2.", "3.", "4.", "5.", "6."]
    assert "can't start" not in installed.printed
    assert installed.modes.splitlines() == [
        *("750 root:premblyd /etc/premblyd", f"640 root:premblyd {CONFIG}"),
        *("700 root:root /etc/premblyd/credentials", f"600 root:root {KEY}"),
        "750 premblyd:premblyd /var/lib/premblyd",
        *(f"640 premblyd:premblyd {DATABASE}{end}" for end in ("", "-wal")),
    ]
    # The next steps, as they are printed.
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
    too_old = "systemd 249 is too old: 252 is needed"
    assert_refused(fresh_machine, INSTALL, 1, too_old, environ=path)
    fresh_machine.run("chmod -x /usr/bin/python3*")
    assert_refused(fresh_machine, INSTALL, 1, "Run: apt-get install python3 python3-venv")
    assert fresh_machine.output("ls /opt") == ""


def test_the_installed_units_are_sound_and_hardly_exposed(service: Machine) -> None:
    assert service.run("systemd-analyze verify /etc/systemd/system/premblyd*.*").stderr == ""
    unknown = "journalctl -b -o cat | grep 'premblyd.*Unknown key'"
    assert service.run(unknown, check=False).stdout == ""
    exposure = service.output("systemd-analyze security --no-pager premblyd.service | tail -1")
    assert float(exposure.split(": ")[1].split()[0]) <= 1.3


# What `systemctl` does first, in the PATH of an update, when it is to be interrupted at a step.
INTERRUPTED = {
    "while it puts the units": '"daemon-reload"',
    "while the new one starts": '"restart premblyd.service"',
}
RECORD = "SELECT (SELECT count(*) FROM event), (SELECT count(*) FROM attempt)"


def test_an_interrupted_update_is_undone(service: Machine) -> None:
    configure(service, 'name: x, response_codes: ["*"], shell: "true"', restart=True)
    running = service.output("readlink /opt/premblyd/current")
    real = service.output("command -v systemctl")
    for step, command in INTERRUPTED.items():
        event = send(service)
        wait_for_hooks(service, event)
        before = sql(service, RECORD)
        service.run("rm -rf /root/faults /root/once; mkdir /root/faults")
        once = f'test "$*" = {command} && mkdir /root/once 2>/dev/null'
        text = f'#!/bin/sh\n{once} && kill -INT "$PPID"\nexec {real} "$@"\n'
        service.run("install /dev/stdin /root/faults/systemctl", stdin=text)
        path = {"PATH": f"/root/faults:{machines.ENVIRONMENT['PATH']}"}
        assert_refused(service, INSTALL, 1, UNDONE, environ=path)
        assert sql(service, RECORD) == before, step
        assert service.output("readlink /opt/premblyd/current") == running, step
        assert service.property("ActiveState") == "active", step
        newer = int(running.rpartition("/")[2]) + 1
        assert service.output(f"ls -d /opt/premblyd/versions/{newer} || true") == "", step


def test_an_update_takes_nothing_from_what_lies_around_and_leaves_nothing(service: Machine) -> None:
    """The checkout is a user's, who has built in it before."""
    service.run("id dev || useradd --create-home dev")
    service.run("rm -rf /home/dev/it; cp -r /share/source /home/dev/it")
    stale = "build/lib/premblyd/cli/deleted_before.py"
    service.run(f"cd /home/dev/it && mkdir -p $(dirname {stale}) && echo >{stale}")
    service.run("mkdir /home/dev/it/premblyd.egg-info; chown -R dev: /home/dev/it")
    # Root's Python would take these for its own, where they lie.
    service.run(
        "cd /home/dev && for name in pip venv ensurepip secrets; do echo 1/0 >$name.py; done"
    )
    assert "Updated to" in service.output("cd /home/dev && it/systemd/install.sh --from it")
    assert service.output("find /opt/premblyd -name 'deleted_before*'") == ""
    assert service.output("find /opt/premblyd -name source") == ""
    assert service.output("find /home/dev/it ! -user dev") == ""


def test_an_update_keeps_every_event_and_one_that_can_not_run_is_undone(
    fresh_machine: Machine,
) -> None:
    machine = fresh_machine
    machines.copy_source(machine.share / "previous")
    (machine.share / "previous/premblyd/__init__.py").write_text('__version__ = "0.0.1"\n')
    machine.run("/share/previous/systemd/install.sh")
    assert machine.output("premblyd --version").endswith("0.0.1")
    configure(machine)
    done = run_under_load(machine, INSTALL)
    assert "Updated to" in done.stdout
    assert not machine.output("premblyd --version").endswith("0.0.1")
    running = machine.output("readlink /opt/premblyd/current")

    # One that does not start.
    machine.run("cp -r /share/source /share/broken")
    machine.run("cat >>/share/broken/premblyd/cli/serve.py", stdin=BROKEN)
    assert_refused(machine, "/share/broken/systemd/install.sh", 1, "broken on purpose", UNDONE)
    assert machine.output("readlink /opt/premblyd/current") == running
    assert machine.output("ls /opt/premblyd/versions | wc -l") == "2"
    send(machine)

    # One with other tables, and a mistake in the configuration: the old one is not even stopped.
    pid = machine.property("MainPID")
    machine.run("cp -r /share/source /share/other")
    machine.run("cat >>/share/other/premblyd/store/schema.py", stdin=OTHER_TABLES)
    another = "was made by another build of premblyd"
    assert_refused(machine, "/share/other/systemd/install.sh", 78, another)
    nowhere = f"{INSTALL} --from premblyd-that-is-nowhere"
    assert_refused(machine, nowhere, 1, "nothing was changed")
    machine.run(f"echo 'oops: 1' >>{CONFIG}")
    assert_refused(machine, INSTALL, 78, "unknown key `oops`")
    assert machine.property("MainPID") == pid
    configure(machine)
    send(machine)

    said = machine.run(f"{INSTALL} --uninstall").stdout
    assert "/var/lib/premblyd" in said
    assert "/etc/premblyd" in said
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
