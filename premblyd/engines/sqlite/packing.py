"""Packing the database of a stopped daemon: SQLite writes its file anew, whole, so that nothing is
left in it of what was deleted, and it gives space back from then on.

It is one transaction of SQLite's own: killed in the middle, the file is as it was. Live it would
hold up webhooks for minutes.
"""

import contextlib
import os
import sqlite3
from pathlib import Path

from premblyd.engines.engine import Database, Inspection, Packed, Room
from premblyd.engines.sqlite.files import beside, real_path, size
from premblyd.engines.sqlite.opening import connect_operator, connect_read_only, translated
from premblyd.engines.sqlite.residue import can_clear
from premblyd.engines.sqlite.space import AUTO_VACUUM, is_marked, mark
from premblyd.errors import PremblydError, TryAgainError


def room(path: Path) -> Room:
    """Return how much of the disk packing needs: the new pages in a temporary file, and again in
    the log, before the old ones are overwritten."""
    real = real_path(path)
    disk = os.statvfs(real.parent)
    needed = 2 * (size(real) + size(beside(real, "-wal")))
    return Room(needed_bytes=needed, free_bytes=disk.f_bavail * disk.f_frsize)


def pack(path: Path) -> Packed:
    """Write the file anew. Who calls holds its lock. Raise TryAgainError when a process reads what
    was there before, StoreUnavailableError when the disk does not allow it."""
    real = real_path(path)
    before_bytes = size(real)
    with contextlib.closing(connect_operator(path)) as database, translated():
        _clear_log(database)
        # SQLite would put its temporary file where there may be no room, or in memory.
        folder = str(real.parent).replace("'", "''")
        database.execute_sql(f"PRAGMA temp_store_directory = '{folder}'")
        database.execute_sql("PRAGMA temp_store = file")
        for name, value in AUTO_VACUUM.items():
            database.execute_sql(f"PRAGMA {name} = {value}")
        database.execute_sql("VACUUM")
        _clear_log(database)
        mark(database.connection())
        _clear_log(database)
    return Packed(before_bytes=before_bytes, after_bytes=size(real))


def _clear_log(database: Database) -> None:
    scrubbed = database.scrub()
    if not scrubbed.is_gone:
        readers = ", ".join(map(str, scrubbed.readers))
        who = f"Process {readers} reads" if readers else "Another program reads"
        raise TryAgainError(
            f"{who} the database, so what was deleted stays in its log. End it, then run the same"
            " again."
        )


def inspect(path: Path) -> Inspection:
    """Return what an operator should know of what the file keeps of what was deleted."""
    if not size(path):
        return Inspection()
    try:
        with contextlib.closing(connect_read_only(path)) as database, translated():
            is_clean = is_marked(database.connection())
            clears = can_clear(database.connection())
    except PremblydError:  # whoever uses it will be told
        return Inspection()
    facts, warnings = [], []
    if not is_clean:
        needed = room(path).needed_bytes / 1_000_000
        warnings.append(
            f"{path} was made by an earlier version: what was deleted may still be in its file, and"
            " the file does not become smaller. Run `premblyd prune --vacuum` once, while the"
            f" daemon is stopped; it needs {needed:,.0f} MB of the disk"
        )
    if not clears:
        facts.append(
            f"This Python's SQLite, {sqlite3.sqlite_version}, was built without sqlite_dbpage: of"
            " who is erased, a name may stay in the file where SQLite moved a row, until `premblyd"
            " prune --vacuum`."
        )
    return Inspection(facts=tuple(facts), warnings=tuple(warnings))
