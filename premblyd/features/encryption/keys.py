"""The file with the key of an encrypted database: 64 hex digits, and nothing else.

While a key is being changed, the next one is in KEY.new, beside it. What opens the database is its
key: so wherever a change was interrupted, one of the two does.
"""

import contextlib
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

from premblyd.ground.databases import next_key
from premblyd.ground.errors import CannotStartError, LacksRightsError

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
