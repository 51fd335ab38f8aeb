"""What root's commands do to see what the service sees: its keys, its variables, its user.

systemd gives a service keys and variables that nobody else gets (LoadCredential=,
LoadCredentialEncrypted=, Environment=, EnvironmentFile=), and hides from it what root can read.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from premblyd.cli import DEFAULT_CONFIG

INSTALLED = Path("/opt/premblyd")  # where install.sh puts every version
UNIT = "premblyd.service"
TIMEOUT_S = 30
_MARK = "PREMBLYD_AS_SERVICE"  # in the environment of a check that already runs as the service
_KEPT = ("TERM", "COLUMNS", "NO_COLOR", "LANG")
_OBJECT = "/org/freedesktop/systemd1/unit/premblyd_2eservice"
_INTERFACE = "org.freedesktop.systemd1.Service"
# What decides which files, keys and variables the service sees: systemd.exec(5).
_PROPERTIES = (
    "User",
    "Group",
    "ProtectHome",
    "Environment",
    "EnvironmentFiles",
    "PassEnvironment",
    "UnsetEnvironment",
    "LoadCredential",
    "LoadCredentialEncrypted",
    "SetCredential",
    "InaccessiblePaths",
    "BindPaths",
    "BindReadOnlyPaths",
    "TemporaryFileSystem",
)
# systemd's own exit statuses for what it could not set up: systemd.exec(5).
SET_UP_FAILED = range(200, 246)


def is_for_service(config_path: Path) -> bool:
    """Return whether this is root, checking the installed service's own configuration."""
    return (
        os.geteuid() == 0
        and _MARK not in os.environ
        and config_path == DEFAULT_CONFIG
        and Path(sys.prefix).is_relative_to(INSTALLED)
    )


def is_managed(config_path: Path) -> bool:
    """Return whether systemd starts the daemon of this configuration, and not a person by hand."""
    return config_path == DEFAULT_CONFIG and Path("/run/systemd/system").is_dir()  # sd_booted(3)


def run(arguments: Sequence[str], stdin: IO[bytes] | None = None) -> int | None:
    """Run `premblyd` with `arguments` as the service would start now, and return its exit status;
    None when there is no such service. `stdin`: what it reads, if not what this process does."""
    settings = _settings()
    if settings is None:
        return None
    with tempfile.TemporaryDirectory(prefix="premblyd-check-") as folder:  # root's alone
        options = list(_options(settings, Path(folder)))
        kept = [f"--setenv={name}={os.environ[name]}" for name in _KEPT if name in os.environ]
        unit = f"premblyd-check-{os.getpid()}"
        as_unit = ["systemd-run", "--quiet", "--pipe", "--wait", "--collect", f"--unit={unit}"]
        environment = [f"--setenv={_MARK}=1", *kept]
        command = [sys.executable, "-m", "premblyd", *arguments]
        ended = subprocess.run(
            [*as_unit, *environment, *options, "--", *command], check=False, stdin=stdin
        )
    if ended.returncode in SET_UP_FAILED:
        print(f"systemd can't start it as the service: journalctl -u {unit}", file=sys.stderr)
        return 78
    return ended.returncode


def environment_of_running() -> Mapping[str, str]:
    """Return the variables of the running service, the place of its keys among them; this
    process's own when it does not run."""
    shown = _output("systemctl", "show", "--property=MainPID", "--value", UNIT)
    try:
        lines = Path(f"/proc/{int(shown or 0)}/environ").read_bytes().split(b"\0")
    except (OSError, ValueError):
        return os.environ
    pairs = (os.fsdecode(line).partition("=") for line in lines if line)
    return {name: value for name, _, value in pairs}


def _settings() -> dict[str, Any] | None:
    """Return the service's settings as systemd has loaded them, drop-ins and all."""
    if _output("systemctl", "show", "--property=LoadState", "--value", UNIT) != "loaded":
        return None
    properties = ["get-property", "org.freedesktop.systemd1", _OBJECT, _INTERFACE, *_PROPERTIES]
    lines = _output("busctl", "--json=short", *properties).splitlines()
    if len(lines) != len(_PROPERTIES):  # no message bus
        return None
    return {name: json.loads(line)["data"] for name, line in zip(_PROPERTIES, lines, strict=True)}


def _options(settings: Mapping[str, Any], folder: Path) -> Iterator[str]:
    """Yield systemd-run's options for `settings`. Values go into files in `folder`: other users
    can read a program's arguments."""
    for name in ("User", "Group", "ProtectHome"):
        yield f"--property={name}={settings[name]}"
    variables = folder / "environment"
    variables.write_text("".join(f"{_quoted(line)}\n" for line in settings["Environment"]))
    yield f"--property=EnvironmentFile={variables}"
    for path, is_optional in settings["EnvironmentFiles"]:
        yield f"--property=EnvironmentFile={'-' if is_optional else ''}{path}"
    for name in ("PassEnvironment", "UnsetEnvironment", "InaccessiblePaths"):
        for value in settings[name]:
            yield f"--property={name}={value}"
    for name in ("LoadCredential", "LoadCredentialEncrypted"):
        for credential, path in settings[name]:
            yield f"--property={name}={credential}:{path}"
    for number, (credential, value) in enumerate(settings["SetCredential"]):
        file = folder / f"credential-{number}"
        file.write_bytes(bytes(value))
        yield f"--property=LoadCredential={credential}:{file}"
    for name in ("BindPaths", "BindReadOnlyPaths"):
        for source, target, is_optional, _ in settings[name]:
            yield f"--property={name}={'-' if is_optional else ''}{source}:{target}"
    for path, options in settings["TemporaryFileSystem"]:
        yield f"--property=TemporaryFileSystem={path}:{options}"


def _quoted(assignment: str) -> str:
    """Return `NAME=value` as a line of an environment file."""
    name, _, value = assignment.partition("=")
    for special in '\\"$`':
        value = value.replace(special, f"\\{special}")
    return f'{name}="{value}"'


def _output(*command: str) -> str:
    """Return what `command` prints; nothing when it fails."""
    try:
        ended = subprocess.run(
            command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return ended.stdout.strip() if ended.returncode == 0 else ""
