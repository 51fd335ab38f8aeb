"""The container image, as a user without rights runs it by the page: podman's quadlet in a booted
machine with systemd."""

import os
import re
import shutil
from collections.abc import Iterator

import pytest

from tests.support.needs import UnavailableError
from tests.systemd import machine as machines
from tests.systemd.built import Released, page_of, version_of
from tests.systemd.image import PACKAGES, PREPARE, Host
from tests.systemd.test_release import sbom

pytestmark = pytest.mark.release

# However busy the machine is: it has 10 s to answer.
HEALTHY = "until podman healthcheck run premblyd; do sleep 1; done"


@pytest.fixture(scope="module")
def host(released: Released, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """Where the page was followed to the first webhook. What its last two commands print is in
    the user's home, as `printed`."""
    share = tmp_path_factory.mktemp("share")
    share.chmod(0o755)
    shutil.copytree(released.tree / "systemd", share / "premblyd/systemd")
    os.link(released.image, share / released.image.name)
    try:
        with machines.booted(share, packages=PACKAGES) as machine:
            host = Host(machine)
            machine.run(PREPARE)
            host.run("cp -r /share/premblyd . && ln -s /share/*.tar .")
            follow(host)
            yield host
    except machines.MachineError as error:
        raise UnavailableError(str(error)) from None


def follow(host: Host) -> None:
    load, key, start, look = page_of("Podman")
    assert "podman load --input premblyd-*.image.tar\n" in load
    host.run(f"cd premblyd; mv ../*.tar .\n{load}")
    # What is pasted comes by a terminal of the user's own: this pipe is root's.
    host.run(f"cat | {key}", stdin="live_pk_of_a_stranger\n")
    # There is no login here that could end.
    assert start.startswith("loginctl enable-linger\n")
    host.run(start.partition("\n")[2])
    host.run(f"({look}) >printed")


def test_from_the_page_to_the_first_signed_webhook(host: Host) -> None:
    printed = host.run("cat printed")
    assert "200 " in printed
    assert "sample-api" in printed
    assert host.property("Type") == "notify"


def test_it_has_no_rights_and_writes_nowhere_but_to_its_volume(host: Host) -> None:
    inside = "podman exec premblyd sh -c"
    assert host.run(f"{inside} 'id -u; id -g'") == "990\n990\n"
    pid = host.run("podman inspect --format '{{.State.Pid}}' premblyd").strip()
    assert host.run(f"stat -c %U /proc/{pid}") == host.run("id -un"), "nor on the host"
    rights = host.run(f"{inside} 'grep -E \"^(CapEff|CapBnd|NoNewPrivs)\" /proc/self/status'")
    assert rights.split() == ["CapEff:", "0" * 16, "CapBnd:", "0" * 16, "NoNewPrivs:", "1"]
    for folder in ("/", "/etc/premblyd", "/opt/premblyd", "/usr/bin"):
        done = host.done(f"{inside} 'touch {folder}/new'")
        assert done.returncode
        assert "Read-only file system" in done.stderr
    host.run(f"{inside} 'touch /tmp/new /var/lib/premblyd/new'")
    assert host.done(f"{inside} 'command -v pip || python3 -m pip --version'").returncode


def test_its_health_is_asked_for_and_is_bad_where_no_daemon_answers(host: Host) -> None:
    host.run(HEALTHY)
    # By the image alone, as another runtime has it.
    host.run("podman run --detach --name idle --network none localhost/premblyd sleep 1000")
    assert host.done("podman healthcheck run idle").returncode == 1
    host.run("podman rm --force --time 0 idle")


def test_the_record_outlasts_the_container_and_connections_wait_meanwhile(host: Host) -> None:
    before = host.run("podman exec premblyd premblyd events --json")
    container = "podman inspect --format '{{.Id}}' premblyd"
    first = host.run(container)
    healthy = "curl --silent --fail --max-time 200 http://127.0.0.1:8080/healthz"
    host.run(f"systemctl --user restart --no-block premblyd && {healthy}")
    host.run("systemctl --user start premblyd")
    assert host.run(container) != first
    assert host.run("podman exec premblyd premblyd events --json") == before
    host.run(f"kill -KILL $(podman inspect --format '{{{{.State.Pid}}}}' premblyd) && {healthy}")
    host.run("systemctl --user start premblyd")
    assert host.run("podman exec premblyd premblyd events --json") == before


def test_a_wrong_configuration_is_refused_and_one_that_hangs_is_started_anew(host: Host) -> None:
    file = "~/.config/premblyd/premblyd.yaml"
    host.run("systemctl --user reload premblyd")
    host.run(f"cp {file} kept && echo nonsense: 1 >>{file}")
    assert host.done("systemctl --user reload premblyd").returncode, "and the daemon goes on"
    host.run("podman kill --signal=HUP premblyd")
    refused = "systemctl --user show -P StatusText premblyd | grep -q 'configuration was refused'"
    host.run(f"until {refused}; do sleep 1; done")  # what the daemon says reaches systemd
    host.run(f"cat kept >{file}; {HEALTHY}")
    restarts = int(host.property("NRestarts"))
    host.run("kill -STOP $(podman inspect --format '{{.State.Pid}}' premblyd)")
    waiting = f'[ "$(systemctl --user show -P NRestarts premblyd)" -gt {restarts} ]'
    host.run(f"until {waiting}; do sleep 1; done")
    host.run(f"systemctl --user start premblyd; {HEALTHY}")
    host.run(f"echo nonsense: 1 >>{file}")
    assert host.done("systemctl --user restart premblyd").returncode
    # Whoever had connected meanwhile has it started once more; then the address is closed.
    ended, closed = "-q is-failed premblyd.service", "-q is-active premblyd.socket"
    is_over = f"systemctl --user {ended} && ! systemctl --user {closed}"
    host.run(f"until {is_over}; do sleep 1; done")
    assert host.property("ExecMainStatus") == "78"
    host.run(f"cat kept >{file} && systemctl --user start premblyd; {HEALTHY}")
    host.run("systemctl --user is-active premblyd.socket")


def test_its_sbom_names_each_package_that_is_in_it(host: Host, released: Released) -> None:
    inside = "podman run --rm --network none localhost/premblyd"
    debian = host.run(f"{inside} dpkg-query -W -f '${{Package}} ${{Version}}\\n'")
    ask = "import importlib.metadata as m; [print(d.name, d.version) for d in m.distributions()]"
    python = host.run(f"{inside} /opt/premblyd/bin/python -c '{ask}'")
    there = {tuple(line.split()) for line in debian.splitlines()}
    for line in python.splitlines():
        name, version = line.split()
        there.add((re.sub(r"[-_.]+", "-", name.lower()), version))
    parts = sbom(released.image, version_of(released.tree))["components"]
    assert {(part["name"], part["version"]) for part in parts} >= there
    assert len(there) > 100
