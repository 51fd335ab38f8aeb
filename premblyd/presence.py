"""What a running daemon says of itself, in a file beside the database: for `check` and `send`.

It names no secret. Of each there is a salted fingerprint of 16 bits: enough to see that it was
changed, too little to confirm a guess.
"""

import dataclasses
import hashlib
import hmac
import json
import os
import secrets
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from premblyd import __version__
from premblyd.config.models import Config
from premblyd.config.secrets import Secret
from premblyd.config.values import Listen
from premblyd.databases import Place, Server
from premblyd.errors import PremblydError
from premblyd.listening import Listening, addresses_of
from premblyd.procfs import process_start

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
    digest: str
    listen: list[str]
    has_passed_sockets: bool  # systemd's, which win over `listen`
    console: str | None  # where the console listens
    is_service: bool
    salt: str
    fingerprints: dict[str, str]  # of secrets, by their place


def of_this_process(
    settings: Config,
    path: Path,
    *,
    started_at_ms: int,
    listening: Listening,
    console: str | None = None,
) -> Presence:
    """Return this process's presence: a daemon with `settings` from the file at `path`."""
    salt = secrets.token_hex(16)
    return Presence(
        pid=os.getpid(),
        process_start=process_start(os.getpid()) or 0,
        started_at_ms=started_at_ms,
        version=__version__,
        configuration=str(path.absolute()),
        digest=settings.digest,
        listen=listening.addresses,
        has_passed_sockets=listening.is_passed,
        console=console,
        is_service="NOTIFY_SOCKET" in os.environ,
        salt=salt,
        fingerprints={
            place: _fingerprint(salt, secret) for place, secret in settings.secrets.items()
        },
    )


def publish(presence: Presence, database: Place) -> None:
    """Write the file, whole or not at all. Raise OSError when it can't be."""
    path = _file(database, Path(presence.configuration))
    new = path.with_name(f"{path.name}.new")
    new.unlink(missing_ok=True)
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)
    with open(descriptor, "w", encoding="utf-8") as file:
        json.dump(dataclasses.asdict(presence), file)
    new.replace(path)


def withdraw(database: Place, configuration: Path) -> None:
    """Remove the file: the daemon stops. Raise OSError when it can't be."""
    _file(database, configuration).unlink(missing_ok=True)


def find(database: Place, configuration: Path) -> Presence | None:
    """Return the daemon that runs on this database; None if none does on this machine, even where
    a killed daemon has left its file. Of several on a server it is the one with this
    configuration, if that one runs. Raise PresenceError when a file can't be read."""
    own = _files(database, configuration)
    found = (_read(path) for path in (*own, *_others(database, own)))
    return next((presence for presence in found if presence is not None), None)


def _read(path: Path) -> Presence | None:
    """Return the daemon whose file this is; None if it does not run any more."""
    try:
        presence = Presence(**json.loads(path.read_bytes()))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise PresenceError(f"can't read {path}: {error.strerror}") from None
    except (ValueError, TypeError):  # another version wrote it
        raise PresenceError(f"can't read {path}: not as this version writes it") from None
    runs = process_start(presence.pid) == presence.process_start
    return presence if runs else None


def differences(presence: Presence, settings: Config, path: Path) -> Iterator[str]:
    """Yield how the running daemon differs from `settings`, read from `path`, each with what
    mends it."""
    daemon = f"the running daemon (pid {presence.pid})"
    if presence.configuration != str(path.absolute()):
        yield f"{daemon} reads {presence.configuration}, not this file"
        return
    if presence.version != __version__:
        yield f"{daemon} is version {presence.version}, this is {__version__}: {_restart(presence)}"
    elif presence.digest != settings.digest and not _is_reloading(presence):
        yield f"{daemon} uses an older configuration: {_reload(presence)}"
    for place, secret in settings.secrets.items():
        if place not in presence.fingerprints:  # the digests differ too
            continue
        is_in_reload = secret.source == "text" and _is_reloading(presence)
        if not is_in_reload and (difference := other_secret(presence, place, secret)):
            yield difference
    if not _listens(presence, settings.listen):
        how = _restart(presence)
        if presence.has_passed_sockets:
            how = "systemd's socket wins, change it with `sudo systemctl edit premblyd.socket`"
        where = ", ".join(presence.listen)
        yield f"{daemon} listens on {where}, while `listen` says {settings.listen}: {how}"


def other_secret(presence: Presence, place: str, secret: Secret) -> str | None:
    """Return that the daemon has another secret at `place`, or none, with what mends it; None if
    it has this one."""
    published = presence.fingerprints.get(place)
    if published == _fingerprint(presence.salt, secret):
        return None
    daemon = f"the running daemon (pid {presence.pid})"
    if published is None:
        return f"{daemon} has nothing yet at {place}: {_reload(presence)}"
    what = "key" if place.startswith("endpoint ") else "secret"
    return f"{daemon} uses another {what} for {place}: {_remedy(presence, secret)}"


def _listens(presence: Presence, where: Listen) -> bool:
    if not where.unix_path and not where.port:
        return True  # any port will do
    return not addresses_of(where).isdisjoint(presence.listen)


def _remedy(presence: Presence, secret: Secret) -> str:
    """Return what makes the daemon use a secret's new value. systemd copies secret files when it
    starts the service, and a process keeps its environment."""
    is_copied = secret.source.startswith("env:") or presence.is_service
    return _restart(presence) if secret.source != "text" and is_copied else _reload(presence)


def _reload(presence: Presence) -> str:
    if presence.is_service:
        return "`sudo systemctl reload premblyd`"
    return f"make it read the file with `kill -HUP {presence.pid}`"


def _restart(presence: Presence) -> str:
    return "`sudo systemctl restart premblyd`" if presence.is_service else "restart it"


def _is_reloading(presence: Presence) -> bool:
    """Return whether this is the check with which systemd's ExecReload= begins."""
    return os.environ.get("MAINPID") == str(presence.pid)


def _fingerprint(salt: str, secret: Secret) -> str:
    value = secret.reveal().encode()
    return hmac.digest(bytes.fromhex(salt), value, "sha256")[:FINGERPRINT_BYTES].hex()


def _files(database: Place, configuration: Path) -> list[Path]:
    """Return where the daemon may have its file: beside the database. Of one on a server there is
    no folder: a service has the one that systemd made for it, others have their user's."""
    if isinstance(database, Path):
        return [database.with_name(f"{database.name}.running")]
    # Several daemons of this machine may share the server, each with a configuration of its own.
    name = f"{_server_prefix(database)}{_digest(str(configuration.resolve()))}.running"
    named = [os.environ.get(variable) for variable in ("RUNTIME_DIRECTORY", "XDG_RUNTIME_DIR")]
    folders = dict.fromkeys([*(Path(folder) for folder in named if folder), SERVICE_FOLDER])
    own = Path(tempfile.gettempdir()) / f"premblyd-{os.geteuid()}"  # nobody else can write there
    return [folder / name for folder in (*folders, own)]


def _others(database: Place, own: Sequence[Path]) -> Iterator[Path]:
    """Yield where other daemons of this machine have theirs that share the server."""
    if isinstance(database, Path):
        return
    for path in own:
        found = sorted(path.parent.glob(f"{_server_prefix(database)}*.running"))
        yield from (other for other in found if other != path)


def _server_prefix(server: Server) -> str:
    return f"premblyd-{_digest(server.url)}-"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:16]


def _file(database: Place, configuration: Path) -> Path:
    """Return where this daemon has its file: in the first folder that it may write."""
    *files, own = _files(database, configuration)
    if not files:
        return own
    for path in files:
        if os.access(path.parent, os.W_OK | os.X_OK):
            return path
    own.parent.mkdir(mode=0o700, exist_ok=True)
    return own
