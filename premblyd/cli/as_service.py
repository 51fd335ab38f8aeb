"""What root's commands do to see what the service sees: its keys, its variables, its user.

systemd gives a service keys and variables that nobody else gets (LoadCredential=,
LoadCredentialEncrypted=, Environment=, EnvironmentFile=), and hides from it what root can read.
"""

import contextlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

import click

from premblyd.cli.caller import AS_SERVICE, DEFAULT_CONFIG, actor

# Where install.sh puts every version, and where the Debian package has its own.
INSTALLED = (Path("/opt/premblyd"), Path("/usr/lib/premblyd"))
UNIT, SOCKET = "premblyd.service", "premblyd.socket"
RUNTIME_UNITS = Path("/run/systemd/system")
TIMEOUT_S = 30
_WITH_SOCKET = "socket"
_KEPT = ("TERM", "COLUMNS", "NO_COLOR", "LANG")
# What starts, watches and ends the daemon. All else decides what a process of the service may do
# and see: systemd.exec(5), systemd.resource-control(5).
_OF_DAEMON = re.compile(
    r"Exec(Condition|Start|Stop|Reload)\w*|Type|ExitType|NotifyAccess|Restart\w*|Watchdog\w+"
    r"|Timeout\w+|RemainAfterExit|PIDFile|BusName|Sockets|FileDescriptorStore\w*|Standard\w+"
    r"|SuccessExitStatus|RemoveIPC|RuntimeDirectoryPreserve"
)
# The daemon uses that folder too: it stays when this process ends.
_KEEPS_FOLDER = "RuntimeDirectoryPreserve=yes"
_SEES_DAEMON = "ProtectProc=default"  # it is hidden even from its own user, by PrivateUsers=
# systemd's own exit statuses for what it could not set up: systemd.exec(5).
SET_UP_FAILED = range(200, 246)


def is_for_service(config_path: Path) -> bool:
    """Return whether this is root, checking the installed service's own configuration."""
    return (
        os.geteuid() == 0
        and AS_SERVICE not in os.environ
        and config_path == DEFAULT_CONFIG
        and any(Path(sys.prefix).is_relative_to(place) for place in INSTALLED)
    )


def may_judge(config_path: Path) -> bool:
    """Return whether the daemon of this configuration may open what this process may: not if it is
    the service, and this some other user."""
    return os.geteuid() == 0 or AS_SERVICE in os.environ or not is_managed(config_path)


def has_socket() -> bool:
    """Return whether this runs as the service, which gets the sockets that systemd has."""
    return os.environ.get(AS_SERVICE) == _WITH_SOCKET


def hand_over(
    config_path: Path, stdin: IO[bytes] | None = None, *, sees_daemon: bool = False
) -> None:
    """Where `is_for_service`, let the service's user and sandbox do all of this command, with its
    own options and a file as standard input, and end with its exit status. `sees_daemon`: it may
    look for the daemon's process, which a hook can't."""
    if is_for_service(config_path):
        status = run(_typed_again(click.get_current_context()), stdin, sees_daemon=sees_daemon)
        if status is not None:
            raise SystemExit(status)


def _typed_again(context: click.Context) -> list[str]:
    """Return the command and its options, but for `--config`: it has the service's."""
    options, arguments = [], []
    for parameter in context.command.params:
        value = context.params[str(parameter.name)]
        if value in (None, False) or parameter.name == "config_path":
            continue
        if isinstance(parameter, click.Option):
            options.append(parameter.opts[0] + ("" if value is True else f"={value}"))
        else:
            arguments.append(value if isinstance(value, str) else "-")
    return [str(context.info_name), *options, *(["--", *arguments] if arguments else [])]


def is_managed(config_path: Path) -> bool:
    """Return whether systemd starts the daemon of this configuration, and not a person by hand."""
    return config_path == DEFAULT_CONFIG and Path("/run/systemd/system").is_dir()  # sd_booted(3)


def run(
    arguments: Sequence[str], stdin: IO[bytes] | None = None, *, sees_daemon: bool = False
) -> int | None:
    """Run `premblyd` with `arguments` as the service would start now, in its sandbox, and return
    its exit status; None when there is no such service. `stdin`: what it reads, if not what this
    process does."""
    if _output("systemctl", "show", "--property=LoadState", "--value", UNIT) != "loaded":
        return None
    unit = f"premblyd-check-{os.getpid()}.service"
    # A unit of its own that gets the service's lines as a drop-in. (systemd-run can't set all of
    # them, and would show their values in the list of processes.)
    as_unit = ["systemd-run", "--quiet", "--pipe", "--wait", "--collect", f"--unit={unit}"]
    kept = [f"--setenv={name}={os.environ[name]}" for name in _KEPT if name in os.environ]
    kept.append(f"--setenv=SUDO_USER={actor()}")  # whom the record names, and not the service
    command = [sys.executable, "-m", "premblyd", *arguments]
    cat = _output("systemctl", "cat", UNIT)
    listens = _output("systemctl", "is-active", SOCKET) == "active"
    mark = f"{AS_SERVICE}={_WITH_SOCKET if listens else 1}"
    added = [_KEEPS_FOLDER, *([_SEES_DAEMON] if sees_daemon else [])]
    with _drop_in(unit, [*sandbox(cat), *added]):
        ended = subprocess.run(
            [*as_unit, f"--setenv={mark}", *kept, "--", *command], check=False, stdin=stdin
        )
    if ended.returncode in SET_UP_FAILED:
        print(f"systemd can't start it as the service: journalctl -u {unit}", file=sys.stderr)
        return 78
    return ended.returncode


@contextlib.contextmanager
def _drop_in(unit: str, lines: Sequence[str]) -> Iterator[None]:
    """Have `unit` run with these lines. At the end it is stopped, if it still runs: at Ctrl-C."""
    folder = RUNTIME_UNITS / f"{unit}.d"
    folder.mkdir(parents=True)
    try:
        file = folder / "as-service.conf"
        file.touch(0o600)  # a unit may hold secrets
        file.write_text("\n".join(["[Service]", *lines, ""]))
        yield
    finally:
        _output("systemctl", "stop", unit)
        shutil.rmtree(folder, ignore_errors=True)


def sandbox(cat: str) -> Iterator[str]:
    """Yield the lines of a unit and its drop-ins, as `systemctl cat` prints them, that decide what
    its processes may do and see."""
    section, is_taken, is_continued = "", False, False
    for line in cat.splitlines():
        if not line.strip() or line.lstrip().startswith(("#", ";")):
            continue  # also between the lines of one setting: systemd.syntax(7)
        if not is_continued and line.startswith("["):
            section, is_taken = line.strip(), False
        elif not is_continued:
            key = line.partition("=")[0].strip()
            is_taken = section == "[Service]" and not _OF_DAEMON.fullmatch(key)
        if is_taken:
            yield line
        is_continued = line.endswith("\\")


def _output(*command: str) -> str:
    """Return what `command` prints; nothing when it fails."""
    try:
        ended = subprocess.run(
            command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return ended.stdout.strip() if ended.returncode == 0 else ""
