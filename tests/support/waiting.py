"""Wait for what is to happen, however long that takes: only pytest-timeout ends what hangs.

A deadline here would say of a machine that it is slow, as if premblyd were wrong.
"""

import asyncio
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
FOREVER_S = 1_000_000  # for what asks for a number


def wait_until(check: Callable[[], T]) -> T:
    """Return what `check` returns as soon as that is true."""
    pause_s = 0.01
    while not (found := check()):
        # What takes long is looked for less often: to look may be a new connection to a server.
        time.sleep(pause_s)
        pause_s = min(pause_s * 1.1, 0.05)
    return found


async def until(condition: Callable[[], object]) -> None:
    """Let the loop run until `condition` holds."""
    pause_s = 0.005
    while not condition():
        await asyncio.sleep(pause_s)
        pause_s = min(pause_s * 1.1, 0.05)
