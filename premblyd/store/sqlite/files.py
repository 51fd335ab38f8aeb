"""The database's file and those beside it: where they are, who may read them, and the lock with
which one daemon claims them."""

import contextlib
import fcntl
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

from premblyd.ground.errors import AlreadyRunningError, CannotStartError

SUFFIXES = ("", "-wal", "-shm", "-journal")
LOCK = ".lock"  # behind the database's name: which stays when the daemon ends
BEFORE = ".before-"  # behind its name, with a time: what was the database before another was put in
NEW = ".restoring"  # behind its name: what is to be put in its place
REPLACING = ".replacing"  # behind its name: while one is put in the place of one without its log
PART = ".premblyd-backup-"  # begins the name of a copy that is not whole yet
MODE = 0o640
Identity = tuple[int, int]


def real_path(path: Path) -> Path:
    """Return where the file itself is: SQLite puts its other files beside that, not beside a
    symbolic link to it."""
    return Path(os.path.realpath(path))


def beside(real: Path, suffix: str) -> Path:
    """Return the file that SQLite, or we, put beside the database's own."""
    return real.with_name(real.name + suffix)


def identity(path: Path) -> Identity | None:
    """Return which file `path` names now."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def size(path: Path) -> int:
    """Return how many bytes a file has; 0 if there is none, or its size is not known."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


def remove(path: Path) -> None:
    """Delete a database that nobody has open, with what SQLite has put beside it."""
    for suffix in SUFFIXES:
        beside(path, suffix).unlink(missing_ok=True)


def restrict(path: Path) -> None:
    """Create the file, or take away what goes beyond 0640. SQLite gives its other files the
    same mode."""
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, MODE))
    mode = path.stat().st_mode & 0o777
    if mode & ~MODE:
        path.chmod(mode & MODE)


def put_aside(path: Path) -> list[Path]:
    """Return the files that were the database at `path` before others were put in their place, with
    their logs, and what a killed `restore` or `backup -` has left. No erasure reaches them."""
    real = real_path(path)
    before = rf"{re.escape(BEFORE)}\d{{8}}T\d{{6}}"
    name = re.compile(rf"{re.escape(real.name)}({before}|{NEW})(-wal|-journal)?")
    before_all = (file for file in real.parent.glob("*") if name.fullmatch(file.name))
    return sorted([*before_all, *_left_parts(real.parent)])


def _left_parts(folder: Path) -> list[Path]:
    """Return the folders of copies in which nobody works any more: who does has locked `folder`."""
    parts = list(folder.glob(f"{PART}*/"))
    if not parts:
        return []
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:  # or this disk locks no folders, and nobody can tell
        return []
    finally:
        os.close(descriptor)
    return parts


def require_replaced(real: Path) -> None:
    """Raise CannotStartError when another file was being put in the place of the database, and that
    was interrupted: its log may be away."""
    if os.path.lexists(beside(real, REPLACING)):
        raise CannotStartError(
            f"Another file was being put in the place of {real}, and that was interrupted. Finish"
            " it: `premblyd record restore` with the same copy, or any other."
        )


def give_away(path: Path) -> None:
    """Let what root has made here, such as the lock, belong to the owner of its folder: the daemon,
    which is not root."""
    real = real_path(path)
    owner = real.parent.stat()
    if os.geteuid() != 0 or owner.st_uid == 0:
        return
    for suffix in (*SUFFIXES, LOCK):
        file = beside(real, suffix)
        with contextlib.suppress(FileNotFoundError):
            if file.lstat().st_uid == 0:
                os.chown(file, owner.st_uid, owner.st_gid, follow_symlinks=False)


def try_out(path: Path) -> None:
    """Open what `restrict`, `lock` and SQLite would, and make none of it. Raise as these do."""
    real = real_path(path)
    _require_one_name(real)
    with tempfile.TemporaryFile(dir=real.parent):  # SQLite makes files in the folder
        pass
    for suffix in (*SUFFIXES, LOCK):
        with contextlib.suppress(FileNotFoundError):
            os.close(os.open(beside(real, suffix), os.O_RDWR | os.O_CLOEXEC))


@contextlib.contextmanager
def hold(path: Path) -> Iterator[None]:
    """Keep other daemons out for as long as it is entered. Raise AlreadyRunningError when one works
    on the database at `path`, CannotStartError when the file has another name."""
    descriptor = lock(path)
    try:
        yield
    finally:
        os.close(descriptor)


def lock(path: Path) -> int:
    """Take the one-daemon lock beside the database at `path` and return its file descriptor; the
    lock lasts until that is closed. Raise AlreadyRunningError when another process has it,
    CannotStartError when the file has another name.

    A record lock needs a descriptor that writes, so only the file's owner can take it, and no
    child inherits it. (Closing any descriptor of the file ends it: nothing else opens the file.)
    """
    real = real_path(path)
    _require_one_name(real)
    name = beside(real, LOCK)
    descriptor = os.open(name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        os.fchmod(descriptor, 0o600)
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        for unused in _own_names(real):
            unused.unlink()
    except BlockingIOError:
        os.close(descriptor)
        raise AlreadyRunningError(
            f"Another premblyd uses {path}. Stop it (the service: `sudo systemctl stop"
            " premblyd.socket premblyd.service`), or give this one another `database:`."
            f" `sudo fuser -v {name}` (package psmisc) shows which process it is."
        ) from None
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _own_names(real: Path) -> list[Path]:
    """Return the names that the file got to be put aside, where that went no further."""
    return [file for file in put_aside(real) if identity(file) == identity(real)]


def _require_one_name(real: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        if real.stat().st_nlink > 1 + len(_own_names(real)):
            raise CannotStartError(
                f"{real} has a second name (a hard link). A program that uses that name would not"
                f" see its WAL and its lock. Find it with `find / -samefile {real}`, and remove it."
            )
