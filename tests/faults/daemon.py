"""A daemon to do harm to: what the fault campaigns share."""

import contextlib
import os
import random
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from http.client import HTTPException
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.support.processes import Answer, Premblyd, request

RESPONSIVE_S = 3.0  # healthz waits at most 2 s for the disk; the rest is for a busy machine
COMPLAINTS = ("Traceback", '"traceback":', '"level":"critical"')


class UnavailableError(Exception):
    """This machine can't make the fault. The text says what is missing."""


@contextlib.contextmanager
def needs_machine() -> Iterator[None]:
    """Skip the test where the fault can't be made, unless PREMBLYD_REQUIRE_ALL=1."""
    try:
        yield
    except UnavailableError as error:
        if os.environ.get("PREMBLYD_REQUIRE_ALL") == "1":
            raise
        pytest.skip(str(error))


@contextlib.contextmanager
def folder() -> Iterator[Path]:
    """Give a folder for one campaign."""
    with tempfile.TemporaryDirectory(prefix="premblyd-fault-") as name:
        yield Path(name)


class Victim(Premblyd):
    """A daemon on a port that stays the same over its restarts."""

    def __init__(self, at: Path, **changes: Any) -> None:
        self.address = f"127.0.0.1:{free_port()}"
        self.word = ""  # what marks the processes of its hostile hooks
        super().__init__(at, **{"listen": self.address, **changes})

    def launch(self) -> None:
        """Start it and don't wait."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._command(""), stderr=log)

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


def memory_kib(pid: int) -> int:
    """Return the resident memory of a process."""
    return psutil.Process(pid).memory_info().rss // 1024


def free_port() -> int:
    """Return a port that nobody uses, outside those that clients get: a client that keeps
    trying a port of its own kind connects to itself one day, and the daemon can't bind."""
    for _ in range(100):
        port = random.randrange(20_000, 32_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return port
    raise UnavailableError("no free port was found")


def alive(word: str) -> list[psutil.Process]:
    """Return the processes that have `word` as an argument and are no zombies."""
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        if word in (process.info["cmdline"] or ()) and process.info["status"] != "zombie":
            found.append(process)
    return found


def table(rows: dict[str, object]) -> None:
    """Print figures, one a line."""
    for name, value in rows.items():
        print(f"  {name:<44} {value}")
