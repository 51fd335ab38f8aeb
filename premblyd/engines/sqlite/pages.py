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
from typing import BinaryIO, NamedTuple

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


class _Pages:
    """The pages that a transaction sees: of the table sqlite_dbpage; of an SQLite that was built
    without it, of all of them in memory."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        """Raise PremblydError when they are too many for the memory."""
        self._connection = connection
        (self.page_bytes,) = connection.execute("PRAGMA page_size").fetchone()
        (self.count,) = connection.execute("PRAGMA page_count").fetchone()
        self._whole = None if can_clear(connection) else self._in_memory()

    def page(self, number: int) -> bytes:
        """Return one of them. The first has the number 1."""
        if self._whole is not None:
            return bytes(self._whole[(number - 1) * self.page_bytes : number * self.page_bytes])
        (page,) = self._connection.execute(_PAGE, (number,)).fetchone()
        return bytes(page)

    def all(self) -> Iterator[bytes]:
        """Yield all of them in their order."""
        if self._whole is not None:
            yield from map(self.page, range(1, self.count + 1))
            return
        unused = LOCKED_BYTE // self.page_bytes + 1  # of this number is no page that can be read
        for number, page in self._connection.execute(_PAGES, (unused,)):
            if number == unused + 1:
                yield bytes(self.page_bytes)
            yield page

    def _in_memory(self) -> memoryview:
        if self.count * self.page_bytes > MAX_IN_MEMORY_BYTES:
            raise PremblydError(
                "This Python's SQLite was built without sqlite_dbpage, so it can copy 1 GB at most:"
                " use that of Debian 13, or copy by VACUUM INTO (docs/database.md)."
            )
        return memoryview(self._connection.serialize())


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
        pages = _Pages(connection)
        total = pages.count * pages.page_bytes
        tell(Copied(bytes=0, total_bytes=total, is_checking=True))
        _require_whole(connection)
        of_keys = _pages_of_keys(connection, pages) if without_keys else set()
        for number, page in enumerate(_cleared(pages, of_keys), 1):
            out.write(_of_no_log(page) if number == 1 else page)
            if number % _TELL_EVERY == 0 or number == pages.count:
                tell(Copied(bytes=number * pages.page_bytes, total_bytes=total))


def _require_whole(connection: sqlite3.Connection) -> None:
    (found,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
    if found != "ok":
        raise DamagedError(
            f"The database is damaged ({found}), so a copy of it would be worth nothing. Put the"
            " newest good copy in its place: `premblyd restore`."
        )


def _pages_of_keys(connection: sqlite3.Connection, pages: _Pages) -> set[int]:
    """Return the pages that have events' keys."""
    row = connection.execute(_ROOT, (withoutkeys.TABLE,)).fetchone()
    return set() if row is None else withoutkeys.pages(pages.page, row[0])


def _cleared(pages: _Pages, of_keys: Container[int]) -> Iterator[bytes]:
    """Yield all pages in their order, without what is left in them of what was deleted or has
    moved, and those of keys without these."""
    can_be_cleared = pages.count < MAX_PAGES
    free = _free_pages(pages)
    for number, page in enumerate(pages.all(), 1):
        if number in of_keys:
            yield withoutkeys.without_keys(page)
        elif number in free.trunks or free.is_leaf[number]:
            yield page[: free.trunks.get(number, 0)].ljust(pages.page_bytes, b"\0")
        elif can_be_cleared and number > 1 and not has_map(number, pages.page_bytes):
            yield cleared(page) or page
        else:
            yield page


class _Free(NamedTuple):
    """The pages that are free. Of `trunks`, how many bytes say anything: which others are."""

    trunks: dict[int, int]
    is_leaf: bytearray  # by a page's number, as there may be millions


def _free_pages(pages: _Pages) -> _Free:
    """Return which pages the file lists as free (the file format's section 1.5). What else is in
    them is what was deleted, in a file that was made before `secure_delete` was on."""
    trunks: dict[int, int] = {}
    is_leaf = bytearray(pages.count + 1)
    trunk = int.from_bytes(pages.page(1)[_FIRST_TRUNK])
    while trunk and trunk not in trunks:
        page = pages.page(trunk)
        following, leaves = struct.unpack_from(">2I", page)
        trunks[trunk] = 8 + 4 * leaves
        for number in struct.unpack_from(f">{leaves}I", page, 8):
            is_leaf[number] = True
        trunk = following
    return _Free(trunks, is_leaf)


def _of_no_log(page: bytes) -> bytes:
    return page[: _VERSIONS.start] + _WITHOUT_LOG + page[_VERSIONS.stop :]
