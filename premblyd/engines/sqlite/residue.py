"""What SQLite leaves in a page of rows that have moved to another one, cleared.

`secure_delete` overwrites what is deleted. But where a full page is split, SQLite copies cells to
the pages beside it, and what was there stays in the free middle of the page: a later deletion
overwrites the row where it is now, and not there. So whatever was written to a page is looked at in
the log, and a middle that has bytes is overwritten with zeros, by the table `sqlite_dbpage`, within
a transaction.

https://www.sqlite.org/fileformat.html has the layout of pages and log.
"""

import contextlib
import json
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
_FRAMES_AT_ONCE = 16  # most transactions have fewer
_PAGES_AT_ONCE = 64
_LONG_FRAMES = 2000  # half of those after which SQLite makes a checkpoint (opening.py)
LOCKED_BYTE = 1 << 30  # the page that has it is never used
_NOTHING = bytes(1 << 16)  # as long as the longest page
# With more pages, a page of another kind may begin as one of these does: 137 GB of 4 KB each.
MAX_PAGES = 1 << 25
_READ = """SELECT pgno, data FROM json_each(?) AS wanted
JOIN sqlite_dbpage ON pgno = wanted.value ORDER BY pgno"""
_WRITE = "UPDATE sqlite_dbpage SET data = ? WHERE pgno = ?"
_CAN_CLEAR = "SELECT count(*) FROM pragma_module_list WHERE name = 'sqlite_dbpage'"
# Bytes at the end of each page that are not SQLite's: with them, the maps are elsewhere.
_RESERVED = "SELECT hex(substr(data, 21, 1)) FROM sqlite_dbpage WHERE pgno = 1"


class _Middle(NamedTuple):
    """The free bytes between a page's pointers and its cells, by their places in the page."""

    start: int
    end: int


def _middle(content: bytes, at: int, page_bytes: int) -> _Middle | None:
    """Return where the page of rows that begins `at` a place of `content` has its middle; None: it
    is no such page, or has nothing there. What it says of itself must fit together: a page of
    another kind is never touched."""
    header_bytes = _HEADER_BYTES.get(content[at])
    if header_bytes is None:
        return None
    first_free, count, start, fragments = struct.unpack_from(">HHHB", content, at + 1)
    start = start or 1 << 16
    pointers_end = header_bytes + 2 * count
    if not pointers_end <= start <= page_bytes or fragments > _MAX_FRAGMENTS:
        return None
    if _NOTHING.startswith(content[at + pointers_end : at + start]):  # as most have
        return None
    if first_free and first_free < start:
        return None
    pointers = struct.unpack_from(f">{count}H", content, at + header_bytes)
    if pointers and not start <= min(pointers) <= max(pointers) < page_bytes:
        return None
    return _Middle(pointers_end, start)


def cleared(page: bytes) -> bytes | None:
    """Return the page with nothing in its middle; None: it has nothing there."""
    found = _middle(page, 0, len(page))
    if found is None:
        return None
    return page[: found.start] + bytes(found.end - found.start) + page[found.end :]


def has_map(number: int, page_bytes: int) -> bool:
    """Return whether this page is for the map that a database with auto_vacuum has: it may begin as
    a page of rows does."""
    pages_of_map = page_bytes // 5 + 1
    of_map = (number - 2) // pages_of_map * pages_of_map + 2
    return number == of_map + (of_map == LOCKED_BYTE // page_bytes + 1)


class Residue:
    """Looks into the log for pages that are to be cleared, and clears them."""

    def __init__(self) -> None:
        self._descriptor = -1
        self._begin(b"", 0)
        self.pages: set[int] = set()

    def open(self, log: Path, connection: sqlite3.Connection) -> None:
        """Look into this log from now on, which the connection has open, if its SQLite can clear
        pages. It has no locks on the log, but on the file and on the -shm: so descriptors of the
        log may be closed."""
        self.close()
        self._begin(b"", 0)
        with contextlib.suppress(OSError):
            if can_clear(connection):
                self._descriptor = os.open(log, os.O_RDONLY | os.O_CLOEXEC)

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = -1

    def look(self) -> None:
        """Note which pages are to be cleared, by what was committed since this was called last."""
        with contextlib.suppress(OSError):  # a disk that fails is the next commit's to report
            if self._descriptor >= 0 and not self._read_on() and self._was_begun_anew():
                self._read_on()

    def log_is_long(self) -> bool:
        """Return whether SQLite may begin the log anew soon, without being asked to."""
        with contextlib.suppress(OSError, struct.error):  # there may be no log yet
            if self._descriptor >= 0:
                header = os.pread(self._descriptor, _LOG_HEADER_BYTES, 0)
                (page_bytes,) = struct.unpack_from(">I", header, 8)
                place = _LOG_HEADER_BYTES + _LONG_FRAMES * (_FRAME_HEADER_BYTES + page_bytes)
                frame = os.pread(self._descriptor, _FRAME_HEADER_BYTES, place)
                return frame[8:16] == header[16:24]
        return False

    def clear(self, connection: sqlite3.Connection) -> None:
        """Clear these pages, in the transaction that is open. What that is for matters more: when
        SQLite refuses, nothing is looked for until the next connection."""
        if not self.pages:
            return
        try:
            _clear(connection, self.pages)
        except sqlite3.Error:
            if not connection.in_transaction:  # it was rolled back
                raise
            self.pages.clear()
            self.close()

    def _begin(self, salts: bytes, page_bytes: int) -> None:
        self._salts, self._page_bytes, self._place = salts, page_bytes, _LOG_HEADER_BYTES

    def _was_begun_anew(self) -> bool:
        header = os.pread(self._descriptor, _LOG_HEADER_BYTES, 0)
        if len(header) < _LOG_HEADER_BYTES or header[16:24] == self._salts:
            return False
        (page_bytes,) = struct.unpack_from(">I", header, 8)
        self._begin(header[16:24], page_bytes)
        return True

    def _read_on(self) -> bool:
        """Look at the transactions that came since; return whether there were any. What is behind
        the last that ended may be overwritten yet, by the one that comes when it is rolled back."""
        page_bytes, salts, begun = self._page_bytes, self._salts, self._place
        place = begun
        frame_bytes = _FRAME_HEADER_BYTES + page_bytes
        to_clear: dict[int, bool] = {}
        while salts and (
            frames := os.pread(self._descriptor, _FRAMES_AT_ONCE * frame_bytes, place)
        ):
            for start in range(0, len(frames) - frame_bytes + 1, frame_bytes):
                if frames[start + 8 : start + 16] != salts:
                    return self._place > begun
                place += frame_bytes
                if frames[start + _FRAME_HEADER_BYTES] in _HEADER_BYTES:
                    (number,) = struct.unpack_from(">I", frames, start)
                    middle = _middle(frames, start + _FRAME_HEADER_BYTES, page_bytes)
                    to_clear[number] = middle is not None and number > 1
                if frames[start + 4 : start + 8] != b"\0\0\0\0":  # the last of its transaction
                    self._note(to_clear)
                    self._place = place
            if len(frames) < _FRAMES_AT_ONCE * frame_bytes:
                break
        return self._place > begun

    def _note(self, to_clear: dict[int, bool]) -> None:
        for number, is_to_be in to_clear.items():
            if is_to_be and not has_map(number, self._page_bytes):
                self.pages.add(number)
            else:
                self.pages.discard(number)
        to_clear.clear()


def can_clear(connection: sqlite3.Connection) -> bool:
    """Return whether this SQLite has the table by which pages are cleared, and where the maps are
    in this database is known."""
    (count,) = connection.execute(_CAN_CLEAR).fetchone()
    return bool(count) and connection.execute(_RESERVED).fetchone() in (None, ("00",))


def _clear(connection: sqlite3.Connection, numbers: Collection[int]) -> None:
    (page_count,) = connection.execute("PRAGMA page_count").fetchone()
    if page_count >= MAX_PAGES:
        return
    wanted = sorted(numbers)
    for start in range(0, len(wanted), _PAGES_AT_ONCE):
        listed = json.dumps(wanted[start : start + _PAGES_AT_ONCE])
        found = connection.execute(_READ, (listed,)).fetchall()
        pages = [
            (cleared(page), number) for number, page in found if not has_map(number, len(page))
        ]
        connection.executemany(_WRITE, [each for each in pages if each[0] is not None])
