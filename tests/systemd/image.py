"""The container image, and a machine in which a user runs it by podman."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.needs import NO_ROOT, UnavailableError
from tests.systemd import machine as machines
from tests.systemd.machine import Machine

BASE = "localhost/premblyd-test-base"  # what a registry would give
PACKAGES = (
    "ca-certificates,catatonit,crun,curl,dbus,dbus-user-session,iproute2,libpam-systemd,netavark,"
    "passt,podman,systemd,systemd-sysv,uidmap"
)
# No registry and no cgroups are needed; and no more open files than this machine allows.
OPTIONS = (
    f"--build-arg BASE={BASE} --isolation=chroot --network=host --layers=false"
    " --ulimit=nofile=4096:4096 --ulimit=nproc=4096:4096"
)
USER = "ada"
# In a machine that is itself in a container: no controller of cgroups and no keyring to have, and
# rootless podman may mount /proc only where another one can be seen whole.
SETTINGS = "[containers]\\npids_limit=0\\nkeyring=false\\n"
PREPARE = f"""
mount -t tmpfs tmpfs /home && useradd --create-home {USER}
printf '{SETTINGS}' >/etc/containers/containers.conf
mkdir /run/proc && mount -t proc proc /run/proc
systemctl start network-online.target user@$(id -u {USER})
"""


@dataclass(frozen=True)
class Podman:
    """podman on this machine, with images in a folder of its own."""

    environ: dict[str, str]

    def run(self, *command: str | Path, **options: Any) -> str:
        env, out = os.environ | self.environ, subprocess.PIPE
        done = subprocess.run(command, env=env, stdout=out, text=True, check=True, **options)
        return str(done.stdout)


@contextmanager
def podman() -> Iterator[Podman]:
    """Yield a podman that has the base image. Raise UnavailableError where there can be none."""
    if os.geteuid() != 0:
        raise UnavailableError(NO_ROOT)
    if reason := machines.missing():
        raise UnavailableError(reason)
    if not shutil.which("podman"):
        raise UnavailableError("needs podman (apt-get install podman crun)")
    try:
        base = machines.root_folder(packages="ca-certificates")
    except machines.MachineError as error:
        raise UnavailableError(str(error)) from None
    with tempfile.TemporaryDirectory(dir=machines.CACHE) as name:
        storage = Path(name, "storage.conf")
        roots = f'graphroot = "{name}/images"\nrunroot = "{name}/run"\n'
        storage.write_text(f'[storage]\ndriver = "vfs"\n{roots}')
        found = Podman({"CONTAINERS_STORAGE_CONF": str(storage), "BUILD_IMAGE_OPTIONS": OPTIONS})
        _import_base(found, base)
        yield found


def _import_base(podman: Podman, debian: Path) -> None:
    """Make the base image, with how this machine reaches its registry."""
    reached = ("etc/ssl/certs/ca-certificates.crt", "etc/pip.conf")
    ours = [name for name in reached if Path("/", name).exists()]
    pack: list[str | Path] = ["tar", "-c", "-C", debian, "--exclude=./dev/*"]
    pack += [*(f"--exclude=./{name}" for name in ours), ".", "-C", "/", *ours]
    with subprocess.Popen(pack, stdout=subprocess.PIPE) as packing:
        podman.run("podman", "import", "--quiet", "-", BASE, stdin=packing.stdout)
    assert packing.returncode == 0


@dataclass(frozen=True)
class Host:
    """A booted machine, and a user of it who has no rights."""

    machine: Machine

    def run(self, command: str, *, check: bool = True, stdin: str = "") -> str:
        """Run a shell command as the user, and return what it prints."""
        return self.done(command, check=check, stdin=stdin).stdout

    def done(
        self, command: str, *, check: bool = False, stdin: str = ""
    ) -> subprocess.CompletedProcess[str]:
        (self.machine.share / "command").write_text(f"cd\n{command}\n")
        session = 'export XDG_RUNTIME_DIR="/run/user/$(id -u)"; exec bash -eu /share/command'
        return self.machine.run(f"runuser -l {USER} -c '{session}'", check=check, stdin=stdin)

    def property(self, name: str, unit: str = "premblyd.service") -> str:
        return self.run(f"systemctl --user show --property={name} --value {unit}").strip()
