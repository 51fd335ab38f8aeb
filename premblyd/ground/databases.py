"""Which database the record is in: a SQLite file, which may be encrypted, or one on a server."""

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path

from premblyd.ground.times import Clock

MAGIC = b"SQLite format 3\0"  # what a file begins with that is not encrypted


class OnServer:
    """A database on a server. What it needs, the feature knows that has the engine."""

    __slots__ = ()

    def clock(self) -> Clock:
        """Return a clock for a daemon on it."""
        return Clock()


@dataclass(frozen=True, slots=True)
class EncryptedFile:
    """A SQLite database that is encrypted, and the file with its key."""

    path: Path
    key_path: Path

    def __str__(self) -> str:
        return str(self.path)


DatabaseAddress = Path | EncryptedFile | OnServer  # a SQLite database is its file


def file_of(place: DatabaseAddress) -> Path | None:
    """Return the file of a SQLite database; None for one on a server."""
    if isinstance(place, EncryptedFile):
        return place.path
    return place if isinstance(place, Path) else None


def key_of(place: DatabaseAddress) -> Path | None:
    """Return the file with the key of an encrypted database; None: it has none."""
    return place.key_path if isinstance(place, EncryptedFile) else None


def is_plain(path: Path) -> bool | None:
    """Return whether a database is not encrypted; None: there is none, or it is empty. Raise
    OSError when it can't be read."""
    if not path.is_file():  # a FIFO is not opened: that would wait
        return False if path.exists() else None
    begin = _begin(path)
    return begin == MAGIC if begin else None


def _begin(path: Path) -> bytes:
    """Return how a file begins, by a descriptor that is open if this process has one: to close
    another would end the locks that SQLite has on the file."""
    own = path.stat()
    for number in map(int, os.listdir("/proc/self/fd")):
        with contextlib.suppress(OSError):  # it is closed, or only written by
            if os.path.samestat(os.fstat(number), own):
                return os.pread(number, len(MAGIC), 0)
    with path.open("rb") as file:
        return file.read(len(MAGIC))


def next_key(path: Path) -> Path:
    """Return where the next key is while it is being changed."""
    return path.with_name(f"{path.name}.new")
