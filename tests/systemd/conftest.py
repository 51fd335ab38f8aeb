"""When the tests that boot a machine run, and the machines themselves.

They need root and take a minute or two, so they run only when asked for: `pytest -m machine`, or
PREMBLYD_REQUIRE_ALL=1.
"""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.needs import REQUIRE_ALL, needs_root
from tests.systemd import machine as machines
from tests.systemd.built import Released, checkout
from tests.systemd.image import podman
from tests.systemd.machine import Machine
from tests.systemd.service import CONFIG, DATABASE, INSTALL, KEY, Load, configure


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    asked = REQUIRE_ALL or "machine" in str(config.getoption("markexpr"))
    for item in items:
        if item.get_closest_marker("machine"):
            item.add_marker(needs_root)
            if not asked:
                item.add_marker(pytest.mark.skip(reason="boots a machine: run with -m machine"))


@pytest.fixture(scope="session")
def released(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Released]:
    """A release without Debian's packages, which have tests of their own, signed by a new key."""
    folder = tmp_path_factory.mktemp("release")
    tree = checkout(folder / "premblyd")
    key = folder / "key"
    with podman() as there:
        there.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key)
        said = there.run(tree / "systemd/release", folder / "out", key)
    (image,) = (folder / "out").glob("*.image.tar")
    yield Released(tree, folder / "out", image, said.splitlines()[-1])
    shutil.rmtree(folder)


def _boot(share: Path) -> Iterator[Machine]:
    if reason := machines.missing():
        pytest.skip(reason)
    try:
        machines.fill_share(share)
        with machines.booted(share) as machine:
            yield machine
    except machines.MachineError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """A booted machine, shared by the tests of a session."""
    yield from _boot(tmp_path_factory.mktemp("share"))


@pytest.fixture
def fresh_machine(tmp_path: Path) -> Iterator[Machine]:
    """A machine of the test's own, as Debian left it."""
    yield from _boot(tmp_path)


@dataclass(frozen=True)
class Installed:
    """What the installation printed, and how it left the machine."""

    printed: str
    state: str
    enabled: str
    health: str
    modes: str


@pytest.fixture(scope="session")
def installed(machine: Machine) -> Installed:
    done = machine.run(INSTALL)
    return Installed(
        printed=done.stdout + done.stderr,
        state=machine.property("ActiveState"),
        enabled=machine.output("systemctl is-enabled premblyd.service premblyd.socket"),
        health=machine.output("curl -sf http://127.0.0.1:8080/healthz"),
        modes=machine.output(
            f"stat -c '%a %U:%G %n' /etc/premblyd {CONFIG} /etc/premblyd/credentials {KEY}"
            f" /var/lib/premblyd {DATABASE} {DATABASE}-wal"
        ),
    )


@pytest.fixture
def service(machine: Machine, installed: Installed) -> Iterator[Machine]:
    """The installed service, with no action."""
    configure(machine)
    machine.run("systemctl start premblyd.socket && systemctl restart premblyd")
    yield machine
    # A hook that still runs should not hold up the next test.
    machine.run("rm -rf /run/systemd/system/premblyd.service.d && systemctl daemon-reload")
    machine.run("systemctl kill --signal=KILL --kill-whom=all premblyd", check=False)


@pytest.fixture
def load_of(service: Machine) -> Iterator[Any]:
    started: list[Load] = []

    def begin(prefix: str, **options: Any) -> Load:
        started.append(Load(service, prefix, **options))
        return started[-1]

    yield begin
    for load in started:
        load.abandon()


@pytest.fixture(scope="session")
def people(machine: Machine, installed: Installed) -> None:
    machine.run("useradd --create-home ada && usermod -aG premblyd ada && useradd bob")
