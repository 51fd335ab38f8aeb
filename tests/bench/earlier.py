"""The row for `--against`: this checkout's daemon side by side with another checkout's.

Beside the rate it compares how much of the processor a webhook takes, in user and system time: that
hardly depends on what else a shared machine does, where rates swing by a third.
"""

import os
import subprocess
import sys
from pathlib import Path

import psutil

from tests.bench import load, peers, rows
from tests.bench.rows import Measured, Row
from tests.bench.serving import CLIENTS
from tests.support.daemon import Premblyd

SLOWER = 1.03  # so much more may a webhook take of the processor than before


def accept(checkout: Path, seconds: float) -> Row:
    """Durable accept by this checkout against the same by `checkout`."""

    def measure(root: Path) -> Measured:
        measured: dict[str, float] = {}
        with peers.premblyd(environ=of_checkout(root)) as daemon:
            for clients in CLIENTS:
                before_s = _processor_s(daemon)
                taken = load.wrk(daemon.address, clients=clients, seconds=seconds)
                each_ms = (_processor_s(daemon) - before_s) / taken.answers * 1000
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


def of_checkout(root: Path) -> dict[str, str]:
    """Return the environment with which Python runs the premblyd of the checkout at `root`, and no
    other that is installed or where it is started. Raise LoadError when it does not."""
    environ = {"PYTHONPATH": str(root), "PYTHONSAFEPATH": "1"}
    found = subprocess.run(
        [sys.executable, "-c", "import premblyd.daemon; print(premblyd.daemon.__file__)"],
        env=os.environ | environ,
        capture_output=True,
        text=True,
    )
    if found.returncode or not Path(found.stdout.strip()).is_relative_to(root):
        raise load.LoadError(f"{root} is no checkout that runs here: {found.stderr}")
    return environ


def _processor_s(daemon: Premblyd) -> float:
    times = psutil.Process(daemon.process.pid).cpu_times()
    taken_s: float = times.user + times.system
    return taken_s
