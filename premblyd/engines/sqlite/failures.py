"""What SQLite says of a failure, in the store's own errors and in words for people."""

import contextlib
import sqlite3
from collections.abc import Iterator

from peewee import PeeweeException

from premblyd.errors import StoreUnavailableError


@contextlib.contextmanager
def translated(
    to: type[StoreUnavailableError] = StoreUnavailableError,
) -> Iterator[None]:
    """Turn a database's failure into a StoreUnavailableError. SQLite's texts hold no values."""
    try:
        yield
    except (PeeweeException, sqlite3.Error) as error:
        raise to(plain(error)) from None


def plain(error: BaseException) -> str:
    """Return what went wrong, in words for people."""
    while "no transaction is active" in str(error) and error.__context__:
        # On a full disk SQLite has rolled back already, and Peewee's own attempt hides why.
        error = error.__context__
    return _PLAIN.get(str(error), str(error))


_PLAIN = {
    "database or disk is full": "the disk is full; make room (`df -h` shows where), then again",
    "disk I/O error": "the disk failed (disk I/O error); `journalctl -k` says more",
    "attempt to write a readonly database": "the database or its disk is read-only",
    "unable to open database file": (
        "unable to open the database file: its folder may be read-only or closed to this user"
    ),
}
