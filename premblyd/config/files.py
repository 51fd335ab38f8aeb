"""Reading the configuration and its secrets: files of people, who may name a device or a pipe."""

import errno
import os
import stat
from pathlib import Path

from premblyd.errors import PremblydError

MAX_CONFIG_BYTES = 16 << 20  # 20,000 actions take a fifth of that
MAX_SECRET_BYTES = 64 << 10


class UnusableFileError(PremblydError, ValueError):
    """The file is not one to be read here. The text says why, without its name."""


def read_bounded(path: Path, max_bytes: int = MAX_CONFIG_BYTES) -> bytes:
    """Return the bytes of a file that may be a pipe too. Raise OSError when it can't be read,
    UnusableFileError when it is too large."""
    with path.open("rb") as file:
        return _bounded(file.read(max_bytes + 1), max_bytes)


def read_secret_file(path: Path) -> bytes:
    """Return the bytes of a secret's file. Raise OSError when it can't be read, UnusableFileError
    when it is no plain file, which might have no end or never begin, or too large."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    kind = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(kind):
        os.close(descriptor)
        if stat.S_ISDIR(kind):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        raise UnusableFileError("is no plain file")
    with open(descriptor, "rb") as file:
        return _bounded(file.read(MAX_SECRET_BYTES + 1), MAX_SECRET_BYTES)


def _bounded(content: bytes, max_bytes: int) -> bytes:
    if len(content) > max_bytes:
        raise UnusableFileError(f"has more than {max_bytes >> 10:,} KiB")
    return content
