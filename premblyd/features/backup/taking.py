"""A database written into another file: as it is, encrypted, or by another key. And as whom root
does that, and whether there is room."""

import contextlib
import os
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path

from premblyd.ground import words
from premblyd.ground.databases import is_plain
from premblyd.store.sqlite.connecting import cipher, connect

SPARE_BYTES = 64 << 20  # that a copy leaves on the disk: webhooks may need the same
_PAGES = 4096  # of a portion
_NUMBERS = (
    "INSERT INTO sqlite_sequence (name, seq) SELECT :table, 0 WHERE NOT EXISTS"
    " (SELECT 1 FROM sqlite_sequence WHERE name = :table)",
    "UPDATE sqlite_sequence SET seq = max(seq, :number) WHERE name = :table",
)
Watch = Callable[[str, int, int | None], None]


class Source:
    """A whole file that nobody writes, open: nothing beside it is looked at. `key_path`: of an
    encrypted one; a plain one can be encrypted then."""

    def __init__(self, path: Path, key_path: Path | None) -> None:
        uri = f"{path.as_uri()}?mode=ro&immutable=1"
        self.is_plain = bool(is_plain(path))
        if self.is_plain and key_path is not None:
            self.connection = cipher().connect(uri, None, isolation_level=None)
        else:
            keys = None if key_path is None else cipher().keys(key_path)
            self.connection = connect(uri, keys)

    def close(self) -> None:
        self.connection.close()

    def write(self, target: Path, key_path: Path | None, watch: Watch) -> None:
        """Write all of it into a file: see `write`."""
        key = None if key_path is None else next(cipher().keys(key_path))
        write(self.connection, target, key, watch, is_plain=self.is_plain)


def write(
    source: sqlite3.Connection, target: Path, key: str | None, watch: Watch, *, is_plain: bool
) -> None:
    """Write all of a database into the empty file `target`: with a key, encrypted. It is on the
    disk when somebody has synced it."""
    uri = f"{target.as_uri()}?mode=rw"
    if is_plain and key is not None:
        watch("encrypting", 0, None)
        cipher().encrypt(source, uri, key)
        return
    with closing(connect(uri, None if key is None else [key])) as writing:
        for pragma in ("journal_mode = off", "synchronous = off"):
            writing.execute(f"PRAGMA {pragma}")
        source.backup(
            writing,
            pages=_PAGES,
            progress=lambda _, left, total: watch("copying", total - left, total),
        )


def what_is_wrong(database: sqlite3.Connection) -> str | None:
    """Return in a word what is damaged in a database; None: nothing that SQLite finds."""
    [[found]] = database.execute("PRAGMA integrity_check(1)")
    if found != "ok":
        return str(found)
    if orphans := database.execute("PRAGMA foreign_key_check").fetchone():
        return f"a row of {orphans[0]} refers to one that is missing"
    return None


def go_on_above(database: sqlite3.Connection, numbers: Mapping[str, int]) -> None:
    """Have each table's next number be above these."""
    for table, number in numbers.items():
        for statement in _NUMBERS:
            database.execute(statement, {"table": table, "number": number})


def lacking_room(folder: Path | int, needed: int) -> str:
    """Return, in words, that a disk has not as many bytes free, and some for the daemon; empty if
    it has."""
    disk, needed = os.statvfs(folder), needed + SPARE_BYTES
    free = disk.f_bavail * disk.f_frsize
    told = f"{words.size(needed)} must be free there, and {words.size(free)} are"
    return "" if free >= needed else told


# As whom root works on a database, which belongs to the service's user: whatever somebody puts in
# its way there, it can do no more than the service.


def become_owner(database: Path) -> None:
    """From here on, root is the user whom the database belongs to."""
    with contextlib.suppress(FileNotFoundError):  # whoever opens it says so
        owner = _owner_of(database)
        if os.geteuid() == 0 and owner.st_uid:
            os.setgroups([owner.st_gid])
            os.setgid(owner.st_gid)
            os.setuid(owner.st_uid)


@contextlib.contextmanager
def as_owner(database: Path) -> Iterator[None]:
    """Have root be that user for as long as it is entered."""
    owner = _owner_of(database)
    if os.geteuid() != 0 or owner.st_uid == 0:
        yield
        return
    groups = os.getgroups()
    os.setgroups([owner.st_gid])
    os.setegid(owner.st_gid)
    os.seteuid(owner.st_uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(groups)


def _owner_of(database: Path) -> os.stat_result:
    """Return to whom a database belongs: its file, or its folder. Whoever has made a link to it,
    and is not root, may do no more there than before."""
    found = database if os.path.lexists(database) else database.parent
    link = found.lstat()
    return link if link.st_uid else found.stat()
