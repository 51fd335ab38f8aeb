"""The Debian package, built by one command and in the hands of apt, in a machine of each Debian.

Ubuntu's has never been built or run: no mirror of Ubuntu was in reach.
"""

import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from premblyd.cli import COMMANDS
from tests.systemd import machine as machines
from tests.systemd.built import version_of
from tests.systemd.machine import Machine
from tests.systemd.pages import as_root
from tests.systemd.service import (
    CONFIG,
    DATABASE,
    INSTALL,
    KEY,
    SEND_URL,
    configure,
    run_under_load,
    send,
    send_signed,
    sql,
)

pytestmark = pytest.mark.machine

SUITES = {"bookworm": "deb12", "trixie": "deb13"}
LATER = "99.0.0"
APT = "apt-get -y --allow-downgrades"
FIRST_WEBHOOK = ("sh", "sudo systemctl restart premblyd\nsudo premblyd send\nsudo premblyd events")
LEFT = "find /etc /var/lib /usr -name '*premblyd*' -not -path '/var/lib/dpkg/*' | sort"
QUIET = {"DEBIAN_FRONTEND": "noninteractive"}
ASKED = {"DEBIAN_FRONTEND": "readline"}


@dataclass(frozen=True)
class Packages:
    """The package of this tree, and of one that is later: both for one Debian."""

    suite: str
    this: Path
    later: Path


@pytest.fixture(scope="module", params=SUITES)
def packages(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Packages:
    if reason := machines.missing():
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp(f"deb-{request.param}")
    later = folder / "later"
    machines.copy_source(later)
    (later / "premblyd/__init__.py").write_text(f'__version__ = "{LATER}"\n')
    # Where the tests have their folders, devices may not be allowed.
    with tempfile.TemporaryDirectory(prefix="premblyd-deb-", dir="/var/tmp") as work:
        root = Path(work, "root")
        trees = (machines.REPOSITORY, later)
        return Packages(
            request.param, *(_build(tree, request.param, root, folder) for tree in trees)
        )


def _build(tree: Path, suite: str, root: Path, out: Path) -> Path:
    command: list[str | Path] = [tree / "systemd/build-deb", "--root", root, suite, out]
    done = subprocess.run(command, capture_output=True, text=True)
    if "debootstrap can't make" in done.stderr:
        pytest.skip(done.stderr)
    assert done.returncode == 0, done.stderr
    return Path(done.stdout.strip())


@pytest.fixture
def machine(packages: Packages, tmp_path: Path) -> Iterator[Machine]:
    """A machine as Debian left it, with the packages in /share."""
    machines.copy_source(tmp_path / "source")
    for package in (packages.this, packages.later):
        shutil.copy2(package, tmp_path)
    try:
        with machines.booted(tmp_path, packages.suite) as booted:
            yield booted
    except machines.MachineError as error:
        pytest.skip(str(error))


def test_lintian_finds_no_error_and_the_version_is_of_its_debian(packages: Packages) -> None:
    ask = ["dpkg-deb", "--field", str(packages.this), "Version", "Depends"]
    fields = subprocess.run(ask, capture_output=True, text=True).stdout
    version = version_of(machines.REPOSITORY).replace(".dev", "~~dev")
    assert f"Version: {version}~{SUITES[packages.suite]}\n" in fields
    minor = int(re.findall(r"python3 \(>= 3\.(\d+)\)", fields)[0])
    assert f"python3 (<< 3.{minor + 1})" in fields
    lintian = shutil.which("lintian")
    if lintian is None:
        pytest.skip("lintian is missing (apt-get install lintian)")
    command: list[str | Path] = [lintian, "--allow-root", "--fail-on=error", packages.this]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


def test_the_page_leads_to_the_first_webhook_and_a_purge_asks_before_data_go(
    machine: Machine, packages: Packages
) -> None:
    package = f"/share/{packages.this.name}"
    before = machine.output(LEFT)
    machine.run("mkdir -p /opt/premblyd/current")
    refused = machine.run(f"{APT} install {package} 2>&1", environ=QUIET, check=False)
    assert (refused.returncode, "systemd/install.sh --uninstall" in refused.stdout) == (100, True)
    machine.run("rm -r /opt/premblyd")
    printed = machine.run(f"{APT} install {package} 2>&1", environ=QUIET).stdout
    assert f"install -m 0600 /dev/stdin {KEY}" in printed
    (page,) = re.findall(r"/usr/share/doc/\S+\.md", printed)
    assert machine.output(f"head -n 1 {page}") == "# How do I install and run premblyd?"
    assert machine.property("ActiveState") == "active"
    enabled = machine.output("systemctl is-enabled premblyd.service premblyd.socket")
    assert enabled == "enabled\nenabled"
    modes = f"stat -c '%a %U:%G' /etc/premblyd {CONFIG} /etc/premblyd/credentials {KEY} {DATABASE}"
    of_root = "750 root:premblyd\n640 root:premblyd\n700 root:root\n600 root:root\n"
    assert machine.output(modes) == f"{of_root}640 premblyd:premblyd"

    # By the page.
    done = machine.run(f"set -e\n{as_root(*FIRST_WEBHOOK)}", stdin="my-real-key\n")
    assert "200 " in done.stdout
    assert "sample-api" in done.stdout
    send_signed(machine, "my-real-key")
    assert machine.run("premblyd check --quiet", check=False).returncode == 0

    # What came with it.
    assert machine.output("dpkg --verify premblyd") == ""
    assert "journalctl" not in machine.output("systemctl list-units --failed --no-legend")
    verify = "systemd-analyze verify --man=no premblyd.service"
    assert machine.run(f"{verify} premblyd-reconcile.timer premblyd-backup.timer").stderr == ""
    page = machine.output("gzip -dc /usr/share/man/man1/premblyd.1.gz")
    assert [name for name in COMMANDS if f'.SS "premblyd {name}' not in page] == []
    complete = (
        "bash -c '. /usr/share/bash-completion/completions/premblyd; COMP_WORDS=(premblyd rep);"
        ' COMP_CWORD=1; _premblyd_completion premblyd rep premblyd; echo "${COMPREPLY[@]}"\''
    )
    assert machine.output(complete) == "replay"
    assert machine.output("find /usr/lib/premblyd -newer /var/lib/dpkg/info/premblyd.list") == ""

    refused = machine.run(INSTALL, check=False)
    assert (refused.returncode, "sudo apt remove premblyd" in refused.stderr) == (1, True)

    # Removed, and back again with all there was.
    events = sql(machine, "SELECT count(*) FROM event")
    machine.run("echo '# mine' >>" + CONFIG)
    machine.run(f"{APT} remove premblyd", environ=QUIET)
    assert machine.run("systemctl cat premblyd", check=False).returncode == 1
    assert machine.run(f"curl -s {SEND_URL}", check=False).returncode == 7  # refused
    machine.run(f"{APT} install {package}", environ=QUIET)
    assert sql(machine, "SELECT count(*) FROM event") == events
    assert machine.output(f"tail -n 1 {CONFIG}") == "# mine"
    send(machine)

    # Nobody can answer: the data stay.
    said = machine.run(f"{APT} purge premblyd 2>&1", environ=QUIET).stdout
    assert "sudo rm -r /var/lib/premblyd /etc/premblyd" in said
    assert machine.output(f"ls {KEY} {DATABASE}").split() == [KEY, DATABASE]
    assert machine.run(f"ls {CONFIG}", check=False).returncode == 2
    machine.run(f"{APT} install {package}", environ=QUIET)
    assert int(sql(machine, "SELECT count(*) FROM event")) == int(events) + 1

    # Somebody says no, and somebody yes, when they are asked: nobody types ahead.
    purge = (
        "while sleep 1; do echo {}; done |"
        " script --quiet --return --command 'apt-get purge -y premblyd' /dev/null"
    )
    assert "Remove the record" in machine.run(purge.format("no"), environ=ASKED).stdout
    assert machine.output(f"ls {KEY} {DATABASE}").split() == [KEY, DATABASE]
    machine.run(f"{APT} install {package}", environ=QUIET)
    assert "Remove the record" in machine.run(purge.format("yes"), environ=ASKED).stdout
    assert machine.output(LEFT) == before
    assert machine.output("systemctl list-units --all --no-legend 'premblyd*'") == ""


def test_an_upgrade_and_a_downgrade_keep_every_event_unless_the_configuration_is_wrong(
    machine: Machine, packages: Packages
) -> None:
    this, later = f"/share/{packages.this.name}", f"/share/{packages.later.name}"
    machine.run(f"{APT} install {this}", environ=QUIET)
    configure(machine, restart=True)
    run_under_load(machine, f"{APT} install {later}", environ=QUIET)
    assert machine.output("premblyd --version").endswith(LATER)
    events = int(sql(machine, "SELECT count(*) FROM event"))
    machine.run(f"{APT} install {this}", environ=QUIET)
    send(machine)
    assert int(sql(machine, "SELECT count(*) FROM event")) == events + 1
    assert machine.output("premblyd --version").endswith(version_of(machines.REPOSITORY))

    # A mistake in the configuration: what runs goes on until it is mended.
    machine.run(f"echo 'oops: 1' >>{CONFIG}")
    said = machine.run(f"{APT} install {later} 2>&1", environ=QUIET).stdout
    assert "unknown key `oops`" in said
    assert "The version before goes on" in said
    assert machine.output("curl -sf http://127.0.0.1:8080/healthz") == '{"status":"ok"}'
    configure(machine, restart=True)
    send(machine)
