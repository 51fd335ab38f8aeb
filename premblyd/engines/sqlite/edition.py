"""The edition: a number in the file's header (`PRAGMA user_version`) that tells whether the file
and the log beside it belong together.

It rises with each commit of a daemon, so the log has it first. A log then belongs to a file whose
number is that of its first page 1, the one before, or any up to its last. A file that somebody put
there has an older number, or one of another record. Of the copies made since the last checkpoint,
which have no older one, those page by page are as good; those by VACUUM have another layout, and a
schema's number that no log has yet.
"""

import os
import secrets
import struct
from dataclasses import dataclass
from pathlib import Path

from premblyd.engines.sqlite.files import beside

HEADER_BYTES = 100  # https://www.sqlite.org/fileformat.html
_SCHEMA, _USER = 40, 60  # where the header has the two numbers
_LOG_HEADER_BYTES, _FRAME_HEADER_BYTES = 32, 24
_COUNT = (1 << 31) - 1  # then they begin again


@dataclass(frozen=True, slots=True, order=True)
class Edition:
    """What a page 1 says. `number` 0: no version has numbered it yet."""

    number: int
    schema: int


def edition_of(page: bytes) -> Edition | None:
    """Return the edition that the beginning of a page 1 has; None when it is none."""
    if len(page) < HEADER_BYTES:
        return None
    (number,) = struct.unpack_from(">I", page, _USER)
    (schema,) = struct.unpack_from(">I", page, _SCHEMA)
    return Edition(number, schema)


def following(number: int) -> int:
    """Return the number of the next edition. The first is random, so that two records differ."""
    return (number or secrets.randbelow(_COUNT)) % _COUNT + 1


def is_between(number: int, lowest: int, highest: int) -> bool:
    """Return whether a number is one of those from `lowest` to `highest`, or all are 0."""
    if 0 in (number, lowest):
        return number == lowest
    return (number - lowest) % _COUNT <= (highest - lowest) % _COUNT


def belongs(file: Edition | None, first: Edition, last: Edition) -> bool:
    """Return whether a file's edition is one that goes with a log, whose first and last these are.
    A log that was begun before there were numbers goes with any."""
    if file is None or file.schema > last.schema:
        return False
    if first.number == 0:
        return True
    return is_between(file.number, (first.number - 2) % _COUNT + 1, last.number)


def is_foreign_log(real: Path) -> bool:
    """Return whether the log beside a file is certainly of another one. To be asked before anything
    in this process has the file open: this closes it, and thereby ends all its record locks."""
    try:
        with beside(real, "-wal").open("rb") as log, real.open("rb") as file:
            editions = _in_log(log.fileno())
            return bool(editions) and not belongs(
                edition_of(file.read(HEADER_BYTES)), editions[0], editions[-1]
            )
    except FileNotFoundError:
        return False


def _in_log(log: int) -> list[Edition]:
    """Return the editions that the frames of a log have for page 1, in their order."""
    header = os.pread(log, _LOG_HEADER_BYTES, 0)
    if len(header) < _LOG_HEADER_BYTES:
        return []
    page_bytes, salts = struct.unpack_from(">I", header, 8)[0], header[16:24]
    found = []
    place = _LOG_HEADER_BYTES
    while len(frame := os.pread(log, _FRAME_HEADER_BYTES + HEADER_BYTES, place)) > HEADER_BYTES:
        if frame[8:16] != salts:  # what is behind is left of an earlier round
            break
        if frame[:4] == b"\0\0\0\1" and (edition := edition_of(frame[_FRAME_HEADER_BYTES:])):
            found.append(edition)
        place += _FRAME_HEADER_BYTES + page_bytes
    return found
