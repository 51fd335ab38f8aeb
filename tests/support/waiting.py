"""Wait for what is to happen, and no longer than that."""

import asyncio
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def wait_until(check: Callable[[], T], timeout_s: float = 40) -> T:
    """Return what `check` returns as soon as that is true. Fail after `timeout_s`."""
    begun = time.monotonic()
    while not (found := check()):
        waited_s = time.monotonic() - begun
        assert waited_s < timeout_s, "it did not happen in time"
        # What takes long is looked for less often: to look may be a new connection to a server.
        time.sleep(min(max(0.01, waited_s / 10), 0.05))
    return found


async def until(condition: Callable[[], object], timeout_s: float = 40) -> None:
    """Let the loop run until `condition` holds. Fail after `timeout_s`."""
    begun = time.monotonic()
    while not condition():
        waited_s = time.monotonic() - begun
        assert waited_s < timeout_s, "it did not happen in time"
        await asyncio.sleep(min(max(0.005, waited_s / 10), 0.05))
