"""The space in a database's file: given back where rows went, a little at a time; and the mark of a
file in which nothing is left of what went.

SQLite leaves free pages in the file, for rows to come. A database that was made with
`auto_vacuum = incremental` gives them back when asked to.
"""

import sqlite3
import time

# application_id in the file's header: the database was made, or packed, by a version that
# overwrites what it deletes, and gives space back. Older files have neither.
MARK = int.from_bytes(b"PRMB")
AUTO_VACUUM = {"auto_vacuum": "incremental"}
INCREMENTAL = 2  # what SQLite answers for that word
# A step keeps webhooks waiting as long as a commit of its own. While they come it is a small one,
# ten times a second: 1.3 MB a second.
STEP_PAGES = 64
BUSY_STEP_PAGES = 32
BUSY_STEP_EVERY_S = 0.1
KEPT_PAGES = 256  # for what comes next: 1 MB


class GivingBack:
    """When the writer's connection gives back free pages, and how many."""

    def __init__(self) -> None:
        self._next_at_s = 0.0
        self._can: bool | None = None
        self._took_pages = False

    def connected(self) -> None:
        """Take note that the connection is a new one: of a file that may have been packed."""
        self._can = None

    def pages(self, connection: sqlite3.Connection, *, is_idle: bool) -> int | None:
        """Return how many pages are to be given back now, 0 to be asked again; None: there are
        none. `is_idle`: nobody waits for a commit."""
        now_s = time.monotonic()
        if now_s < self._next_at_s and not is_idle:
            return 0
        self._next_at_s = now_s + BUSY_STEP_EVERY_S
        if self._can is None:
            self._can = _value(connection, "auto_vacuum") == INCREMENTAL
        free = _value(connection, "freelist_count") if self._can else 0
        if free <= KEPT_PAGES:
            return None
        self._took_pages = True
        return min(free - KEPT_PAGES, STEP_PAGES if is_idle else BUSY_STEP_PAGES)

    def took_pages(self) -> bool:
        """Return whether pages were given back since this was asked last."""
        took, self._took_pages = self._took_pages, False
        return took


def give_back(connection: sqlite3.Connection, pages: int) -> None:
    """Take so many free pages out of the database; its file is cut at the next checkpoint. To be
    run in a transaction."""
    for _ in range(pages):  # the sqlite3 module runs it for the first page only, were there more
        connection.execute("PRAGMA incremental_vacuum(1)")


def is_marked(connection: sqlite3.Connection) -> bool:
    """Return whether nothing is left in the file of what was deleted."""
    return _value(connection, "application_id") == MARK


def mark(connection: sqlite3.Connection) -> None:
    """Note that nothing is left in the file of what was deleted."""
    connection.execute(f"PRAGMA application_id = {MARK}")


def _value(connection: sqlite3.Connection, pragma: str) -> int:
    (value,) = connection.execute(f"PRAGMA {pragma}").fetchone()
    return int(value)
