"""The locks by which one daemon has a database for itself.

There are two. The one on `premblyd.db.lock` is older, and no reader of the database can take it.
But a file can be removed, and a new one of its name be locked again. So the database's own file is
locked too: that is the same for all who reach it by another path, in another container or mount.
"""

import contextlib
import errno
import fcntl
import os
import struct
from collections.abc import Iterator
from pathlib import Path

from premblyd.engines.sqlite.files import beside, real_path
from premblyd.errors import AlreadyRunningError, CannotStartError, TryAgainError

_BYTE = 1 << 62  # behind all that SQLite locks or stores
_FLOCK = "hhqqi0q"  # fcntl(2): type, whence, start, length, process; padded as C does


@contextlib.contextmanager
def hold(path: Path) -> Iterator[None]:
    """Keep other daemons out for as long as it is entered. Raise AlreadyRunningError when one works
    on the database at `path`, CannotStartError when the file has another name."""
    with contextlib.ExitStack() as held:
        held.callback(os.close, lock(path))
        with contextlib.suppress(FileNotFoundError):
            held.callback(os.close, _lock_file(path))
        yield


def lock(path: Path) -> int:
    """Take the one-daemon lock beside the database at `path` and return its file descriptor; the
    lock lasts until that is closed. Raise AlreadyRunningError when another process has it,
    CannotStartError when the file has another name.

    A record lock needs a descriptor that writes, so only the file's owner can take it, and no
    child inherits it. (Closing any descriptor of the file ends it: nothing else opens the file.)
    """
    real = real_path(path)
    _require_one_name(real)
    name = beside(real, ".lock")
    descriptor = os.open(name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        os.fchmod(descriptor, 0o600)
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Version 0.1 has it by flock(2), for which a reader's descriptor is enough, and mode 0640.
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fcntl.flock(descriptor, fcntl.LOCK_UN)
    except BlockingIOError:
        os.close(descriptor)
        raise _already_running(path, name) from None
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _lock_file(path: Path) -> int:
    """Lock the database's own file and return its descriptor. It is to be closed when nothing in
    this process has the database open any more: that ends all record locks, also SQLite's own.

    It is a lock of the open file (OFD), which does not end when SQLite closes the file.
    """
    real = real_path(path)
    descriptor = os.open(real, os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, _byte(fcntl.F_WRLCK))
    except OSError as error:
        kind, reader = _blocker(descriptor)
        os.close(descriptor)
        if error.errno not in (errno.EAGAIN, errno.EACCES):
            raise
        if kind == fcntl.F_RDLCK:  # whoever may only read it can have such a lock
            who = f"Process {reader}" if reader > 0 else "Another program"
            raise TryAgainError(
                f"{who} has a lock on {real} that no premblyd takes, and keeps the daemon out. End"
                f" it: `lslocks` and `fuser -v {real}` show more."
            ) from None
        raise _already_running(path, real) from None
    return descriptor


def is_held(descriptor: int) -> bool:
    """Return whether a daemon has the database of which this is an open file."""
    return _blocker(descriptor)[0] == fcntl.F_WRLCK


def _blocker(descriptor: int) -> tuple[int, int]:
    """Return the type of lock that stands in the way, F_UNLCK if none does, and whose it is; -1: it
    belongs to an open file."""
    answer = fcntl.fcntl(descriptor, fcntl.F_OFD_GETLK, _byte(fcntl.F_WRLCK))
    kind, _, _, _, pid = struct.unpack(_FLOCK, answer)
    return kind, pid


def _byte(kind: int) -> bytes:
    return struct.pack(_FLOCK, kind, os.SEEK_SET, _BYTE, 1, 0)


def _already_running(path: Path, name: Path) -> AlreadyRunningError:
    return AlreadyRunningError(
        f"Another premblyd uses {path}. Stop it (the service: `sudo systemctl stop premblyd.socket"
        " premblyd.service`), or give this one another `database:`."
        f" `sudo fuser -v {name}` (package psmisc) shows which process it is."
    )


def _require_one_name(real: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        if real.stat().st_nlink > 1:
            raise CannotStartError(
                f"{real} has a second name (a hard link), under which another program would not"
                f" see its log and its lock. Find it with `find / -samefile {real}`, remove it."
            )
