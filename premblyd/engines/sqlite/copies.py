"""Copies of a database: the one that install.sh makes before an upgrade, and puts back when the new
version fails, and the one that is made before a migration.

Nobody else has the database open meanwhile: the service is stopped.
"""

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from premblyd.engines.sqlite.files import beside, real_path
from premblyd.engines.sqlite.lock import hold
from premblyd.engines.sqlite.restoring import opened, put_in
from premblyd.errors import PremblydError

_Schema = list[tuple[str, str | None]]


class CopyError(PremblydError):
    """The database could not be copied or put back; what was there is as it was."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Restoration:
    """What became of a database after a failed upgrade.

    `events` and `attempts`: what the failed version has added. Where the copy was put back, they
    are only in the folder `aside`.
    """

    is_put_back: bool
    events: int
    attempts: int
    aside: Path | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Contents:
    """A database's schema, and the numbers of its last event and attempt."""

    schema: _Schema
    event: int
    attempt: int


def saved_copy(database: Path) -> Path:
    """Return where the copy of a database is put before an upgrade."""
    return beside(database, ".before-upgrade")


def save(database: Path) -> Path | None:
    """Copy the database and return the copy; None when there is no database yet, and then no copy
    of an earlier one either. Raise CopyError when it can't be copied."""
    copy = saved_copy(database)
    with _as_copy_error("copied"):
        if database.exists():
            clone(database, copy)
            return copy
        copy.unlink(missing_ok=True)
        return None


def restore(database: Path) -> Restoration | None:
    """Put the copy back if the failed version has changed the schema; None when there is no copy.
    Raise CopyError when it can't be put back.

    With the same schema the database stays: what the failed version has done and recorded is true.
    Else the database is put aside with that version's own events and attempts: it has answered
    their webhooks with 200, and they are nowhere else.
    """
    copy = saved_copy(database)
    with _as_copy_error("put back"):
        if not copy.exists():
            return None
        with hold(database):
            now, before = _contents(database), _contents(copy)
            aside = None
            if now.schema != before.schema:
                with opened(copy) as source:
                    aside = put_in(real_path(database), source).aside
    return Restoration(
        is_put_back=now.schema != before.schema,
        events=max(0, now.event - before.event),
        attempts=max(0, now.attempt - before.attempt),
        aside=aside,
    )


def clone(source: Path, target: Path) -> None:
    """Put a whole copy at `target`, for its owner and group alone, or leave what is there."""
    part = target.with_name(f"{target.name}.part")
    _remove(part)
    os.close(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o640))
    try:
        with (
            contextlib.closing(sqlite3.connect(source)) as old,
            contextlib.closing(sqlite3.connect(part)) as new,
        ):
            # backup() itself would wait for ever for somebody else's lock.
            old.execute("BEGIN")
            old.execute("SELECT count(*) FROM sqlite_master").fetchone()
            old.backup(new)  # with what only its write-ahead log holds
        descriptor = os.open(part, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        part.replace(target)
    finally:
        _remove(part)


def _remove(part: Path) -> None:
    """Remove what is there of a copy that was not finished, and its journal, which holds the same
    personal data."""
    for suffix in ("", "-journal"):
        part.with_name(f"{part.name}{suffix}").unlink(missing_ok=True)


def _contents(database: Path) -> _Contents:
    with contextlib.closing(sqlite3.connect(database)) as connection:
        schema = connection.execute("SELECT name, sql FROM sqlite_master").fetchall()
        return _Contents(
            schema=sorted(schema, key=str),
            event=_last_number(connection, "event"),
            attempt=_last_number(connection, "attempt"),
        )


def _last_number(connection: sqlite3.Connection, table: str) -> int:
    try:
        (number,) = connection.execute(f"SELECT max(id) FROM {table}").fetchone()  # noqa: S608
    except sqlite3.OperationalError:  # the failed version has removed it
        return 0
    return number or 0


@contextlib.contextmanager
def _as_copy_error(done: str) -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        raise CopyError(f"The database could not be {done}: {error}") from None
