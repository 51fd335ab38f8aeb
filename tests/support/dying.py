"""Work that is killed at a step of it."""

import contextlib
import os
import signal
import sys
from collections.abc import Callable, Collection


def dies(step: int, work: Callable[[], object], calls: Collection[str]) -> bool:
    """Do the work in another process, which kills itself before call number `step` of these, as
    audit events name them; return whether it came to its end before."""
    if child := os.fork():
        ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert ended in (0, -signal.SIGKILL)
        return ended == 0
    left = step

    def count(event: str, _: object) -> None:
        nonlocal left
        if event in calls:
            left -= 1
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(count)
    with contextlib.suppress(Exception):
        work()
        os._exit(0)
    os._exit(1)
