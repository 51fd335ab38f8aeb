"""Processes that a hook leaves behind: those that fled its group, and those a crash orphaned.

A hook is known by its environment: the event's key, which nobody can guess, the delivery and the
attempt. What drops its environment as well is still told by being our orphan.
"""

import contextlib
import ctypes
import os
import signal
import time
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import NamedTuple

PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h
SWEEP_ALL_S = 2.0  # a process in the kernel's hands can't be killed, and is not waited for


class Mark(NamedTuple):
    """Which run of a hook a process belongs to."""

    key: str
    delivery_id: int
    attempt: int


class Strays:
    """Finds and kills what ended hooks left. `sweep` it about once a second.

    For a process whose main thread starts no processes: whatever child it has is an orphan.
    """

    def __init__(self) -> None:
        # Orphans become our children instead of init's, so that they can be found and reaped.
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        self._unmarked: set[int] = set()

    def sweep(self, running: Collection[Mark]) -> int:
        """Kill the orphans that are not marked as `running`; return how many. One without a mark
        may belong to a running hook, which could still end it: it is given until the next sweep.
        """
        unmarked, killed = set(), 0
        for pid in _orphans():
            if _reaped(pid):
                continue
            mark = read_mark(pid)
            if mark in running:
                continue
            if mark is None and pid not in self._unmarked:
                unmarked.add(pid)
                continue
            _kill(pid)
            killed += 1
        self._unmarked = unmarked
        return killed

    def sweep_all(self) -> None:
        """Kill every orphan, and those that it leaves: no hook runs any more."""
        end = time.monotonic() + SWEEP_ALL_S
        while time.monotonic() < end and (
            orphans := {pid for pid in _orphans() if not _reaped(pid)}
        ):
            for pid in orphans:
                _kill(pid)
            time.sleep(0.005)


def find_marks() -> set[Mark]:
    """Return the marks of all processes, whoever their parent and their daemon is."""
    found = {read_mark(int(one.name)) for one in Path("/proc").iterdir() if one.name.isdecimal()}
    return {mark for mark in found if mark is not None}


def kill_marked(marks: Collection[tuple[str, int, int]]) -> int:
    """Kill every process that carries one of `marks`, whoever its parent is; return how many.
    After a crash these still run, and their deliveries are about to run again."""
    killed = 0
    for entry in Path("/proc").iterdir() if marks else ():
        if entry.name.isdecimal() and read_mark(int(entry.name)) in marks:
            _kill(int(entry.name))
            killed += 1
    return killed


def read_mark(pid: int) -> Mark | None:
    """Return the mark in the environment of process `pid`; None without one."""
    try:
        block = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:  # gone, or not ours to look at
        return None
    pairs = (entry.partition(b"=") for entry in block.split(b"\0"))
    found = {name: value.decode("ascii", "replace") for name, _, value in pairs if name in _NAMES}
    try:
        return Mark(*(kind(found[name]) for name, kind in _NAMES.items()))
    except (KeyError, ValueError):
        return None


_NAMES = {b"PREMBLY_EVENT_KEY": str, b"PREMBLY_DELIVERY": int, b"PREMBLY_ATTEMPT": int}


def _orphans() -> Iterator[int]:
    """Yield the children of the main thread. Hooks are started by other threads and are theirs;
    the kernel gives orphans to the first thread that lives, which is the main one."""
    yield from map(int, Path(f"/proc/self/task/{os.getpid()}/children").read_text().split())


def _reaped(pid: int) -> bool:
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    except ChildProcessError:
        return True


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signal.SIGKILL)
