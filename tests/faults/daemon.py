"""A daemon to do harm to: what the fault campaigns share."""

import contextlib
import random
import tempfile
import time
from collections.abc import Iterator
from http.client import HTTPException
from pathlib import Path
from typing import Any

from premblyd.ground.databases import DatabaseAddress
from tests.support.daemon import Premblyd
from tests.support.ports import free_port
from tests.support.processes import memory_kib
from tests.support.requests import Answer, request

UNFINISHED = "SELECT count(*) FROM delivery WHERE state IN ('pending', 'running')"
COMPLAINTS = ("Traceback", '"traceback":', '"level":"critical"')


@contextlib.contextmanager
def folder() -> Iterator[Path]:
    """Give a folder for one campaign."""
    with tempfile.TemporaryDirectory(prefix="premblyd-fault-") as name:
        yield Path(name)


class Victim(Premblyd):
    """A daemon on a port that stays the same over its restarts."""

    before = ""  # Python that it runs first
    is_executed = False  # see Premblyd.start

    def __init__(self, at: Path, *, place: DatabaseAddress | None = None, **changes: Any) -> None:
        self.address = f"127.0.0.1:{free_port()}"
        self.word = ""  # what marks the processes of its hostile hooks
        super().__init__(at, place=place, **{"listen": self.address, **changes})

    def launch(self) -> None:
        """Start it and don't wait."""
        with self._log.open("ab") as log:
            self._process = self.spawn(log, self.before, is_executed=self.is_executed)

    def restart(self) -> None:
        """Start it and wait until it is healthy. Raise AssertionError when it ends instead."""
        self.launch()
        while self.healthz()[0] != 200:
            if self.process.poll() is not None:
                raise AssertionError(f"it does not start:\n{self.whole_log()[-2000:]}")
            time.sleep(0.01)

    def crash(self, rng: random.Random, longest_s: float) -> int:
        """Let it run for a random while, kill it, and start it again: now and then it is killed
        once more while it starts. Return how often it was killed."""
        time.sleep(rng.uniform(0.0, longest_s))
        self.end_now()
        is_killed_again = rng.random() < 0.2
        if is_killed_again:
            self.launch()
            time.sleep(rng.uniform(0.05, 0.4))
            self.end_now()
        self.restart()
        return 1 + is_killed_again

    def end_now(self) -> None:
        """kill -9: nothing is done for its hooks."""
        self.process.kill()
        self.process.wait()

    def finish(self) -> None:
        """Wait until nothing waits."""
        self.wait_for_rows([(0,)], UNFINISHED)

    def end(self) -> list[str]:
        """Stop it. Return what was wrong with its stop, and what it complained of in its life."""
        unclean = ["it did not stop cleanly"] if self.stop() != 0 else []
        return unclean + self.complaints()[:5]

    def healthz(self) -> tuple[int, float]:
        """Return the health check's status, 0 without an answer, and its seconds."""
        start = time.monotonic()
        status = 0
        with contextlib.suppress(OSError, HTTPException):
            status = request(self.address, "GET", "/healthz", b"", {}).status
        return status, time.monotonic() - start

    def try_to_send(self, body: bytes, **more: str) -> Answer | None:
        """Send a signed webhook; None when no answer came."""
        try:
            return self.send(body, **more)
        except (OSError, HTTPException):
            return None

    def memory_kib(self) -> int:
        return memory_kib(self.process.pid)

    def whole_log(self) -> str:
        """Return what all its processes logged."""
        return self._log.read_text()

    def complaints(self) -> list[str]:
        """Return the log's lines that tell of a fault in the program itself."""
        return [
            line
            for line in self.whole_log().splitlines()
            if any(word in line for word in COMPLAINTS)
        ]


def table(rows: dict[str, object]) -> None:
    """Print figures, one a line."""
    for name, value in rows.items():
        print(f"  {name:<44} {value}")
