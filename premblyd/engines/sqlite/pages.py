"""A copy of the database, page by page, as it is at one moment, while others write to it.

The pages are those that a transaction sees that only reads: who writes does not wait for it. They
go where they are wanted and into no file on the way, so that a copy that is sealed is nowhere in
clear. (VACUUM INTO and the backup API write such a file, in no less time.) What was deleted, and
what rows have left where they were before (see residue.py), is cleared on the way; and so are the
keys of events, if the copy is to have none (see withoutkeys.py).
"""

import sqlite3
import struct
from collections.abc import Callable, Container, Iterator
from typing import BinaryIO

from premblyd.engines.besides import Copied
from premblyd.engines.engine import Database
from premblyd.engines.sqlite import withoutkeys
from premblyd.engines.sqlite.residue import LOCKED_BYTE, MAX_PAGES, can_clear, cleared, has_map
from premblyd.errors import DamagedError, PremblydError

_PAGE = "SELECT data FROM sqlite_dbpage WHERE pgno = ?"
_ROOT = "SELECT rootpage FROM sqlite_schema WHERE type = 'table' AND name = ?"
_FIRST_TRUNK = slice(32, 36)  # of the list of free pages, in the header
_PAGES = "SELECT pgno, data FROM sqlite_dbpage WHERE pgno <> ?"
_TELL_EVERY = 256  # pages: 1 MB
# Of a SQLite without sqlite_dbpage, which has to have the whole of it in memory.
MAX_IN_MEMORY_BYTES = 1 << 30
# Where the header says which version of SQLite may write and read it; 1: without a log beside it,
# so that who reads a copy makes no files.
_VERSIONS, _WITHOUT_LOG = slice(18, 20), b"\1\1"


def write_copy(
    database: Database,
    out: BinaryIO,
    tell: Callable[[Copied], None],
    *,
    without_keys: bool = False,
) -> None:
    """Write what the database holds now, if it is whole; `without_keys`: but for events' keys.
    Raise DamagedError when it is not."""
    with database.atomic("DEFERRED"):
        connection = database.connection()
        (page_bytes,) = connection.execute("PRAGMA page_size").fetchone()
        (count,) = connection.execute("PRAGMA page_count").fetchone()
        total = count * page_bytes
        tell(Copied(bytes=0, total_bytes=total, is_checking=True))
        _require_whole(connection)
        of_keys = _pages_of_keys(connection) if without_keys else set()
        for number, page in enumerate(_pages(connection, page_bytes, total, of_keys), 1):
            out.write(_of_no_log(page) if number == 1 else page)
            if number % _TELL_EVERY == 0 or number == count:
                tell(Copied(bytes=number * page_bytes, total_bytes=total))


def _require_whole(connection: sqlite3.Connection) -> None:
    (found,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
    if found != "ok":
        raise DamagedError(
            f"The database is damaged ({found}), so a copy of it would be worth nothing. Put the"
            " newest good copy in its place: `premblyd restore`."
        )


def _pages_of_keys(connection: sqlite3.Connection) -> set[int]:
    """Return the pages that have events' keys."""
    row = connection.execute(_ROOT, (withoutkeys.TABLE,)).fetchone()
    if row is None:
        return set()
    if not can_clear(connection):
        raise withoutkeys.CannotLeaveOutError(
            "This Python's SQLite was built without sqlite_dbpage, so it can't leave events' keys"
            " out of a copy: use Debian's. No copy was made."
        )

    def page_of(number: int) -> bytes:
        (page,) = connection.execute(_PAGE, (number,)).fetchone()
        return bytes(page)

    return withoutkeys.pages(page_of, row[0])


def _pages(
    connection: sqlite3.Connection, page_bytes: int, total: int, of_keys: Container[int]
) -> Iterator[bytes]:
    """Yield all pages in their order."""
    if not can_clear(connection):
        yield from _pages_in_memory(connection, page_bytes, total)
        return
    unused = LOCKED_BYTE // page_bytes + 1  # of this number is no page that can be read
    can_be_cleared = total // page_bytes < MAX_PAGES
    used = _used_bytes(connection)
    for number, page in connection.execute(_PAGES, (unused,)):
        if number == unused + 1:
            yield bytes(page_bytes)
        if number in of_keys:
            yield withoutkeys.without_keys(page)
            continue
        if number in used:
            yield page[: used[number]].ljust(page_bytes, b"\0")
            continue
        is_cleared = can_be_cleared and number > 1 and not has_map(number, page_bytes)
        yield (cleared(page) if is_cleared else None) or page


def _used_bytes(connection: sqlite3.Connection) -> dict[int, int]:
    """Return of the free pages how much of each says anything: where those are that the file lists
    as free (the file format's section 1.5). The rest is what was deleted, in a file that was made
    before `secure_delete` was on."""
    used = {}
    (header,) = connection.execute(_PAGE, (1,)).fetchone()
    trunk = int.from_bytes(header[_FIRST_TRUNK])
    while trunk and trunk not in used:
        (page,) = connection.execute(_PAGE, (trunk,)).fetchone()
        following, count = struct.unpack_from(">2I", page)
        used[trunk] = 8 + 4 * count
        used.update(dict.fromkeys(struct.unpack_from(f">{count}I", page, 8), 0))
        trunk = following
    return used


def _pages_in_memory(
    connection: sqlite3.Connection, page_bytes: int, total: int
) -> Iterator[bytes]:
    if total > MAX_IN_MEMORY_BYTES:
        raise PremblydError(
            "This Python's SQLite was built without sqlite_dbpage, so it can copy 1 GB at most: use"
            " Debian's, or copy by VACUUM INTO (docs/database.md)."
        )
    whole = connection.serialize()
    for start in range(0, len(whole), page_bytes):
        yield whole[start : start + page_bytes]


def _of_no_log(page: bytes) -> bytes:
    return page[: _VERSIONS.start] + _WITHOUT_LOG + page[_VERSIONS.stop :]
