"""The database's file and those beside it: where they are, who may read them, by which locks one
daemon has them for itself, how they are copied and put aside.

SQLite takes what it finds beside a file for a part of it. What a replaced or overwritten database
leaves is kept: its file, which may have no name any more, and its log, which must not be applied to
another file.

There are two locks. The one on `premblyd.db.lock` is older, and no reader of the database can take
it. But a file can be removed, and a new one of its name be locked again. So the database's own file
is locked too: that is the same for all who reach it by another path, in another container or mount.
"""

import contextlib
import errno
import fcntl
import os
import shutil
import sqlite3
import struct
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from premblyd import times
from premblyd.errors import AlreadyRunningError, CannotStartError, TryAgainError
from premblyd.newfile import sync
from premblyd.telemetry import tell

# A record is its file with all of these: what is in the log, or in a journal, is nowhere else.
SUFFIXES = ("", "-wal", "-shm", "-journal")
LOCK = ".lock"  # behind the database's name: which stays when the daemon ends
MODE = 0o640
_CHUNK_BYTES = 1 << 20
KILLED_S = 2.0  # so long a process that a killed daemon was starting may still have its lock
LOOK_S = 0.02
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
    """Return how many bytes a file has; 0 if there is none, or it can't be told."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


def write_copy(source: BinaryIO, path: Path) -> None:
    """Write a new file with the bytes of another, onto the disk."""
    source.seek(0)
    write_new(path, lambda target: shutil.copyfileobj(source, target, _CHUNK_BYTES))


def write_new(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Write a new file, onto the disk."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, MODE)
    with open(descriptor, "wb") as target:
        write(target)
        target.flush()
        os.fsync(descriptor)


def restrict(path: Path) -> None:
    """Create the file, or take away what goes beyond 0640. SQLite gives its other files the
    same mode."""
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, MODE))
    mode = path.stat().st_mode & 0o777
    if mode & ~MODE:
        path.chmod(mode & MODE)


def try_out(path: Path) -> None:
    """Open what `restrict`, `lock` and SQLite would, and make none of it. Raise as these do."""
    real = real_path(path)
    _require_one_name(real)
    with tempfile.TemporaryFile(dir=real.parent):  # SQLite makes files in the folder
        pass
    for suffix in (*SUFFIXES, LOCK):
        with contextlib.suppress(FileNotFoundError):
            os.close(os.open(beside(real, suffix), os.O_RDWR | os.O_CLOEXEC))


def used_beside(path: Path) -> list[Path]:
    """Return the other databases in the folder on which a daemon has worked."""
    real = real_path(path)
    locked = (lock.with_suffix("") for lock in real.parent.glob(f"*{LOCK}"))
    return sorted(file for file in locked if file != real and size(file))


def restoring_folder(real: Path) -> Path:
    """Return the folder that is there while a copy is put in the database's place."""
    return beside(real, ".restoring")


def unused_aside(real: Path) -> Path:
    """Return the name of a folder, which is not there yet, for what is put aside now."""
    stem = f"{real.name}.replaced-{times.for_file_name(times.now_ms())}"
    aside, number = real.with_name(stem), 2
    while os.path.lexists(aside):
        aside, number = real.with_name(f"{stem}-{number}"), number + 1
    return aside


def move_into(folder: Path, real: Path, suffixes: tuple[str, ...] = SUFFIXES) -> bool:
    """Move the files of a record, or some of them, into a folder, by the same names. Return
    whether there were any. Killed meanwhile, it can go on: the database's own file goes first."""
    is_moved = False
    for suffix in suffixes:
        file = beside(real, suffix)
        with contextlib.suppress(FileNotFoundError):
            file.rename(folder / file.name)
            is_moved = True
    return is_moved


def clone(source: Path, target: Path) -> None:
    """Put a whole copy at `target`, for its owner and group alone, or leave what is there."""
    part = target.with_name(f"{target.name}.part")
    _remove_clone(part)
    os.close(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o640))
    try:
        with (
            contextlib.closing(sqlite3.connect(source)) as old,
            contextlib.closing(sqlite3.connect(part)) as new,
        ):
            # backup() itself would wait for ever for somebody else's lock.
            old.execute("BEGIN")
            old.execute("SELECT count(*) FROM sqlite_master").fetchone()
            old.backup(new)  # with what only its write-ahead log holds
        sync(part)
        part.replace(target)
    finally:
        _remove_clone(part)


def _remove_clone(part: Path) -> None:
    """Remove what is there of a copy that was not finished, and its journal, which holds the same
    personal data."""
    for suffix in ("", "-journal"):
        part.with_name(f"{part.name}{suffix}").unlink(missing_ok=True)


LOGS = ("-wal", "-shm")
_SHARED = (0x40000002, 510)  # the bytes that SQLite locks for as long as it has a file open


def tell_where(descriptor: int) -> None:
    """Tell where a file is that has another name now."""
    tell("store.file_replaced", kept=os.readlink(f"/proc/self/fd/{descriptor}"))


def keep_file(descriptor: int, real: Path, *, with_log: bool) -> None:
    """Copy an open file that was at `real` into a folder there, and move its log along."""
    try:
        aside = _made_aside(real)
        with open(descriptor, "rb", closefd=False) as file:
            write_copy(file, aside / real.name)
        if with_log:
            move_into(aside, real, LOGS)
        sync(aside)
    except OSError as error:
        tell("store.file_replaced", kept=None, reason=error.strerror)
    else:
        tell("store.file_replaced", kept=str(aside))


def set_log_aside(real: Path) -> None:
    """Move the log beside a file into a folder: it belongs to another file."""
    aside = _made_aside(real)
    move_into(aside, real, LOGS)
    sync(real.parent)
    tell("store.log_set_aside", kept=str(aside))


def forbid_checkpoint(descriptor: int) -> None:
    """Keep SQLite from bringing the log into an overwritten file when it closes that: what another
    program has put there may be good. It holds until the descriptor is closed."""
    start, count = _SHARED
    lock = struct.pack("hhqqi0q", fcntl.F_RDLCK, os.SEEK_SET, start, count, 0)
    with contextlib.suppress(OSError):
        fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, lock)


def _made_aside(real: Path) -> Path:
    aside = unused_aside(real)
    aside.mkdir(mode=0o750)
    return aside


# Of the bytes in -shm that who reads the log locks (sqlite.org/walformat). Behind them is that of
# everybody who has the database open.
_READ_MARKS = (123, 127)


def readers_of_log(shm: Path) -> tuple[int, ...]:
    """Return the processes that read the log whose index `shm` is, without opening that."""
    try:
        status = shm.stat()
        locks = Path("/proc/locks").read_text()
    except OSError:
        return ()
    own = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
    first, last = _READ_MARKS
    found = {
        int(words[4])
        for words in map(str.split, locks.splitlines())
        if words[5:6] == [own] and words[1] != "->"
        if int(words[6]) <= last and int(words[7].replace("EOF", str(_BYTE))) >= first
    }
    return tuple(sorted(pid for pid in found if pid > 0))


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
    name = beside(real, LOCK)
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

    It is a lock of the open file (OFD), which does not end when SQLite closes the file. A daemon
    that was killed while it started a hook leaves it to that process, until that is the hook's.
    """
    real = real_path(path)
    descriptor = os.open(real, os.O_RDWR | os.O_CLOEXEC)
    try:
        _take(descriptor)
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


def _take(descriptor: int) -> None:
    until_s = time.monotonic() + KILLED_S
    while True:
        try:
            fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, _byte(fcntl.F_WRLCK))
        except OSError:
            if not is_held(descriptor) or time.monotonic() > until_s:
                raise
            time.sleep(LOOK_S)
        else:
            return


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
