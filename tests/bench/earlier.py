"""The row for `--against`: this checkout's daemon side by side with another checkout's."""

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.bench import load, peers, serving
from tests.bench.rows import Measured, Row
from tests.support.daemon import Premblyd

SLOWER = 1.03  # so much more may a webhook take of the processor than before


@contextlib.contextmanager
def accept(checkout: Path, seconds: float) -> Iterator[Row]:
    """Durable accept by this checkout against the same by `checkout`. Both run all the time, and
    are warm: what differs from one start to the next is far more than what is looked for."""
    with of_checkout(peers.ROOT) as ours, of_checkout(checkout) as theirs:

        def load_one(daemon: Premblyd) -> Measured:
            return serving.load_by_clients(daemon.address, seconds, daemon.process.pid)

        for daemon in (ours, theirs):
            load_one(daemon)
        yield Row(
            name="accept",
            title="durable accept, 1 KB signed",
            peer=checkout.name,
            needs=("wrk",),
            goals=serving.goals(processor=SLOWER),
            ours=lambda: load_one(ours),
            theirs=lambda: load_one(theirs),
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
