"""Which SQLite opens a file: Python's own, or SQLCipher's one that has a key. Nothing else knows
the modules, nor that the errors of one are none of the other's."""

import sqlite3
import sys
from collections.abc import Iterable
from typing import Any

from peewee import PeeweeException

from premblyd.ground.errors import CannotStartError

_NAME = "sqlcipher3.dbapi2"
_NO_DATABASE = 26  # SQLITE_NOTADB


def errors(*names: str) -> tuple[type[Exception], ...]:
    """Return the exceptions of these names, such as `Error`, of each module that is in use."""
    cipher = sys.modules.get(_NAME)
    modules = [sqlite3] if cipher is None else [sqlite3, cipher]
    return tuple(getattr(module, name) for module in modules for name in names)


def failures() -> tuple[type[Exception], ...]:
    """Return every error of a database in a file, Peewee's too."""
    return (*errors("Error"), PeeweeException)


def connect(uri: str, keys: Iterable[str] | None = None, **options: Any) -> sqlite3.Connection:
    """Return a connection to the file that `uri` names: with `keys`, an encrypted one, by that
    which opens it. Raise NotOpenedError when none does."""
    module = sqlite3 if keys is None else _sqlcipher()
    for key in [None] if keys is None else keys:
        connection: sqlite3.Connection = module.connect(uri, uri=True, **options)
        try:
            if key is not None:
                _unlock(connection, key)
            connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        except UnicodeDecodeError:  # of what SQLite says of a damaged schema
            connection.close()
            raise module.DatabaseError("database disk image is malformed") from None
        except module.DatabaseError as error:
            connection.close()
            if getattr(error, "sqlite_errorcode", None) != _NO_DATABASE:
                raise
        else:
            return connection
    raise NotOpenedError


def connect_plain(uri: str) -> sqlite3.Connection:
    """Return a connection to a file that is not encrypted, for `encrypt`."""
    connection: sqlite3.Connection = _sqlcipher().connect(uri, uri=True, isolation_level=None)
    connection.execute("PRAGMA cipher_log_level = NONE")
    return connection


def encrypt(plain: sqlite3.Connection, uri: str, key: str) -> None:
    """Write what is in `plain` into the empty file that `uri` names."""
    plain.execute("ATTACH ? AS encrypted KEY ?", (uri, f"x'{key}'"))
    plain.execute("SELECT sqlcipher_export('encrypted')")
    plain.execute("DETACH encrypted")


def require_library() -> None:
    """Raise CannotStartError when SQLCipher is not installed."""
    _sqlcipher()


class NotOpenedError(CannotStartError):
    """The file is no database, or encrypted with another key, or not encrypted."""


def _unlock(connection: Any, key: str) -> None:
    connection.execute("PRAGMA cipher_log_level = NONE")  # it writes to standard error
    connection.set_key(f"x'{key}'")  # in no statement, which might be traced


def _sqlcipher() -> Any:
    try:
        from sqlcipher3 import dbapi2
    except ImportError:
        raise CannotStartError(
            "`encryption` needs the library sqlcipher3: run install.sh --with encryption (with"
            " `encryption` out of the configuration, if the record is not encrypted yet); without"
            " systemd, pip install '.[encryption]' in a checkout."
        ) from None
    return dbapi2
