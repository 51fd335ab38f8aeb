"""Connecting to a file: by Python's own SQLite, or by one that a feature has for encrypted files.
The errors of one are none of the other's."""

import functools
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peewee import PeeweeException

from premblyd.feature import added
from premblyd.ground.errors import CannotStartError

_NO_DATABASE = 26  # SQLITE_NOTADB
MODULES: list[Any] = [sqlite3]  # whose connections there are, and so whose errors


class NotOpenedError(CannotStartError):
    """The file is no database, or encrypted with another key, or not encrypted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cipher:
    """A SQLite for encrypted files. `connect`: opens the file that a URI names, by a key; by None,
    a plain one that is to be encrypted. `encrypt`: writes what is in that into the empty file that
    a URI names, by a key. `require`: raises CannotStartError when it is not installed; so do the
    others. It adds its module to MODULES. `keys`: yields the key in a file, and the next one while
    it is being changed; raises LacksRightsError when this user may not read it, CannotStartError
    when there is none."""

    connect: Callable[..., sqlite3.Connection]
    encrypt: Callable[[sqlite3.Connection, str, str], None]
    require: Callable[[], object]
    keys: Callable[[Path], Iterator[str]]


@functools.cache
def cipher() -> Cipher:
    """Return the SQLite for encrypted files. (What names a key is the feature's that has it.)"""
    found: Cipher = next(added("cipher", "CIPHERS"))
    return found


def errors(*names: str) -> tuple[type[Exception], ...]:
    """Return the exceptions of these names, such as `Error`, of each module that is in use."""
    return tuple(getattr(module, name) for module in MODULES for name in names)


def failures() -> tuple[type[Exception], ...]:
    """Return every error of a database in a file, Peewee's too."""
    return (*errors("Error"), PeeweeException)


def connect(uri: str, keys: Iterable[str] | None = None, **options: Any) -> sqlite3.Connection:
    """Return a connection to the file that `uri` names: with `keys`, an encrypted one, by that
    which opens it. Raise NotOpenedError when none does."""
    for key in [None] if keys is None else keys:
        connection: sqlite3.Connection
        if key is None:
            connection = sqlite3.connect(uri, uri=True, **options)
        else:
            connection = cipher().connect(uri, key, **options)
        try:
            connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        except UnicodeDecodeError:  # of what SQLite says of a damaged schema
            connection.close()
            raise sqlite3.DatabaseError("database disk image is malformed") from None
        except errors("DatabaseError") as error:
            connection.close()
            if getattr(error, "sqlite_errorcode", None) != _NO_DATABASE:
                raise
        else:
            return connection
    raise NotOpenedError
