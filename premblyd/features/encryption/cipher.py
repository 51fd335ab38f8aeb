"""SQLCipher's SQLite. Nothing else knows its module."""

import contextlib
import sqlite3
from typing import Any

from premblyd.features.encryption.keys import keys_in
from premblyd.ground.errors import CannotStartError
from premblyd.store.sqlite.connecting import MODULES, Cipher


def connect(uri: str, key: str | None, **options: Any) -> sqlite3.Connection:
    """Return a connection to the file that `uri` names, by a key, which may be wrong; without one,
    to a file that is not encrypted."""
    connection: sqlite3.Connection = _sqlcipher().connect(uri, uri=True, **options)
    with contextlib.ExitStack() as failing:
        failing.callback(connection.close)
        connection.execute("PRAGMA cipher_log_level = NONE")  # it writes to standard error
        if key is not None:
            connection.set_key(f"x'{key}'")  # type: ignore[attr-defined]  # in no statement, which might be traced
        failing.pop_all()
    return connection


def encrypt(plain: sqlite3.Connection, uri: str, key: str) -> None:
    """Write what is in `plain` into the empty file that `uri` names."""
    plain.execute("ATTACH ? AS encrypted KEY ?", (uri, f"x'{key}'"))
    plain.execute("SELECT sqlcipher_export('encrypted')")
    plain.execute("DETACH encrypted")


def _sqlcipher() -> Any:
    try:
        from sqlcipher3 import dbapi2
    except ImportError:
        raise CannotStartError(
            "`encryption` needs the library sqlcipher3: run install.sh --with encryption (with"
            " `encryption` out of the configuration, if the record is not encrypted yet); without"
            " systemd, pip install '.[encryption]' in a checkout."
        ) from None
    if dbapi2 not in MODULES:
        MODULES.append(dbapi2)
    return dbapi2


CIPHERS = (Cipher(connect=connect, encrypt=encrypt, require=_sqlcipher, keys=keys_in),)
