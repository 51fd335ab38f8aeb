"""The database's file and those beside it: where they are, who may read them, how they are put
aside. SQLite takes what it finds beside a file for a part of it. What a replaced or overwritten
database leaves is kept: its file, which may have no name any more, and its log, which must not be
applied to another file."""

import contextlib
import fcntl
import os
import shutil
import struct
from pathlib import Path
from typing import BinaryIO

from premblyd import times
from premblyd.occurrences import StoreFileReplaced, StoreLogSetAside
from premblyd.telemetry import tell

# A record is its file with all of these: what is in the log, or in a journal, is nowhere else.
SUFFIXES = ("", "-wal", "-shm", "-journal")
MODE = 0o640
_CHUNK_BYTES = 1 << 20
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


def write_copy(source: BinaryIO, path: Path) -> None:
    """Write a new file with the bytes of another, onto the disk."""
    source.seek(0)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, MODE)
    with open(descriptor, "wb") as target:
        shutil.copyfileobj(source, target, _CHUNK_BYTES)
        target.flush()
        os.fsync(descriptor)


def restrict(path: Path) -> None:
    """Create the file, or take away what goes beyond 0640. SQLite gives its other files the
    same mode."""
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, MODE))
    mode = path.stat().st_mode & 0o777
    if mode & ~MODE:
        path.chmod(mode & MODE)


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


def sync_folder(folder: Path) -> None:
    """Have on the disk which names a folder has."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


LOGS = ("-wal", "-shm")
_SHARED = (0x40000002, 510)  # the bytes that SQLite locks for as long as it has a file open


def tell_where(descriptor: int) -> None:
    """Tell where a file is that has another name now."""
    tell(StoreFileReplaced(kept=os.readlink(f"/proc/self/fd/{descriptor}")))


def keep_file(descriptor: int, real: Path, *, with_log: bool) -> None:
    """Copy an open file that was at `real` into a folder there, and move its log along."""
    try:
        aside = _made_aside(real)
        with open(descriptor, "rb", closefd=False) as file:
            write_copy(file, aside / real.name)
        if with_log:
            move_into(aside, real, LOGS)
        sync_folder(aside)
    except OSError as error:
        tell(StoreFileReplaced(kept=None, reason=error.strerror))
    else:
        tell(StoreFileReplaced(kept=str(aside)))


def set_log_aside(real: Path) -> None:
    """Move the log beside a file into a folder: it belongs to another file."""
    aside = _made_aside(real)
    move_into(aside, real, LOGS)
    sync_folder(real.parent)
    tell(StoreLogSetAside(kept=str(aside)))


def forbid_checkpoint(descriptor: int) -> None:
    """Keep SQLite from bringing the log into an overwritten file when it closes that: what another
    program has put there may be good. It holds until the descriptor is closed."""
    start, count = _SHARED
    lock = struct.pack("hhqqi0q", fcntl.F_RDLCK, os.SEEK_SET, start, count, 0)
    with contextlib.suppress(OSError):
        fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, lock)


def has_log(real: Path) -> bool:
    """Return whether a log is there that holds anything."""
    with contextlib.suppress(FileNotFoundError):
        return beside(real, "-wal").stat().st_size > 0
    return False


def _made_aside(real: Path) -> Path:
    aside = unused_aside(real)
    aside.mkdir(mode=0o750)
    return aside
