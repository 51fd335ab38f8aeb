"""The database's file and those beside it: where they are, who may read them, and how they are put
aside. SQLite takes what it finds beside a file for a part of it."""

import contextlib
import os
import shutil
from pathlib import Path
from typing import BinaryIO

from premblyd import times

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
