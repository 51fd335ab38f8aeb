"""A daemon to do harm to: what the fault campaigns share."""

import contextlib
import tempfile
import time
from collections.abc import Iterator
from http.client import HTTPException
from pathlib import Path
from typing import Any

from premblyd.databases import DatabaseAddress
from tests.support.daemon import Premblyd
from tests.support.ports import free_port
from tests.support.processes import memory_kib
from tests.support.requests import Answer, request

RESPONSIVE_S = 4.5  # healthz waits 2 s for the disk at most; a writer waits 5 s for a lock
COMPLAINTS = ("Traceback", '"traceback":', '"level":"critical"')


@contextlib.contextmanager
def folder() -> Iterator[Path]:
    """Give a folder for one campaign."""
    with tempfile.TemporaryDirectory(prefix="premblyd-fault-") as name:
        yield Path(name)


class Victim(Premblyd):
    """A daemon on a port that stays the same over its restarts."""

    def __init__(self, at: Path, *, place: DatabaseAddress | None = None, **changes: Any) -> None:
        self.address = f"127.0.0.1:{free_port()}"
        self.word = ""  # what marks the processes of its hostile hooks
        super().__init__(at, place=place, **{"listen": self.address, **changes})

    def launch(self) -> None:
        """Start it and don't wait."""
        with self._log.open("ab") as log:
            self._process = self.spawn(log)

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
