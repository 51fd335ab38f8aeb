"""What a running daemon tells commands about itself, in a file: beside its database, or, of one on
a server, in a folder for what runs. It names no secret."""

import contextlib
import dataclasses
import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from premblyd import __version__
from premblyd.config import load
from premblyd.config.models import Config
from premblyd.config.values import Listen
from premblyd.ground.databases import DatabaseAddress, file_of
from premblyd.ground.system import process_start, runs
from premblyd.ground.telemetry import tell
from premblyd.receive.listening import Listening

SERVICE_FOLDER = Path("/run/premblyd")  # systemd makes it for the service, and all may look


@dataclass(frozen=True, slots=True, kw_only=True)
class Presence:
    """A daemon that runs, and what it runs with."""

    pid: int
    process_start: int  # in ticks since boot: tells it from a later process with the same pid
    started_at_ms: int
    version: str
    configuration: str  # the file's absolute path
    database: str
    reloadable: str  # which configuration is in force, apart from what only a start takes up
    at_start: dict[str, str]  # which that was
    listen: list[str]
    has_passed_sockets: bool  # systemd's, which win over `listen`
    console: str | None  # where the console listens
    is_service: bool

    def differences(self, settings: Config, path: Path) -> Iterator[str]:
        """Yield how the daemon differs from `settings`, read from `path`, each with what mends
        it."""
        daemon = f"the running daemon (pid {self.pid})"
        if self.configuration != str(path.absolute()):
            yield f"{daemon} reads {self.configuration}, not this file"
            return
        restart, reload = "restart it", f"`kill -HUP {self.pid}` makes it read the file"
        if self.is_service:
            restart, reload = (f"`sudo systemctl {do} premblyd`" for do in ("restart", "reload"))
        if self.version != __version__:
            yield f"{daemon} is version {self.version}, this is {__version__}: {restart}"
        for key, value in load.at_start(settings).items():
            is_used = key != "listen" or not self.has_passed_sockets
            if is_used and self.at_start.get(key) != value:
                yield f"{daemon} started with another `{key}`: {restart}"
        if self.reloadable != load.reloadable(settings):
            yield f"{daemon} uses an older configuration: {reload}"

    def frees(self, where: Listen) -> bool:
        """Return whether the daemon has what is at `where` itself, and leaves it when it stops."""
        end = str(where) if where.unix_path else f":{where.port}"
        return any(each.endswith(end) for each in (*self.listen, self.console) if each)


def publish(
    settings: Config,
    path: Path,
    *,
    started_with: Config,
    started_at_ms: int,
    listening: Listening,
    console: str | None = None,
) -> None:
    """Tell that this process is a daemon with `settings` from the file at `path`, and with
    `started_with` for what only a start takes up. A failure is logged, and work continues."""
    presence = Presence(
        pid=os.getpid(),
        process_start=process_start(os.getpid()) or 0,
        started_at_ms=started_at_ms,
        version=__version__,
        configuration=str(path.absolute()),
        database=str(started_with.database),
        reloadable=load.reloadable(settings),
        at_start=load.at_start(started_with),
        listen=listening.addresses,
        has_passed_sockets=listening.is_passed,
        console=console,
        is_service="NOTIFY_SOCKET" in os.environ,
    )
    file = _own_file(started_with.database, path)
    new = file.with_name(f"{file.name}.new")
    try:
        new.unlink(missing_ok=True)
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)
        with open(descriptor, "w", encoding="utf-8") as opened:
            json.dump(dataclasses.asdict(presence), opened)
        new.replace(file)
    except OSError as error:
        tell("daemon.not_published", reason=error.strerror)


def withdraw(database: DatabaseAddress, configuration: Path) -> None:
    """Remove the file: the daemon stops, whether or not that fails."""
    with contextlib.suppress(OSError):
        _own_file(database, configuration).unlink()


def find(database: DatabaseAddress, configuration: Path) -> Presence | None:
    """Return the daemon that runs on this database on this machine, of several on a server the one
    with this configuration. None: there is none, even where a killed one has left its file; or its
    file can't be read."""
    for file in _files(database, configuration):
        with contextlib.suppress(OSError, ValueError, TypeError):  # another version wrote it
            presence = Presence(**json.loads(file.read_bytes()))
            if runs(presence.pid, presence.process_start):
                return presence
    return None


def _own_file(database: DatabaseAddress, configuration: Path) -> Path:
    """Return where this daemon has its file: in the first folder that it may write."""
    files = _files(database, configuration)
    return next((file for file in files if os.access(file.parent, os.W_OK)), files[-1])


def _files(database: DatabaseAddress, configuration: Path) -> list[Path]:
    """Return where a daemon may have its file."""
    if file := file_of(database):
        return [file.with_name(f"{file.name}.running")]
    named = (os.environ.get(variable) for variable in ("RUNTIME_DIRECTORY", "XDG_RUNTIME_DIR"))
    # Several daemons of this machine may share a server, each with a configuration of its own.
    digest = hashlib.sha256(os.fsencode(configuration.resolve())).hexdigest()[:16]
    folders = (*map(Path, filter(None, named)), SERVICE_FOLDER)
    return [folder / f"premblyd-{digest}.running" for folder in folders]
