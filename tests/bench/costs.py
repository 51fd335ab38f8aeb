"""The rows with a budget instead of a peer: time to start, and memory."""

import asyncio
import re
import secrets
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from tests.bench import load, peers, rows, webhooks
from tests.bench.rows import Measured, Row
from tests.bench.serving import requests
from tests.support.daemon import Premblyd

BUDGET_READY_MS = 350.0
BUDGET_HELP_MS = 250.0
BUDGET_IDLE_MB = 65.0
BUDGET_UPLOADS_MB = (64 << 20) / 1_000_000  # max_in_flight_bytes, unless configured
UPLOADS = 64
UPLOAD_BYTES = 5 << 20
SERVED = 2000  # webhooks before memory is read, for all that a process warms up
TIMES = 5
MB = 1_000_000


def start() -> Row:
    """From starting the process to READY=1, and the time of --help."""
    return Row(
        name="start",
        title="start; --help",
        peer="budget",
        goals=(rows.time("ready", "start to READY", 1.0), rows.time("help", "--help", 1.0)),
        ours=lambda: {"ready": _median_ms(_get_ready), "help": _median_ms(_help)},
        theirs=lambda: {"ready": BUDGET_READY_MS, "help": BUDGET_HELP_MS},
    )


def memory() -> Row:
    """Resident memory: idle, and what large bodies add at most."""

    def ours() -> Measured:
        with peers.premblyd() as daemon:
            idle_mb = _resident_mb(daemon)
            sent = requests(webhooks.ours, SERVED, secrets.token_hex(4))
            load.at_once(peers.address(daemon), sent, clients=16)
            served_mb = _resident_mb(daemon)
            # proc(5): resets VmHWM
            Path(f"/proc/{daemon.process.pid}/clear_refs").write_text("5")
            asyncio.run(_upload(daemon))
            return {"idle": idle_mb, "uploads": _peak_mb(daemon) - served_mb}

    return Row(
        name="memory",
        title="resident memory",
        peer="budget",
        goals=(
            rows.memory("idle", "idle"),
            rows.memory("uploads", f"peak, {UPLOADS} clients send 5 MB each"),
        ),
        ours=ours,
        theirs=lambda: {"idle": BUDGET_IDLE_MB, "uploads": BUDGET_UPLOADS_MB},
    )


def _median_ms(measure: Callable[[], float]) -> float:
    return statistics.median(measure() for _ in range(TIMES))


def _get_ready() -> float:
    """Start a daemon, and return how long it took until it told systemd that it is ready."""
    with (
        tempfile.TemporaryDirectory() as name,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd,
        Premblyd(Path(name), stop_timeout="1s") as daemon,
    ):
        systemd.bind(f"{name}/notify")
        begun = time.perf_counter()
        daemon.start(is_executed=True, NOTIFY_SOCKET=f"{name}/notify")
        while b"READY=1" not in systemd.recv(4096):
            continue
        took_ms = (time.perf_counter() - begun) * 1000
        daemon.stop()
        return took_ms


def _help() -> float:
    begun = time.perf_counter()
    command = [sys.executable, "-m", "premblyd", "--help"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return (time.perf_counter() - begun) * 1000


async def _upload(daemon: Premblyd) -> None:
    """Send large bodies all at once. What is too much is refused, and that is as it should be."""
    connections = [await load.connect(peers.address(daemon)) for _ in range(UPLOADS)]
    async with asyncio.timeout(load.PATIENCE_S):
        statuses = await asyncio.gather(
            *(
                connection.send(webhooks.ours(webhooks.body(f"{number}", UPLOAD_BYTES)), [])
                for number, connection in enumerate(connections)
            ),
            return_exceptions=True,
        )
    if 200 not in statuses:
        raise load.LoadError("no large body was taken")
    for connection in connections:
        connection.close()


def _resident_mb(daemon: Premblyd) -> float:
    resident: int = psutil.Process(daemon.process.pid).memory_info().rss
    return resident / MB


def _peak_mb(daemon: Premblyd) -> float:
    status = Path(f"/proc/{daemon.process.pid}/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    if found is None:
        raise load.LoadError("the kernel does not tell a process's peak memory")
    return int(found[1]) * 1024 / MB
