"""The names of copies, which only whole ones have: `premblyd-RECORDID-EVENTID-COUNT-DIGEST.db`."""

import hashlib
import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path

_NAME = re.compile(r"premblyd-([0-9a-f]{8})-([0-9]{12,19})-([0-9]{3,9})-([0-9a-f]{16})\.db")
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, order=True)
class CopyName:
    """A copy: its newest event's number (0: none), and a count that tells copies with the same
    newest event apart. Copies of a record sort oldest first. `digest`: of the file, as it was made:
    SQLite does not see every change of one."""

    record_id: str
    event_id: int
    count: int
    digest: str

    def __str__(self) -> str:
        """Return the name of the file; names of a record sort as the copies do."""
        return f"premblyd-{self.record_id}-{self.event_id:012}-{self.count:03}-{self.digest}.db"


def parse(file_name: str) -> CopyName | None:
    """Return what a file's name says; None if it is no copy's."""
    found = _NAME.fullmatch(file_name)
    if found is None:
        return None
    name = CopyName(found[1], int(found[2]), int(found[3]), found[4])
    return name if str(name) == file_name else None


def digest_of(descriptor: int) -> str:
    """Return the digest of an open file, from its beginning."""
    digest, at = hashlib.sha256(), 0
    while chunk := os.pread(descriptor, _CHUNK_BYTES, at):
        digest.update(chunk)
        at += len(chunk)
    return digest.hexdigest()[:16]


def copies_in(folder: Path | int, record_id: str | None = None) -> list[CopyName]:
    """Return the copies in a folder (a path, or a descriptor of it), of each record or of one,
    newest last. What is no regular file is none, whatever it is called. Raise OSError."""
    with os.scandir(folder) as entries:
        names = [
            name
            for entry in entries
            if (name := parse(entry.name)) is not None
            and record_id in (None, name.record_id)
            and stat.S_ISREG(entry.stat(follow_symlinks=False).st_mode)
        ]
    return sorted(names)
