"""The row for `--against`: this checkout's daemon side by side with another checkout's.

Beside the rate it compares how much of the processor a webhook takes, in user and system time: that
hardly depends on what else a shared machine does, where rates swing by a third.
"""

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.bench import load, peers, rows
from tests.bench.rows import Measured, Row
from tests.bench.serving import CLIENTS
from tests.support.daemon import Premblyd

SLOWER = 1.03  # so much more may a webhook take of the processor than before


def accept(checkout: Path, seconds: float) -> Row:
    """Durable accept by this checkout against the same by `checkout`."""

    def measure(root: Path) -> Measured:
        measured: dict[str, float] = {}
        with of_checkout(root) as daemon:
            for clients in CLIENTS:
                before_s = peers.processor_s(daemon)
                taken = load.wrk(daemon.address, clients=clients, seconds=seconds)
                each_ms = (peers.processor_s(daemon) - before_s) / taken.answers * 1000
                measured |= {f"processor{clients}": each_ms, f"rate{clients}": taken.rate}
        return measured

    goals = [
        goal
        for clients in CLIENTS
        for goal in (
            rows.time(f"processor{clients}", f"processor for each, {clients} clients", SLOWER),
            rows.rate(f"rate{clients}", f"answers, {clients} clients"),
        )
    ]
    return Row(
        name="accept",
        title="durable accept, 1 KB signed",
        peer=checkout.name,
        needs=("wrk",),
        goals=tuple(goals),
        ours=lambda: measure(peers.ROOT),
        theirs=lambda: measure(checkout),
    )


@contextlib.contextmanager
def of_checkout(root: Path) -> Iterator[Premblyd]:
    """Run the premblyd of the checkout at `root`, and no other that is installed or where it is
    started, on a database that it makes itself: an older one refuses what this one has prepared.
    Raise LoadError when it does not run."""
    environ = {"PYTHONPATH": str(root), "PYTHONSAFEPATH": "1"}
    found = subprocess.run(
        [sys.executable, "-c", "import premblyd.daemon; print(premblyd.daemon.__file__)"],
        env=os.environ | environ,
        capture_output=True,
        text=True,
    )
    if found.returncode or not Path(found.stdout.strip()).is_relative_to(root):
        raise load.LoadError(f"{root} is no checkout that runs here: {found.stderr}")
    with tempfile.TemporaryDirectory() as name:
        own = Path(name, "premblyd.db")
        with peers.premblyd(own.parent, place=own, environ=environ) as daemon:
            yield daemon
