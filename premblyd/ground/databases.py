"""Which database the record is in, a SQLite file or one on a server; and the file with the key of
an encrypted one: 64 hex digits, and nothing else.

While a key is being changed, the next one is in KEY.new, beside it. What opens the database is its
key: so wherever a change was interrupted, one of the two does.
"""

import contextlib
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from premblyd.ground.errors import CannotStartError, LacksRightsError

MAGIC = b"SQLite format 3\0"  # what a file begins with that is not encrypted


class OnServer:
    """A database on a server. What it needs, the feature knows that has the engine."""

    __slots__ = ()


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


_KEY = re.compile(rb"[0-9a-fA-F]{64}")
# SQLCipher takes other lengths too: as a passphrase, which is a weaker key and a slower one.
_WRONG = (
    "should have exactly 64 hex digits, as `openssl rand -hex 32` prints them. (A new key does not"
    " open what was encrypted with another.)"
)
_MISSING = (
    "If it is the database's, put your copy of it there. Without one the record is lost: move its"
    " files away, and begin anew with `premblyd init --encryption`."
)


def next_key(path: Path) -> Path:
    """Return where the next key is while it is being changed."""
    return path.with_name(f"{path.name}.new")


def read_key(path: Path) -> str:
    """Return the key in the file. Raise LacksRightsError when this user may not read it,
    CannotStartError when there is none."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with open(descriptor, "rb") as file:
            content = file.read(66) or b""  # nothing: of a FIFO
    except PermissionError:
        raise _closed(path) from None
    except OSError as error:
        reason = f"The key file {path} can't be read: {error.strerror}."
        missing = isinstance(error, FileNotFoundError)
        raise CannotStartError(f"{reason} {_MISSING}" if missing else reason) from None
    key = content.removesuffix(b"\n")
    if not _KEY.fullmatch(key):
        raise CannotStartError(f"The key file {path} {_WRONG}")
    return key.decode().lower()


def _closed(path: Path) -> LacksRightsError:
    with contextlib.suppress(OSError):
        status = path.stat()
        if status.st_uid == 0 and not status.st_mode & stat.S_IRGRP:  # put back by root
            return LacksRightsError(
                f"You may not read {path}, the key of the database: it is root's. If the service"
                f" can't read it either: sudo chown premblyd: {path}"
            )
    error = LacksRightsError(f"You may not read {path}, the key of the database. Its owner may.")
    with contextlib.suppress(OSError, KeyError):
        error.by_user = path.owner()
    return error


def keys_in(path: Path) -> Iterator[str]:
    """Yield the key, then the next one, if there is one. Raise as `read_key`."""
    yield read_key(path)
    if os.path.lexists(next_key(path)):
        yield read_key(next_key(path))
