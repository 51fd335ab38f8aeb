"""The lock by which one daemon has a database for itself."""

import contextlib
import fcntl
import os
from pathlib import Path

from premblyd.errors import AlreadyRunningError, CannotStartError
from premblyd.store.sqlite.files import beside, real_path


def lock(path: Path) -> int:
    """Take the one-daemon lock of the database at `path` and return its file descriptor; the
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
        raise AlreadyRunningError(
            f"Another premblyd uses {path}. Stop it, or give this one another `database:`."
            f" `fuser -v {name}` shows which process it is."
        ) from None
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _require_one_name(real: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        if real.stat().st_nlink > 1:
            raise CannotStartError(
                f"{real} has a second name (a hard link), under which another program would not"
                f" see its log and its lock. Find it with `find / -samefile {real}`, remove it."
            )
