"""What the kernel knows about processes: proc(5)."""

import ctypes
import os
from pathlib import Path

_ENDED = "ZX"  # a zombie, or dead; its parent has not looked yet
_PR_SET_DUMPABLE = 4  # linux/prctl.h


def hide_this_process() -> None:
    """Let no process of the same user read this one's memory and environment, which hold secrets:
    hooks run as that user. It holds until this process becomes another program, and what is started
    is not hidden. There is no core dump either.

    To take secrets out of os.environ is not enough: the kernel shows the environment that a program
    was started with. Root may read it, and `send` does, for the keys of the running service.
    """
    ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def runs(pid: int, start: int) -> bool:
    """Return whether the process of this number runs that was started then. Where it is hidden, as
    in a sandbox with ProtectProc=, the number alone must do."""
    if os.path.exists(f"/proc/{pid}"):
        return process_start(pid) == start
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def process_start(pid: int) -> int | None:
    """Return when a process was started, in ticks since boot: that and its number tell it from all
    others. None: it has ended, or can't be looked at."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    fields = text.rpartition(") ")[2].split()  # the name before it may hold anything
    return None if fields[0] in _ENDED else int(fields[19])  # field 22 of all
