"""Back to an older version by the lines of docs/install.md, with data."""

import re

import pytest

from premblyd import __version__
from tests.systemd import machine as machines
from tests.systemd.machine import Machine, MachineError
from tests.systemd.pages import FORGET_NIGHTLY_UNITS, GO_BACK, GO_TO_THE_OLDER, as_root
from tests.systemd.service import DATABASE, INSTALL, configure, send, sql, wait_for_sql

pytestmark = pytest.mark.machine

RELEASED = "c604ef3feecd75a56e0e012d46ca9c0cd0e081ba"  # 0.1.0, whose install.sh can't be mended
OLDER_INSTALL = "/share/premblyd-0.1.0/systemd/install.sh"
REFERENCES = "SELECT group_concat(reference, ' ') FROM (SELECT reference FROM event ORDER BY id)"
SUCCEEDED = "SELECT count(*) FROM delivery WHERE state = 'succeeded'"
ACTIONS = 'actions: [{name: note, response_codes: ["*"], shell: "true"}]'


def send_and_run(machine: Machine) -> None:
    """Send a webhook, and wait until its hook has run."""
    number = int(sql(machine, SUCCEEDED))
    send(machine)
    wait_for_sql(machine, SUCCEEDED, str(number + 1))


def nightly_units(machine: Machine) -> str:
    listed = machine.run(
        "systemctl list-unit-files --no-legend 'premblyd-reconcile*'",
        check=False,  # 1: there is none
    )
    return listed.stdout


def test_the_page_goes_back_to_the_first_version_with_the_data(fresh_machine: Machine) -> None:
    machine = fresh_machine
    older = machine.share / "premblyd-0.1.0"
    try:
        machines.copy_commit(RELEASED, older)
    except MachineError as error:
        pytest.skip(str(error))
    machine.run(OLDER_INSTALL)
    configure(machine, ACTIONS)
    machine.run("systemctl restart premblyd")
    for _ in range(3):
        send_and_run(machine)
    of_the_first = sql(machine, REFERENCES)

    machine.run(INSTALL)
    machine.run("systemctl enable --now premblyd-reconcile.timer")
    send_and_run(machine)
    of_both = sql(machine, REFERENCES)
    assert of_both != of_the_first

    # As many try it first: nothing is lost, and the newer version goes on.
    # Typed where one was last: in the newer checkout.
    try_it = f"cd /share/source\n{as_root(*GO_TO_THE_OLDER)}"
    refused = machine.run(try_it, check=False)
    assert refused.returncode == 1
    assert f"{DATABASE}.before-0002_inquiries" in refused.stderr
    assert "The old version runs again" in refused.stderr
    assert machine.output("premblyd --version").endswith(__version__)
    assert sql(machine, REFERENCES) == of_both

    done = machine.run(f"set -e\ncd /share/premblyd-0.1.0\n{as_root(*GO_BACK)}")
    machine.run(f"set -e\n{as_root(*FORGET_NIGHTLY_UNITS)}")
    assert machine.output("premblyd --version").endswith("0.1.0")
    assert sql(machine, REFERENCES) == of_the_first
    send_and_run(machine)
    assert nightly_units(machine) == ""
    assert machine.output("systemctl list-units --failed --no-legend 'premblyd*'") == ""

    # What the newer version had stored is where `restore` said.
    (folder,) = re.findall(r"What was there is in (\S+)\.", done.stdout)
    uri = f"file:{folder}/premblyd.db?immutable=1"
    assert machine.output(f'sqlite3 "{uri}" "{REFERENCES}"') == of_both

    # ... and forward again.
    assert "Upgraded to" in machine.run(INSTALL).stdout
    send_and_run(machine)
    assert "premblyd-reconcile.timer" in nightly_units(machine)
    machine.run("premblyd check")
