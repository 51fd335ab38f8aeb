"""Copies of the record that lie beside it: made before an upgrade, put aside, or made by VACUUM
INTO. What is erased from the record is in them still."""

import contextlib
import json
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from premblyd.engines.besides import OtherCopy, Sought
from premblyd.engines.sqlite.files import SUFFIXES, beside, identity, real_path, size
from premblyd.engines.sqlite.opening import MAGIC, plain
from premblyd.errors import PremblydError

_HOLDING = """
SELECT id FROM event WHERE {column} IN (SELECT value FROM json_each(?))
AND (length(body) > 0 OR reference IS NOT NULL OR user_ref IS NOT NULL)
"""


def copies_with(path: Path, sought: Sought) -> list[OtherCopy]:
    """Return the copies beside the database that hold something of what is sought, and those that
    can't be looked into."""
    copies = (_looked_into(copy, sought) for copy in _copies(real_path(path)))
    return [copy for copy in copies if copy.events != 0]


def delete(copy: OtherCopy) -> None:
    """Delete a copy with its log, and the folder that it was put aside into, if nothing else is in
    it. Raise PremblydError when it can't be."""
    try:
        for suffix in SUFFIXES:
            beside(copy.path, suffix).unlink(missing_ok=True)
    except OSError as error:
        raise PremblydError(f"{copy.path} could not be deleted: {error.strerror}.") from None
    with contextlib.suppress(OSError):  # there is more in it
        if ".replaced-" in copy.path.parent.name:
            copy.path.parent.rmdir()


def _copies(real: Path) -> Iterator[Path]:
    """Yield the databases beside `real`, and in folders that are named after it."""
    own = {identity(beside(real, suffix)) for suffix in SUFFIXES}
    beside_it = [each for each in _entries(real.parent) if each.name.startswith(f"{real.name}.")]
    # No link is followed: root may be told to delete what is found.
    folders = [each for each in beside_it if each.is_dir() and not each.is_symlink()]
    for folder in (real.parent, *folders):
        for file in _entries(folder):
            # The database itself is never opened: to close it would end this process's locks on it.
            is_other = not file.is_symlink() and file.is_file() and identity(file) not in own
            if is_other and _is_database(file):
                yield file


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def _is_database(file: Path) -> bool:
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW)
    except OSError:
        return file.name.endswith(".db")  # somebody else's, perhaps a copy
    try:
        return os.read(descriptor, len(MAGIC)) == MAGIC
    finally:
        os.close(descriptor)


def _looked_into(file: Path, sought: Sought) -> OtherCopy:
    by_column = {
        "key": sought.keys,
        "user_ref": sought.user_refs,
        "reference": sought.references,
        "session_id": sought.sessions,
    }
    mode = "mode=ro" if size(beside(file, "-wal")) else "immutable=1"  # which makes no files
    try:
        with contextlib.closing(sqlite3.connect(f"{file.as_uri()}?{mode}", uri=True)) as copy:
            found = {
                row[0]
                for column, values in by_column.items()
                for row in copy.execute(
                    _HOLDING.format(column=column), [json.dumps(sorted(values))]
                )
            }
    except sqlite3.Error as error:
        if "no such table" in str(error):  # no record of premblyd's
            return OtherCopy(path=file, events=0)
        return OtherCopy(path=file, events=None, problem=plain(error))
    return OtherCopy(path=file, events=len(found))
