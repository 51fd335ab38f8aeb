"""Boots a Debian with systemd in a container, for tests that need the real thing.

`systemd-nspawn` runs a debootstrapped Debian in mount, PID and network namespaces of its own;
what the tests change is kept in memory and gone when it stops. It has a loopback only.
"""

import contextlib
import fcntl
import hashlib
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.waiting import wait_until

REPOSITORY = Path(__file__).parents[2]
SUITE = os.environ.get("PREMBLYD_MACHINE_SUITE", "trixie")
CACHE = Path(os.environ.get("PREMBLYD_MACHINE_CACHE", "/var/tmp/premblyd-machine"))
# What a minimal server has, and the tools that the tests use in it.
PACKAGES = "ca-certificates,curl,dbus,iproute2,jq,nginx,postgresql,python3,python3-venv,sqlite3"
PACKAGES += ",systemd,systemd-sysv"
WHEEL_PLATFORMS = ("manylinux2014", "manylinux_2_28")
ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LANG": "C.UTF-8",
    "TERM": "dumb",
    # Where the machine finds packages instead of a registry.
    "PIP_NO_INDEX": "1",
    "PIP_FIND_LINKS": "/share/wheels",
    "PIP_DISABLE_PIP_VERSION_CHECK": "1",
}
# Runs in a mount namespace of its own, so the mounts go with the last process.
_BOOT = """
set -eu
mount -t tmpfs -o mode=0755 tmpfs "$RUN"
mkdir "$RUN/changes" "$RUN/work" "$RUN/root"
mount -t overlay -o "lowerdir=$BASE,upperdir=$RUN/changes,workdir=$RUN/work" overlay "$RUN/root"
if ! [ -e /sys/fs/cgroup/cgroup.procs ]; then  # a host with the old cgroups: give it the new
    umount -R /sys/fs/cgroup 2>/dev/null || true
    mount -t cgroup2 cgroup2 /sys/fs/cgroup
fi
mkdir "$CGROUP"
echo $$ >"$CGROUP/cgroup.procs"
exec systemd-nspawn --quiet --boot --register=no --keep-unit --private-network --machine="$NAME" \
    --directory="$RUN/root" --bind="$SHARE:/share" --console=read-only
"""


class MachineError(Exception):
    """A machine can't be made or booted here; the message says why."""


@dataclass(frozen=True)
class Machine:
    """A booted machine. `share` is the folder that it sees as /share."""

    leader: int
    share: Path
    boot_s: float

    def run(
        self,
        command: str,
        *,
        check: bool = True,
        environ: Mapping[str, str] | None = None,
        stdin: str = "",
    ) -> subprocess.CompletedProcess[str]:
        """Run a shell command as root in the machine. With `check`, fail if it fails."""
        with self.start(command, environ=environ) as process:
            try:
                output, errors = process.communicate(stdin)
            except BaseException:  # pytest-timeout's
                process.kill()
                raise
        done = subprocess.CompletedProcess(command, process.returncode, output, errors)
        assert not check or done.returncode == 0, (
            f"{command}: exit {done.returncode}\n{output}\n{errors}"
        )
        return done

    def start(
        self, command: str, *, environ: Mapping[str, str] | None = None
    ) -> subprocess.Popen[str]:
        """Start a shell command in the machine and return at once."""
        variables = {**ENVIRONMENT, **(environ or {})}
        enter = ["nsenter", f"--target={self.leader}", "--all", "--", "env", "-i"]
        enter += [f"{name}={value}" for name, value in variables.items()]
        return subprocess.Popen(
            [*enter, "sh", "-c", f"cd /root && {command}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def output(self, command: str) -> str:
        """Run a shell command and return what it prints, without the last newline."""
        return self.run(command).stdout.rstrip("\n")

    def property(self, name: str, unit: str = "premblyd.service") -> str:
        """Return what `systemctl show` says of a unit's property."""
        return self.output(f"systemctl show --property={name} --value {shlex.quote(unit)}")

    def wait(self, command: str) -> None:
        """Wait until a shell command succeeds."""
        wait_until(lambda: self.run(command, check=False).returncode == 0)


def missing() -> str:
    """Return why no machine can boot here, or nothing."""
    packages = {"systemd-nspawn": "systemd-container", "nsenter": "util-linux"}
    for tool, package in (packages | {"debootstrap": "debootstrap"}).items():
        if not shutil.which(tool):
            return f"booting a machine needs {tool} (apt-get install {package})"
    return ""


@contextlib.contextmanager
def booted(share: Path, suite: str = SUITE, packages: str = PACKAGES) -> Iterator[Machine]:
    """Boot a machine that sees the folder `share` as /share; stop it afterwards.

    Raise MachineError when that can't be done here.
    """
    base = root_folder(suite, packages)
    name = f"premblyd-test-{os.getpid()}-{time.monotonic_ns() % 1_000_000}"
    run = CACHE / name
    run.mkdir()
    log = share / "boot.log"
    places = {"BASE": str(base), "RUN": str(run), "CGROUP": f"/sys/fs/cgroup/{name}"}
    variables = os.environ | places | {"NAME": name, "SHARE": str(share)}
    variables["SYSTEMD_NSPAWN_UNIFIED_HIERARCHY"] = "1"
    started = time.monotonic()
    boot = ["unshare", "--mount", "--propagation", "private", "sh", "-c", _BOOT]
    with log.open("wb") as console:
        given: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stderr": subprocess.STDOUT}
        process = subprocess.Popen(boot, env=variables, stdout=console, **given)
    leader = 0
    try:
        leader = _wait_for_boot(process, log)
        yield Machine(leader, share, time.monotonic() - started)
    finally:
        # The end of a PID namespace's first process ends all others in it.
        leader = leader or _leader(process.pid)
        if leader:
            with contextlib.suppress(ProcessLookupError):
                os.kill(leader, signal.SIGKILL)
        else:
            process.kill()
        process.wait()
        for mount in _cgroup_mounts():
            _remove_cgroup(mount / name)
        run.rmdir()


def _cgroup_mounts() -> list[Path]:
    """Return where this host has the new cgroups: not where the machine's start saw them, if
    the host has the old ones too."""
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    return [Path(where) for _, where, kind, *_ in mounts if kind == "cgroup2"]


def _remove_cgroup(folder: Path) -> None:
    # One whose last process has just ended may still be busy: an empty folder does no harm.
    with contextlib.suppress(OSError):
        for inner in sorted(filter(Path.is_dir, folder.rglob("*")), reverse=True):
            inner.rmdir()
        folder.rmdir()


def _wait_for_boot(process: subprocess.Popen[bytes], log: Path) -> int:
    state = ""
    while process.poll() is None:
        if leader := _leader(process.pid):
            inside = ("nsenter", f"--target={leader}", "--all")
            state = _run(*inside, "systemctl", "is-system-running").stdout.strip()
            if state in ("running", "degraded"):
                return leader
        time.sleep(0.05)
    text = log.read_text(errors="replace")[-3000:]
    raise MachineError(f"the machine did not boot (state {state or 'unknown'}):\n{text}")


def _leader(nspawn: int) -> int:
    """Return the machine's first process, as numbered here; 0 while there is none."""
    try:
        children = Path(f"/proc/{nspawn}/task/{nspawn}/children").read_text().split()
    except OSError:
        return 0
    for child in children:
        with contextlib.suppress(OSError):
            if Path(f"/proc/{child}/comm").read_text() == "systemd\n":
                return int(child)
    return 0


def root_folder(suite: str = SUITE, packages: str = PACKAGES) -> Path:
    """Return the folder of a minimal Debian with `packages`; made on first use and kept."""

    def make(folder: Path) -> None:
        kind = ("--variant=minbase", f"--include={packages}")
        done = _run("debootstrap", *kind, suite, folder, _mirror())
        if done.returncode:
            raise MachineError(f"debootstrap failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
        # Only the test of it pays for its start.
        _run("systemctl", f"--root={folder}", "disable", "postgresql.service")

    return _kept(suite, packages.encode(), make)


def _kept(name: str, made_of: bytes, make: Callable[[Path], None]) -> Path:
    """Return the folder of what is made of this, on first use by whichever process comes first."""
    CACHE.mkdir(parents=True, exist_ok=True)
    folder = CACHE / f"{name}-{hashlib.sha256(made_of).hexdigest()[:8]}"
    with (CACHE / f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            part = CACHE / f"{folder.name}.part"
            shutil.rmtree(part, ignore_errors=True)
            make(part)
            part.rename(folder)
    return folder


def _mirror() -> str:
    """Return the package mirror that this host uses."""
    listed = _run("apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE)")
    sources = [line.split() for line in listed.stdout.splitlines() if line.startswith("http")]
    # Not those of updates, which hold a part of the packages only.
    mirrors = [uri for uri, release in sources if "-" not in release]
    if not mirrors:
        raise MachineError("apt has no mirror to make a machine from")
    return mirrors[0]


def fill_share(share: Path) -> None:
    """Put into `share` what an installation without a network needs: the source tree as a fresh
    clone has it, and the wheels of what it depends on. Raise MachineError when pip can't."""
    copy_source(share / "source")
    requirements = sorted(REPOSITORY.glob("systemd/requirements*.txt"))
    ask = "import sys; print('%d.%d' % sys.version_info[:2])"
    version = _run("chroot", root_folder(), "python3", "-c", ask).stdout.strip()

    def download(folder: Path) -> None:
        done = _run(
            *(sys.executable, "-m", "pip", "download", "--quiet", "--dest", folder),
            *("--only-binary=:all:", "--implementation=cp", f"--python-version={version}"),
            *(f"--platform={name}_{os.uname().machine}" for name in WHEEL_PLATFORMS),
            "--require-hashes",
            *(f"--requirement={path}" for path in requirements),
        )
        if done.returncode:
            raise MachineError(f"pip can't download the wheels: {done.stderr[-2000:]}")

    named = b"".join(path.read_bytes() for path in requirements)
    shutil.copytree(_kept(f"wheels-{version}", named, download), share / "wheels")


def copy_source(target: Path) -> None:
    """Copy the source tree to `target`, as a fresh clone would have it."""
    options = ("-z", "--cached", "--others", "--exclude-standard")
    listed = _run("git", "-C", REPOSITORY, "ls-files", *options)
    for name in filter(None, listed.stdout.split("\0")):
        source = REPOSITORY / name
        if source.is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target / name)


def _run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True)
