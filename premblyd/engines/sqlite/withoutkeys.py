"""Pages of the table of events' keys, with nothing of the keys in them.

Its rows stay where they are, and their wrapped keys become zeros: so the database is whole, its
indexes fit, and which events were sealed is seen. The rows themselves can't be left out of a copy
that is made page by page, and a copy that has them removed later would be in a file meanwhile.

https://www.sqlite.org/fileformat.html (1.6, 2.1) has the layout of pages and rows.
"""

import struct
from collections.abc import Callable

from premblyd.errors import PremblydError
from premblyd.model.columns import columns
from premblyd.model.keeptables import EventKey

TABLE = EventKey._meta.table_name
_WRAPPED = [column.column_name for column in columns(EventKey)].index("wrapped")
_INNER, _LEAF = 5, 13
_INNER_HEADER_BYTES, _LEAF_HEADER_BYTES = 12, 8
_SIZES = (0, 1, 2, 3, 4, 6, 8, 8, 0, 0)  # of what is no text and no blob, by its type


class CannotLeaveOutError(PremblydError):
    """The events' keys can't be left out of a copy, so none is made."""


def pages(page_of: Callable[[int], bytes], root: int) -> set[int]:
    """Return the pages of the table that begins at page `root`."""
    found: set[int] = set()
    waiting = [root]
    while waiting:
        number = waiting.pop()
        page = page_of(number)
        found.add(number)
        if page[0] == _INNER:
            (count,) = struct.unpack_from(">H", page, 3)
            places = struct.unpack_from(f">{count}H", page, _INNER_HEADER_BYTES)
            waiting += struct.unpack_from(">I", page, 8)
            waiting += [struct.unpack_from(">I", page, place)[0] for place in places]
        elif page[0] != _LEAF:
            raise CannotLeaveOutError("The table of events' keys can't be read: no copy was made.")
    return found


def without_keys(page: bytes) -> bytes:
    """Return a page without what is in `wrapped`, and without all that is no row's: an inner page
    may have been one of rows."""
    first_free, count = struct.unpack_from(">HH", page, 1)
    is_inner = page[0] == _INNER
    header_bytes = _INNER_HEADER_BYTES if is_inner else _LEAF_HEADER_BYTES
    places = struct.unpack_from(f">{count}H", page, header_bytes)
    header_bytes += 2 * count
    left = bytearray(len(page))
    left[:header_bytes] = page[:header_bytes]
    while first_free:  # where the next is, and how long this is
        left[first_free : first_free + 4] = page[first_free : first_free + 4]
        (first_free,) = struct.unpack_from(">H", page, first_free)
    for place in places:
        if is_inner:
            _, end = _number(page, place + 4)
            left[place:end] = page[place:end]
            continue
        row_bytes, at = _number(page, place)
        _, start = _number(page, at)
        if row_bytes > len(page) - 35:  # the rest of it is on other pages
            raise CannotLeaveOutError(
                "The key of an event is longer than any that premblyd makes: no copy was made."
            )
        left[place : start + row_bytes] = page[place : start + row_bytes]
        begin, size = _wrapped(page, start)
        left[begin : begin + size] = bytes(size)
    return bytes(left)


def _wrapped(page: bytes, start: int) -> tuple[int, int]:
    """Return where a row's wrapped key is, and how long."""
    header_bytes, at = _number(page, start)
    place = start + header_bytes
    for column in range(_WRAPPED + 1):
        kind, at = _number(page, at)
        size = _SIZES[kind] if kind < len(_SIZES) else (kind - 12) // 2
        if column == _WRAPPED:
            break
        place += size
    return place, size


def _number(page: bytes, at: int) -> tuple[int, int]:
    """Read a number of variable length; return it and the place behind it."""
    value = 0
    for place in range(at, at + 8):
        value = value << 7 | page[place] & 0x7F
        if page[place] < 0x80:
            return value, place + 1
    return value << 8 | page[at + 8], at + 9
