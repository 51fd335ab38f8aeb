"""Worker hooks that do what no worker should, each alone: all of them at once, beside good ones,
are in tests/faults/workers.py."""

import gc
import tracemalloc

import pytest

from tests.support.workers import Working, shell

pytestmark = pytest.mark.process


async def test_of_what_a_worker_wrote_nothing_is_kept_once_it_has_ended() -> None:
    """Not until the collector comes either: it counts objects, and these are few and large."""
    flood = "head -c 100000 /dev/zero | tr '\\0' x >&4; sleep 60"
    async with Working(worker=shell(flood)) as at:
        await at.run(1)
        gc.disable()
        tracemalloc.start()
        try:
            for delivery in range(2, 22):
                assert len((await at.run(delivery)).output or "") == 64 << 10
            kept_bytes, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
            gc.enable()
    assert kept_bytes < 1 << 20
