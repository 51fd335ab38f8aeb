"""A database written into a new file beside it, encrypted, or by another key."""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from premblyd.features.encryption import cipher
from premblyd.ground.errors import PremblydError
from premblyd.store.sqlite.connecting import connect
from premblyd.store.sqlite.files import NEW, beside, lacking_room, remove, restrict, size
from premblyd.store.sqlite.replacing import keep_others_out
from premblyd.store.sqlite.taking import Watch, what_is_wrong, write

UNCHANGED = "Nothing was changed."
# Without what SQLite keeps for its planner.
_SCHEMA = (
    "SELECT type, name, tbl_name, sql FROM sqlite_schema WHERE name NOT LIKE 'sqlite\\_stat%'"
    " ESCAPE '\\' ORDER BY type, name"
)


@contextmanager
def write_encrypted(real: Path, key: str | None, new_key: str, watch: Watch) -> Iterator[Path]:
    """Write what is in a database that no daemon has into a new file beside it, by a new key. Give
    where: everybody else is kept out of the database until this ends. `key`: of the database; None:
    it is plain. Raise PremblydError when the disk is too small, or the new one differs, an error of
    SQLite's when somebody else has it open."""
    new = beside(real, NEW)
    remove(new)  # what a killed one has left
    restrict(real)
    if told := lacking_room(real.parent, size(real) + size(beside(real, "-wal"))):
        raise PremblydError(f"The disk of {real} is too small: {told}. {UNCHANGED}")
    os.close(os.open(new, os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
    source_uri, uri = f"{real.as_uri()}?mode=rw", f"{new.as_uri()}?mode=rw"
    try:
        with closing(_source(source_uri, key)) as source:
            keep_others_out(source)
            write(source, new, new_key, watch, is_plain=key is None)
            with closing(connect(uri, [new_key])) as target:
                watch("checking", 0, None)
                _require_same(source, target)
            yield new
    finally:
        remove(new)


def _source(uri: str, key: str | None) -> sqlite3.Connection:
    return connect(uri, [key]) if key else cipher.connect(uri, None, isolation_level=None)


def _require_same(source: sqlite3.Connection, target: sqlite3.Connection) -> None:
    found = what_is_wrong(target)
    if found or _content(source) != _content(target):
        raise PremblydError(f"The new file was not whole ({found or 'rows differ'}). {UNCHANGED}")


def _content(database: sqlite3.Connection) -> list[Any]:
    """Return the schema, and how many rows each table has."""
    schema = database.execute(_SCHEMA).fetchall()
    counted = (f'SELECT count(*) FROM "{name}"' for kind, name, *_ in schema if kind == "table")  # noqa: S608
    return [*schema, *(database.execute(count).fetchone() for count in counted)]
