"""The nightly unit in its sandbox, and root's own reconciliation, against the stand-in."""

import contextlib
from collections.abc import Iterator

import pytest

from tests.systemd.machine import Machine
from tests.systemd.service import DATABASE, configure, sql, wait_for_sql
from tests.systemd.stand_in import API_KEY, stand_in

pytestmark = pytest.mark.machine

KNOWS = """\
    now_s = time.time()
    for night, end_s in enumerate({ends}):
        for number in range({count}):
            api.know(f"ver_{name}_{{night}}{{number:05x}}a", created_at_s=end_s - 1 - number)
"""
# Of yesterday, and of the day that is yesterday if midnight comes before the unit starts.
EACH_NIGHT = "(now_s // 86400 * 86400, now_s // 86400 * 86400 + 86400)"
AN_HOUR_AGO = "(now_s - 3600,)"
SCRIPT = "'echo $PREMBLY_REFERENCE >>$HOME/noted'"
NOTE = f'name: note, types: [prembly.status], response_codes: ["00"], shell: {SCRIPT}'
STORED = "SELECT count(*) FROM event WHERE type = 'prembly.status'"
RAN = (
    "SELECT count(*) FROM delivery JOIN event ON event.id = event_id"
    " WHERE type = 'prembly.status' AND state = 'succeeded'"
)


@contextlib.contextmanager
def prembly_knows(machine: Machine, name: str, count: int, ends: str) -> Iterator[None]:
    """Run a stand-in in the machine that knows `count` verifications before each of `ends`, and
    have it asked."""
    with stand_in(machine, name, KNOWS.format(name=name, count=count, ends=ends)) as prembly:
        configure(machine, NOTE, more=f"prembly: {prembly}", restart=True)
        yield


def test_the_unit_fails_while_something_is_missing_and_without_a_key(service: Machine) -> None:
    with prembly_knows(service, "failing", 3, EACH_NIGHT):
        service.run(f"echo wrong | install -m 0600 /dev/stdin {API_KEY}")
        assert service.run("systemctl start premblyd-reconcile", check=False).returncode != 0
        assert service.property("ExecMainStatus", "premblyd-reconcile.service") == "78"
        log = "journalctl -u premblyd-reconcile -o cat -n 5"  # written a moment later
        service.wait(f"{log} | grep -F 'Prembly refuses it (HTTP 401)'")
        service.run("systemctl reset-failed premblyd-reconcile")


def test_the_nightly_unit_makes_good_what_never_came(service: Machine) -> None:
    units = "premblyd-reconcile.service premblyd-reconcile.timer"
    enabled = service.run(f"systemctl is-enabled {units}", check=False).stdout
    assert enabled.split() == ["static", "disabled"]
    with prembly_knows(service, "night", 20, EACH_NIGHT):
        service.run("systemctl start premblyd-reconcile")
        assert service.property("Result", "premblyd-reconcile.service") == "success"
        assert sql(service, STORED) == "20"
        wait_for_sql(service, RAN, "20")
        # Of the first night: yesterday alone.
        day = sql(service, "SELECT date(day_ms / 1000, 'unixepoch') FROM day")
        printed = service.output(f"premblyd reconcile --day {day}")
        assert f"{day} is complete: 20 verifications ended" in printed
        assert len(set(service.output("cat /var/lib/premblyd/noted").split())) == 20
    service.run("systemctl enable --now premblyd-reconcile.timer")
    assert "premblyd-reconcile.timer" in service.output("systemctl list-timers --all")
    service.run("systemctl disable --now premblyd-reconcile.timer")


def test_root_reconciles_a_list_as_the_service(service: Machine) -> None:
    before = int(sql(service, STORED))
    with prembly_knows(service, "list", 5, AN_HOUR_AGO):
        service.run("systemctl stop premblyd.socket premblyd.service")
        references = "".join(f"ver_list_0{number:05x}a\n" for number in range(5))
        service.run("umask 077; cat >/root/list.txt", stdin=references)
        assert service.run("premblyd reconcile /root/list.txt", check=False).returncode == 1
        stored = service.output("premblyd reconcile /root/list.txt --store")
        assert "Stored missed webhooks: 5 events." in stored
        assert service.output(f"stat -c %U:%G {DATABASE}") == "premblyd:premblyd"
        service.run("systemctl start premblyd.service")
        wait_for_sql(service, STORED, str(before + 5))
        wait_for_sql(service, RAN, str(before + 5))
        assert "Nothing is missing." in service.output("premblyd reconcile")
