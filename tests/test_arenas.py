"""The memory of the daemon's threads comes from few of malloc's arenas."""

import subprocess
import sys

import pytest

pytestmark = pytest.mark.process

THREADS = 6
SCRIPT = f"""
import ctypes, threading
from premblyd import process

process._keep_arenas_few()
together = threading.Barrier({THREADS})

def work():
    together.wait()
    bytearray(10_000)
    together.wait()

threads = [threading.Thread(target=work) for _ in range({THREADS})]
for each in threads: each.start()
for each in threads: each.join()
ctypes.CDLL(None).malloc_stats()
"""


def test_threads_that_run_at_once_share_arenas() -> None:
    """Else each keeps what it has once needed: memory for every thread that there ever was."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True
    )
    arenas = [line for line in done.stderr.splitlines() if line.startswith("Arena ")]
    assert 1 <= len(arenas) <= 2
