"""What SQLite leaves in a page of rows that have moved to another one, cleared.

`secure_delete` overwrites what is deleted. But where a full page is split, SQLite copies cells to
the pages beside it, and what was there stays in the free middle of the page: a later deletion
overwrites the row where it is now, and not there. So whatever was written to a page is looked at in
the log, and a middle that has bytes is overwritten with zeros, by the table `sqlite_dbpage`, within
a transaction.

https://www.sqlite.org/fileformat.html has the layout of pages and log.
"""

import contextlib
import os
import sqlite3
import struct
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

_LOG_HEADER_BYTES, _FRAME_HEADER_BYTES = 32, 24
# What a page of this kind has for its header. Others hold no key and no row: tables' inner pages.
_HEADER_BYTES = {2: 12, 10: 8, 13: 8}
_MAX_FRAGMENTS = 60
_FRAMES_AT_ONCE = 64
# With more pages, a page of another kind may begin as one of these does: 137 GB of 4 KB each.
_MAX_PAGES = 1 << 25
_READ = "SELECT data FROM sqlite_dbpage WHERE pgno = ?"
_WRITE = "UPDATE sqlite_dbpage SET data = ? WHERE pgno = ?"


class _Middle(NamedTuple):
    """The free bytes between a page's pointers and its cells."""

    start: int
    end: int


def _middle(page: bytes) -> _Middle | None:
    """Return where a page of rows has its middle; None: it is no such page, or has nothing there.
    What it says of itself must fit together: a page of another kind is never touched."""
    header_bytes = _HEADER_BYTES.get(page[0])
    if header_bytes is None:
        return None
    first_free, count, start, fragments = struct.unpack_from(">HHHB", page, 1)
    start = start or 1 << 16
    pointers_end = header_bytes + 2 * count
    if not page[pointers_end:start].strip(b"\0"):  # most have nothing there
        return None
    if not pointers_end <= start <= len(page) or fragments > _MAX_FRAGMENTS:
        return None
    if first_free and first_free < start:
        return None
    pointers = struct.unpack_from(f">{count}H", page, header_bytes)
    if pointers and not start <= min(pointers) <= max(pointers) < len(page):
        return None
    return _Middle(pointers_end, start)


def cleared(page: bytes) -> bytes | None:
    """Return the page with nothing in its middle; None: it has nothing there."""
    found = _middle(page)
    if found is None:
        return None
    return page[: found.start] + bytes(found.end - found.start) + page[found.end :]


def _has_map(number: int, page_bytes: int) -> bool:
    """Return whether this page is for the map that a database with auto_vacuum has: it may begin as
    a page of rows does."""
    pages_of_map = page_bytes // 5 + 1
    return (number - 2) % pages_of_map <= 1  # or the one behind it, at the first GB


class Residue:
    """Looks into the log for pages that are to be cleared."""

    def __init__(self) -> None:
        self._descriptor = -1
        self._salts = b""
        self._place = _LOG_HEADER_BYTES
        self.pages: set[int] = set()

    def open(self, log: Path) -> None:
        """Look into this log from now on, which a connection has open. SQLite has no locks on it,
        but on the file and on the -shm: so its descriptors may be closed."""
        self.close()
        self._salts = b""
        with contextlib.suppress(FileNotFoundError):
            self._descriptor = os.open(log, os.O_RDONLY | os.O_CLOEXEC)

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = -1

    def look(self) -> None:
        """Note which pages are to be cleared, by what was written since this was called last."""
        header = os.pread(self._descriptor, _LOG_HEADER_BYTES, 0) if self._descriptor >= 0 else b""
        if len(header) < _LOG_HEADER_BYTES:
            return
        (page_bytes,) = struct.unpack_from(">I", header, 8)
        if header[16:24] != self._salts:  # begun anew
            self._salts, self._place = header[16:24], _LOG_HEADER_BYTES
        frame_bytes = _FRAME_HEADER_BYTES + page_bytes
        while frames := os.pread(self._descriptor, _FRAMES_AT_ONCE * frame_bytes, self._place):
            for start in range(0, len(frames) - frame_bytes + 1, frame_bytes):
                if frames[start + 8 : start + 16] != self._salts:
                    return
                self._place += frame_bytes
                if frames[start + _FRAME_HEADER_BYTES] in _HEADER_BYTES:
                    self._look_at(frames[start : start + frame_bytes], page_bytes)
            if len(frames) < _FRAMES_AT_ONCE * frame_bytes:
                return

    def _look_at(self, frame: bytes, page_bytes: int) -> None:
        (number,) = struct.unpack_from(">I", frame)
        page = frame[_FRAME_HEADER_BYTES:]
        if number > 1 and not _has_map(number, page_bytes) and cleared(page) is not None:
            self.pages.add(number)
        else:
            self.pages.discard(number)


def can_clear(connection: sqlite3.Connection) -> bool:
    """Return whether this SQLite has the table by which pages are cleared."""
    found = "SELECT count(*) FROM pragma_module_list WHERE name = 'sqlite_dbpage'"
    (count,) = connection.execute(found).fetchone()
    return bool(count)


def clear(connection: sqlite3.Connection, numbers: Collection[int]) -> None:
    """Clear these pages, in the transaction that is open."""
    if not numbers:
        return
    (page_bytes,) = connection.execute("PRAGMA page_size").fetchone()
    (page_count,) = connection.execute("PRAGMA page_count").fetchone()
    if page_count >= _MAX_PAGES:
        return
    for number in sorted(numbers):
        row = connection.execute(_READ, (number,)).fetchone()
        if row is None or _has_map(number, page_bytes):
            continue
        page = cleared(row[0])
        if page is not None:
            connection.execute(_WRITE, (page, number))
