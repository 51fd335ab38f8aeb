"""The signals of a daemon's process: none is lost."""

import asyncio
import os
import signal
from collections.abc import Iterator

import pytest

from premblyd.process import RELOAD, STOP, Signals
from tests.support.rows import for_each


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """Leave this process's handlers as they were."""
    before = {number: signal.getsignal(number) for number in (*STOP, RELOAD)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def signal_at_the_limit(number: int) -> None:
    """Send this process a signal where Python calls no further function of its own."""
    try:
        signal_at_the_limit(number)
    except RecursionError:
        os.kill(os.getpid(), number)


@for_each("number", STOP)
def test_a_stop_counts_however_deep_what_it_interrupts(number: int) -> None:
    """As deep as handlers are that are interrupted by the next signal, again and again."""

    async def stop() -> None:
        with Signals() as asked:
            signal_at_the_limit(number)
            await asked.stop.wait()

    asyncio.run(stop())


def test_a_signal_counts_however_many_wake_the_loop() -> None:
    """More than there is room for."""

    async def stop() -> None:
        with Signals() as asked:
            asked.take_reloads()
            for _ in range(10_000):
                os.kill(os.getpid(), signal.SIGHUP)
            os.kill(os.getpid(), signal.SIGTERM)
            await asked.stop.wait()
            assert asked.reload.is_set()

    asyncio.run(stop())
