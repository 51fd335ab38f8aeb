"""What the kernel tells of processes: proc(5)."""

from pathlib import Path

_ENDED = "ZX"  # a zombie, or dead; its parent has not looked yet


def process_start(pid: int) -> int | None:
    """Return when a process was started, in ticks since boot: that and its number tell it from all
    others. None: it has ended, or can't be looked at."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    fields = text.rpartition(") ")[2].split()  # the name before it may hold anything
    return None if fields[0] in _ENDED else int(fields[19])  # field 22 of all
