"""The identity of a daemon's process: shows whether an earlier daemon of the same place still
lives."""

import os
import uuid
from dataclasses import dataclass
from typing import NamedTuple

from premblyd import __version__
from premblyd.ground.system import process_start
from premblyd.queue.heartbeat import machine_start


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """The identity of a daemon's process. `place`: where its `pid` counts; None: not known."""

    worker: str  # its name in `attempt`
    name: str
    place: str | None
    pid: int
    process_start: int | None
    version: str


class Predecessor(NamedTuple):
    """A daemon of the same place, as its row has it: it may be dead."""

    worker: str
    pid: int
    process_start: int | None


def of_this_process(name: str) -> Identity:
    """Return this process's identity, new with each call: a name that no other has ever had."""
    pid = os.getpid()
    return Identity(
        worker=f"{name}:{pid}:{uuid.uuid4().hex[:8]}",
        name=name,
        place=_place(),
        pid=pid,
        process_start=process_start(pid),
        version=__version__,
    )


def is_dead(predecessor: Predecessor) -> bool:
    """Return whether a process of this place has ended for certain."""
    try:
        os.kill(predecessor.pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:  # somebody else's: it may be the same
        return False
    start = process_start(predecessor.pid)
    return start is None or predecessor.process_start not in (None, start)


def _place() -> str | None:
    """Return where this process's number counts: in which start of the machine, and in which of
    its name spaces, as containers have their own."""
    start = machine_start()
    try:
        name_space = os.readlink("/proc/self/ns/pid")
    except OSError:
        return None
    return None if start is None else f"{start} {name_space}"
