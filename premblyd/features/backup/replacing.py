"""Putting another file in the place of the database, for a caller who has the daemon's lock.

There is never no database, and never a log beside it that is another's. The old file is kept, under
another name: see files.put_aside.
"""

import contextlib
import os
import sqlite3
from pathlib import Path

from premblyd.features.keeping import newfile
from premblyd.ground import times
from premblyd.ground.errors import TryAgainError
from premblyd.store.sqlite.connecting import NotOpenedError, cipher, connect, failures
from premblyd.store.sqlite.files import BEFORE, MODE, REPLACING, beside, real_path, restrict, size
from premblyd.store.sqlite.opening import BUSY_TIMEOUT_S

_LOGS = ("-wal", "-journal")


def put_in_place(
    new: Path, database: Path, now_ms: int, key_path: Path | None = None, *, is_alone: bool = False
) -> Path | None:
    """Rename `new`, a whole file in the same folder that nobody has open and that has no log, over
    the database. Return where the old one is kept; None if there was none.

    Raise TryAgainError when somebody else has the old one open, OSError when the disk fails. Then,
    and wherever this is killed, the old one or the new one is there whole. Only if the old one
    can't be opened, and so keeps its log, nothing is until this was called again. `key_path`: the
    key of the old one, if it is encrypted. `is_alone`: the caller keeps others out already.
    """
    with contextlib.ExitStack() as held:
        real = real_path(database)
        marker = beside(real, REPLACING)
        new.chmod(MODE)
        newfile.sync(new, real.parent)
        aside = None
        if is_replacing := marker.exists():
            aside = real.with_name(marker.read_text())
        elif any(size(beside(real, suffix)) for suffix in ("", *_LOGS)):
            aside = _free_name(real, now_ms)
        if aside and not is_alone:
            restrict(real)  # it may be missing, and only its log be there
            if not is_replacing and (is_replacing := not _close(real, key_path, held)):
                with newfile.new_file(marker) as file:
                    file.write(aside.name.encode())
        if aside:
            with contextlib.suppress(FileExistsError):
                os.link(real, aside)
        if aside and is_replacing:
            for log in _LOGS:
                with contextlib.suppress(FileNotFoundError):
                    os.rename(beside(real, log), beside(aside, log))
            beside(real, "-shm").unlink(missing_ok=True)
        newfile.sync(real.parent)
        os.replace(new, real)
        newfile.sync(real.parent)
        marker.unlink(missing_ok=True)
        newfile.sync(real.parent)
        return aside


def keep_others_out(connection: sqlite3.Connection) -> None:
    """Put the log into the file, and lock that until the connection is closed, which must be when
    another file is in its place: what a command wrote meanwhile would be lost, or its log be the
    other's. Who waits for the lock, to open it, sees then that it was replaced."""
    for statement in (
        f"PRAGMA busy_timeout = {BUSY_TIMEOUT_S * 1000}",
        "PRAGMA journal_mode = delete",  # locked: another has it open
        "PRAGMA locking_mode = exclusive",  # only now: else it keeps its journal, beside the other
        "BEGIN EXCLUSIVE",
        "COMMIT",
        "PRAGMA journal_mode = delete",  # if another command came before the lock
    ):
        connection.execute(statement).fetchall()


def _free_name(real: Path, now_ms: int) -> Path:
    while True:
        at = times.iso(now_ms)[:19].replace("-", "").replace(":", "")
        name = beside(real, f"{BEFORE}{at}")
        if not any(os.path.lexists(beside(name, suffix)) for suffix in ("", *_LOGS)):
            return name
        now_ms += 1000


def _close(real: Path, key_path: Path | None, held: contextlib.ExitStack) -> bool:
    """Put the log of the old database into its file, and be the only one who has it open until
    `held` ends; return False when it can't be opened."""
    if not size(real):  # SQLite would delete the log
        return False
    try:
        for mode in ("ro", "rw"):  # one that is none, closed with the right to write, loses its log
            keys = None if key_path is None else cipher().keys(key_path)
            uri = f"{real.as_uri()}?mode={mode}"
            connection = connect(uri, keys, timeout=BUSY_TIMEOUT_S, isolation_level=None)
            with contextlib.ExitStack() as opened:
                opened.callback(connection.close)
                if mode == "rw":
                    keep_others_out(connection)
                    held.push(opened.pop_all())
    except NotOpenedError:
        return False
    except failures() as error:
        if "locked" in str(error):
            raise TryAgainError(
                f"Somebody else has {real} open, such as another command of premblyd's. Wait until"
                f" it has ended: `sudo fuser -v {real}` (package psmisc) shows which it is."
            ) from None
        return False
    return True
