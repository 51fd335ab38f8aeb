"""What a running daemon tells `check` and `send` about itself, in a file beside the database and
another for its configuration.

It names no secret. Of each there is a salted fingerprint of 16 bits: enough to see that it was
changed, too little to confirm a guess.
"""

import contextlib
import dataclasses
import errno
import hashlib
import hmac
import json
import os
import secrets
import stat
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from premblyd import __version__
from premblyd.config import load
from premblyd.config.models import Config
from premblyd.config.secrets import Secret
from premblyd.config.values import Listen
from premblyd.ground.databases import DatabaseAddress, file_of
from premblyd.ground.errors import PremblydError
from premblyd.ground.system import process_start, runs
from premblyd.ground.telemetry import tell
from premblyd.receive.listening import Listening, addresses_of

FINGERPRINT_BYTES = 2
SERVICE_FOLDER = Path("/run/premblyd")  # systemd makes it for the service, and all may look


class PresenceError(PremblydError):
    """The daemon's file can't be read, so it is not known whether one runs."""


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
    salt: str
    fingerprints: dict[str, str]  # of secrets, by their place
    sources: list[str]  # of these: `file:NAME`, `env:NAME`


def of_this_process(
    settings: Config,
    path: Path,
    *,
    started_with: Config,
    started_at_ms: int,
    listening: Listening,
    console: str | None = None,
) -> Presence:
    """Return this process's presence: a daemon with `settings` from the file at `path`, which
    `started_with` those that were there at its start."""
    salt = secrets.token_hex(16)
    in_use = {
        place: secret
        for each, is_of_start in ((settings, False), (started_with, True))
        for place, secret in each.secrets.items()
        if load.is_secret_of_start(place) == is_of_start
    }
    return Presence(
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
        salt=salt,
        fingerprints={place: _fingerprint(salt, secret) for place, secret in in_use.items()},
        sources=sorted({secret.source for secret in in_use.values()}),
    )


def publish(presence: Presence, database: DatabaseAddress) -> None:
    """Write the file, completely or not at all. A failure is logged, and work continues."""
    for path in _own_files(database, Path(presence.configuration)):
        with _failure_told():
            _make_own(path.parent)
            new = path.with_name(f"{path.name}.new")
            new.unlink(missing_ok=True)
            descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)
            with open(descriptor, "w", encoding="utf-8") as file:
                json.dump(dataclasses.asdict(presence), file)
            new.replace(path)


def withdraw(database: DatabaseAddress, configuration: Path) -> None:
    """Remove the file: the daemon stops, whether or not that fails."""
    for path in _own_files(database, configuration):
        with _failure_told():
            _make_own(path.parent)
            path.unlink(missing_ok=True)


@contextlib.contextmanager
def _failure_told() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        tell("daemon.not_published", reason=error.strerror)


def find_configured(configuration: Path) -> Presence | None:
    """Return the daemon of this configuration, whichever database it works on; None if none runs.
    Raise PresenceError when a file can't be read."""
    own = f"*-{_digest(str(configuration.resolve()))}.running"
    found = (_read(path) for folder in _folders() for path in sorted(folder.glob(own)))
    return next((presence for presence in found if presence is not None), None)


def find(database: DatabaseAddress, configuration: Path) -> Presence | None:
    """Return the daemon that runs on this database; None if none does on this machine, even where
    a killed daemon has left its file. Of several on a server it is the one with this
    configuration, if that one runs. Raise PresenceError when a file can't be read."""
    own = _files(database, configuration)
    found = (_read(path) for path in (*own, *_others(database, own)))
    return next((presence for presence in found if presence is not None), None)


def _read(path: Path) -> Presence | None:
    """Return the daemon that wrote this file; None if it does not run any more."""
    if path.parent == _own_folder() and not _is_ours_alone(path.parent):
        return None
    try:
        presence = Presence(**json.loads(path.read_bytes()))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise PresenceError(f"can't read {path}: {error.strerror}") from None
    except (ValueError, TypeError):  # another version wrote it
        raise PresenceError(f"can't read {path}: not as this version writes it") from None
    return presence if runs(presence.pid, presence.process_start) else None


def differences(presence: Presence, settings: Config, path: Path) -> Iterator[str]:
    """Yield how the running daemon differs from `settings`, read from `path`, each with what
    mends it: the same for all, as a restart reads the file too."""
    daemon = f"the running daemon (pid {presence.pid})"
    if presence.configuration != str(path.absolute()):
        yield f"{daemon} reads {presence.configuration}, not this file"
        return
    if presence.has_passed_sockets and not _listens(presence, settings.listen):
        yield (
            f"{daemon} listens on {', '.join(presence.listen)}, while `listen` says"
            f" {settings.listen}: systemd's socket wins, change it with"
            " `sudo systemctl edit premblyd.socket`"
        )
    found = [*_of_start(presence, settings), *_of_file(presence, settings)]
    remedy = _remedy(presence, restart=any(each.needs_restart for each in found))
    yield from (f"{daemon} {each.text}: {remedy}" for each in found)


class _Difference(NamedTuple):
    text: str  # what the daemon does
    needs_restart: bool


def _of_start(presence: Presence, settings: Config) -> Iterator[_Difference]:
    """Yield what is of the daemon's start."""
    if presence.version != __version__:
        yield _Difference(f"is version {presence.version}, this is {__version__}", True)
    if not presence.has_passed_sockets and not _listens(presence, settings.listen):
        where = ", ".join(presence.listen)
        yield _Difference(f"listens on {where}, while `listen` says {settings.listen}", True)
    for key, value in load.at_start(settings).items():
        if key != "listen" and presence.at_start.get(key) != value:
            yield _Difference(f"started with another `{key}`", True)


def _of_file(presence: Presence, settings: Config) -> Iterator[_Difference]:
    """Yield what is of the file and its secrets."""
    if presence.reloadable != load.reloadable(settings):
        yield _Difference("uses an older configuration", False)
    for place, secret in settings.secrets.items():
        is_new = place not in presence.fingerprints and secret.source not in presence.sources
        if difference := _of_secret(presence, place, secret):
            yield difference
        # Of a secret of the start, `_of_start` says that there was none.
        elif (
            is_new
            and not load.is_secret_of_start(place)
            and _needs_restart(presence, place, secret)
        ):
            yield _Difference(f"may not have {secret.source} yet, for {place}", True)


def _of_secret(presence: Presence, place: str, secret: Secret) -> _Difference | None:
    """Return that the daemon has another secret at `place`; None if it has this one, or none."""
    known = presence.fingerprints.get(place)
    if known is None or known == _fingerprint(presence.salt, secret):
        return None
    # What stands in the file itself, such as most URLs, is no secret.
    kind = "value" if secret.source == "text" else "secret"
    kind = "key" if place.startswith("endpoint ") else kind
    return _Difference(f"uses another {kind} for {place}", _needs_restart(presence, place, secret))


def frees(presence: Presence, where: Listen) -> bool:
    """Return whether the daemon has what is at `where` itself, and leaves it when it stops."""
    end = str(where) if where.unix_path else f":{where.port}"
    return any(each.endswith(end) for each in (*presence.listen, presence.console) if each)


def _listens(presence: Presence, where: Listen) -> bool:
    if not where.unix_path and not where.port:
        return True  # any port will do
    return not addresses_of(where).isdisjoint(presence.listen)


def _needs_restart(presence: Presence, place: str, secret: Secret) -> bool:
    """Return whether a restart makes the daemon use a secret's new value. systemd copies secret
    files when it starts the service, and a process keeps its environment."""
    if load.is_secret_of_start(place):
        return True
    is_copied = secret.source.startswith("env:") or presence.is_service
    return secret.source != "text" and is_copied


def _remedy(presence: Presence, *, restart: bool) -> str:
    if presence.is_service:
        return f"`sudo systemctl {'restart' if restart else 'reload'} premblyd`"
    return "restart it" if restart else f"make it read the file with `kill -HUP {presence.pid}`"


def _fingerprint(salt: str, secret: Secret) -> str:
    value = secret.reveal().encode()
    return hmac.digest(bytes.fromhex(salt), value, "sha256")[:FINGERPRINT_BYTES].hex()


def _files(database: DatabaseAddress, configuration: Path) -> list[Path]:
    """Return where the daemon has its file: beside the database. Of one on a server there is no
    folder: there it is in a folder for what runs."""
    if file := file_of(database):
        return [file.with_name(f"{file.name}.running")]
    return [folder / _name(database, configuration) for folder in _folders()]


def _folders() -> list[Path]:
    """Return the folders for what runs: a service has the one that systemd made for it, others have
    their user's."""
    named = [os.environ.get(variable) for variable in ("RUNTIME_DIRECTORY", "XDG_RUNTIME_DIR")]
    folders = dict.fromkeys([*(Path(folder) for folder in named if folder), SERVICE_FOLDER])
    return [*folders, _own_folder()]


def _name(database: DatabaseAddress, configuration: Path) -> str:
    # Several daemons of this machine may share a server, each with a configuration of its own.
    return f"{_prefix(database)}{_digest(str(configuration.resolve()))}.running"


def _own_folder() -> Path:
    return Path(tempfile.gettempdir()) / f"premblyd-{os.geteuid()}"


def _is_ours_alone(folder: Path) -> bool:
    """Return whether nobody else can write into a folder: in one for all, anybody may have made it
    before us."""
    try:
        found = folder.lstat()
    except OSError:
        return False
    is_closed = stat.S_ISDIR(found.st_mode) and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    return is_closed and found.st_uid == os.geteuid()


def _others(database: DatabaseAddress, own: Sequence[Path]) -> Iterator[Path]:
    """Yield where other daemons of this machine have theirs that share the server."""
    if file_of(database):
        return
    for path in own:
        found = sorted(path.parent.glob(f"{_prefix(database)}*.running"))
        yield from (other for other in found if other != path)


def _prefix(database: DatabaseAddress) -> str:
    return f"premblyd-{_digest(str(database))}-"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:16]


def _own_files(database: DatabaseAddress, configuration: Path) -> Iterator[Path]:
    """Yield where this daemon has its file: beside its database, for all who may read that, and in
    the first folder for what runs that it may write."""
    if file_of(database):
        yield from _files(database, configuration)
    *folders, own = _folders()
    name = _name(database, configuration)
    for folder in folders:
        if os.access(folder, os.W_OK | os.X_OK):
            yield folder / name
            return
    yield own / name


def _make_own(folder: Path) -> None:
    """Make the folder of this user's daemons, if this is it."""
    if folder != _own_folder():
        return
    folder.mkdir(mode=0o700, exist_ok=True)
    if not _is_ours_alone(folder):
        raise PermissionError(errno.EPERM, f"{folder} belongs to another user")
