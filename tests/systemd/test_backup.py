"""The nightly backup in its sandbox, and what root puts back."""

import pytest

from tests.systemd.machine import Machine
from tests.systemd.service import DATABASE, configure, send, sql

pytestmark = pytest.mark.machine

COPIES = "/var/lib/premblyd-backups"
EVENTS = "SELECT count(*) FROM event"


def test_the_nightly_unit_copies_the_record_and_root_puts_it_back(service: Machine) -> None:
    units = "premblyd-backup.service premblyd-backup.timer"
    assert service.run(f"systemctl is-enabled {units}", check=False).stdout.split() == [
        "static",
        "disabled",
    ]
    configure(service)
    service.run("systemctl restart premblyd")
    send(service)
    before = sql(service, EVENTS)
    service.run("systemctl start premblyd-backup")
    assert service.property("Result", "premblyd-backup.service") == "success"
    [copy] = service.output(f"ls {COPIES}").split()
    assert service.output(f"stat -c '%U %G %a' {COPIES}/{copy}") == "premblyd premblyd 600"
    service.wait("journalctl -u premblyd-backup -o cat -n 5 | grep 'is in clear'")
    send(service)
    service.run("systemctl stop premblyd.socket premblyd.service")
    done = service.output(f"premblyd restore {COPIES}")
    assert done.startswith(f"Put {COPIES}/{copy} in the place of {DATABASE}: {before} event")
    service.run("systemctl start premblyd.service")
    assert sql(service, EVENTS) == before
    service.run("systemctl enable --now premblyd-backup.timer")
    assert "premblyd-backup.timer" in service.output("systemctl list-timers --all")
    service.run("systemctl disable --now premblyd-backup.timer")


def test_a_backup_that_fails_is_listed(service: Machine) -> None:
    service.run(f"mv {COPIES} {COPIES}.kept; touch {COPIES}")
    assert service.run("systemctl start premblyd-backup", check=False).returncode != 0
    assert "premblyd-backup.service" in service.output("systemctl --failed --no-legend --plain")
    service.run(f"rm {COPIES}; systemctl reset-failed premblyd-backup")
    if service.run(f"test -e {COPIES}.kept", check=False).returncode == 0:
        service.run(f"mv {COPIES}.kept {COPIES}")
