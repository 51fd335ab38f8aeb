"""Processes that a hook leaves behind: those that fled its group, and those a crash orphaned.

A hook's process is known by the mark in its environment, and so is what it starts. What drops its
environment as well is still known for being our orphan.
"""

import contextlib
import ctypes
import os
import signal
import time
from collections.abc import Collection, Iterator
from pathlib import Path

from premblyd.ground import loops
from premblyd.ground.telemetry import tell
from premblyd.run.process import MARK, Children, Mark, mark_of
from premblyd.run.starting import what_is_lacking

SWEEP_EVERY_S = 1.0
PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h
# A process in the kernel's hands can't be killed, and is not waited for.
SWEEP_ALL_S = 2.0
MOST_LOOKS = 20


class Strays:
    """Finds and kills strays: processes that ended hooks left behind. The kernel makes orphans
    children of this process, but not every child of it is a stray. These are spared:

    - What the daemon itself started: it is in `children`.
    - A child in the daemon's own session, such as a library's. Every hook has a session of its
      own, and no process that it starts can come into ours.
    - Guests: the children that this process had before it became the daemon, such as those of a
      container's entrypoint that ends with `exec premblyd serve`. Their orphans come to us too, so
      where there were guests, an orphan is a stray only if it has the mark of a hook.
    """

    def __init__(self, children: Children) -> None:
        # Orphans become our children instead of init's, so that they can be found and reaped.
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        self._children = children
        self._guests = {pid: _session(pid) for pid in _adopted()}
        self._unmarked: set[int] = set()

    async def keep_sweeping(self) -> None:
        """Sweep about once a second, for as long as the daemon runs."""
        await loops.repeat(self._round, SWEEP_EVERY_S, first_s=SWEEP_EVERY_S)

    async def _round(self) -> float:
        try:
            if killed := self.sweep():
                tell("hook.strays_killed", count=killed)
        except (OSError, MemoryError) as error:  # the next sweep may find them
            tell("daemon.waits", part="sweep", lacks=what_is_lacking(error) or str(error))
        return SWEEP_EVERY_S

    def sweep(self) -> int:
        """Kill the strays that no running hook has started; return how many. Of one without a mark
        that can't be told, and its hook could still end it: it has until the next sweep.

        Raise OSError when they can't be looked at now.
        """
        unmarked, killed = set(), 0
        for pid in self._orphans():
            mark = read_mark(pid)
            is_spared = mark in self._children if mark else bool(self._guests)
            if is_spared:
                continue
            if mark is None and pid not in self._unmarked:
                unmarked.add(pid)
                continue
            _kill(pid)
            killed += 1
        self._unmarked = unmarked
        return killed

    def sweep_all(self) -> None:
        """Kill every stray, and those that it leaves: no hook runs any more."""
        end = time.monotonic() + SWEEP_ALL_S
        while time.monotonic() < end and (strays := self._strays()):
            for pid in strays:
                _kill(pid)
            time.sleep(0.005)

    def _strays(self) -> list[int]:
        return [pid for pid in self._orphans() if not self._guests or read_mark(pid)]

    def _orphans(self) -> list[int]:
        """Return the living children that a hook may have left, and reap dead ones."""
        own = os.getsid(0)
        found = []
        for pid in _adopted():
            session = _session(pid)
            if pid in self._children or session is None:
                continue
            if session == own and not self._guests:
                continue  # some library started it and waits for it
            if not _reaped(pid) and session != own and self._guests.get(pid) != session:
                found.append(pid)
        return found


def find_marks() -> set[Mark]:
    """Return the marks of all processes of this machine, those of other daemons' hooks too."""
    return {mark for _, mark in _marked()}


def kill_marked(marks: Collection[Mark]) -> int:
    """Kill every process that carries one of `marks`; return how many.
    After a crash these still run, and their deliveries are about to run again."""
    killed: set[int] = set()
    # Until nothing is found: what was killed may have started others meanwhile.
    for _ in range(MOST_LOOKS if marks else 0):
        found = False
        for pid, mark in _marked():
            if mark in marks:  # at once: it may start others, and the next may not be looked at
                _kill(pid)
                killed.add(pid)
                found = True
        if not found:
            break
        time.sleep(0.01)  # a killed process is still there until it has run once more
    return len(killed)


def _marked() -> Iterator[tuple[int, Mark]]:
    for pid in map(int, filter(str.isdecimal, os.listdir("/proc"))):
        if (mark := read_mark(pid)) is not None:
            yield pid, mark


def read_mark(pid: int) -> Mark | None:
    """Return the mark in the environment of process `pid`; None when it has none. Raise OSError
    when it can't be looked at now."""
    try:
        block = _environment(Path(f"/proc/{pid}"))
    except OSError as error:  # gone, or not ours to look at
        if what_is_lacking(error):
            raise  # the process may have a mark
        return None
    if not any(name in block for name in _NAMES):
        return None  # as most: to take a thousand environments apart takes half of the start
    pairs = (entry.partition(b"=") for entry in block.split(b"\0"))
    return mark_of({_NAMES[name]: os.fsdecode(value) for name, _, value in pairs if name in _NAMES})


def _environment(process: Path) -> bytes:
    """Return the environment of a process; raise OSError when it can't be read. In the middle of
    execve(2) a process has neither an environment nor arguments yet, so it is looked at again."""
    for _ in range(MOST_LOOKS):
        if block := (process / "environ").read_bytes():
            return block
        (process / "exe").readlink()  # raises OSError: a dead one and the kernel's own have none
        if not (process / "cmdline").read_bytes():
            time.sleep(0.005)
    return b""


_NAMES = {name.encode(): name for name in MARK}


def _adopted() -> list[int]:
    """Return the children of the main thread. All orphans are among them: the kernel gives them to
    the first thread that lives, which is the main one."""
    with open(f"/proc/self/task/{os.getpid()}/children") as children:
        return [int(pid) for pid in children.read().split()]


def _session(pid: int) -> int | None:
    """Return the session that process `pid` is in; None when it is gone."""
    try:
        return os.getsid(pid)
    except OSError:
        return None


def _reaped(pid: int) -> bool:
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    except ChildProcessError:
        return True


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signal.SIGKILL)
