"""Keeping what a replaced or overwritten database leaves: its file, which may have no name any
more, and its log, which must not be applied to another file."""

import contextlib
import fcntl
import os
import struct
from pathlib import Path

from premblyd.engines.sqlite.files import beside, move_into, sync_folder, unused_aside, write_copy
from premblyd.occurrences import StoreFileReplaced, StoreLogSetAside
from premblyd.telemetry import tell

LOGS = ("-wal", "-shm")
_SHARED = (0x40000002, 510)  # the bytes that SQLite locks for as long as it has a file open


def tell_where(descriptor: int) -> None:
    """Tell where a file is that has another name now."""
    tell(StoreFileReplaced(kept=os.readlink(f"/proc/self/fd/{descriptor}")))


def keep_file(descriptor: int, real: Path, *, with_log: bool) -> None:
    """Copy an open file that was at `real` into a folder there, and move its log along."""
    try:
        aside = _made_aside(real)
        with open(descriptor, "rb", closefd=False) as file:
            write_copy(file, aside / real.name)
        if with_log:
            move_into(aside, real, LOGS)
        sync_folder(aside)
    except OSError as error:
        tell(StoreFileReplaced(kept=None, reason=error.strerror))
    else:
        tell(StoreFileReplaced(kept=str(aside)))


def set_log_aside(real: Path) -> None:
    """Move the log beside a file into a folder: it belongs to another file."""
    aside = _made_aside(real)
    move_into(aside, real, LOGS)
    sync_folder(real.parent)
    tell(StoreLogSetAside(kept=str(aside)))


def forbid_checkpoint(descriptor: int) -> None:
    """Keep SQLite from bringing the log into an overwritten file when it closes that: what another
    program has put there may be good. It holds until the descriptor is closed."""
    start, count = _SHARED
    lock = struct.pack("hhqqi0q", fcntl.F_RDLCK, os.SEEK_SET, start, count, 0)
    with contextlib.suppress(OSError):
        fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, lock)


def has_log(real: Path) -> bool:
    """Return whether a log is there that holds anything."""
    with contextlib.suppress(FileNotFoundError):
        return beside(real, "-wal").stat().st_size > 0
    return False


def _made_aside(real: Path) -> Path:
    aside = unused_aside(real)
    aside.mkdir(mode=0o750)
    return aside
