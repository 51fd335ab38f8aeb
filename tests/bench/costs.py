"""The rows with a budget instead of a peer: time to start, and memory."""

import asyncio
import re
import secrets
import subprocess
import sys
from pathlib import Path

import psutil

from tests.bench import load, peers, rows, webhooks
from tests.bench.keeping import ACTIONS, prepared
from tests.bench.rows import Measured, Row
from tests.bench.serving import requests
from tests.bench.timed import median_ms, start_ms
from tests.support.daemon import Premblyd

BUDGET_READY_MS = 1000.0
BUDGET_HELP_MS = 250.0
BUDGET_IDLE_MB = 70.0
BUDGET_STORED_MB = 10.0
BUDGET_UPLOADS_MB = (64 << 20) / 1_000_000  # max_in_flight_bytes, unless configured
UPLOADS = 64
UPLOAD_BYTES = 5 << 20
SERVED = 2000  # webhooks before memory is read, for all that a process warms up
HELPS = 5
MB = 1_000_000


def start(folder: Path, events: int) -> Row:
    """From starting the process to READY=1, and the time of --help."""

    def ours() -> Measured:
        return {"ready": _ready_ms(prepared(folder, events)), "help": median_ms([_help] * HELPS)}

    return Row(
        name="start",
        title=f"start with {events:,} events; --help",
        peer="budget",
        goals=(rows.time("ready", "start to READY", 1.0), rows.time("help", "--help", 1.0)),
        ours=ours,
        theirs=lambda: {"ready": BUDGET_READY_MS, "help": BUDGET_HELP_MS},
    )


def memory(folder: Path, events: int) -> Row:
    """Resident memory: idle, what a large database adds, and what large bodies add at most."""

    def ours() -> Measured:
        with peers.premblyd() as daemon:
            idle_mb = resident_mb(daemon)
            _serve(daemon)
            served_mb = resident_mb(daemon)
            # proc(5): resets VmHWM
            Path(f"/proc/{daemon.process.pid}/clear_refs").write_text("5")
            asyncio.run(_upload(daemon))
            uploads_mb = _peak_mb(daemon) - served_mb
        with peers.premblyd(prepared(folder, events), actions=ACTIONS) as daemon:
            _serve(daemon)
            stored_mb = resident_mb(daemon) - served_mb
        return {"idle": idle_mb, "stored": max(0.0, stored_mb), "uploads": uploads_mb}

    budget = {"idle": BUDGET_IDLE_MB, "stored": BUDGET_STORED_MB, "uploads": BUDGET_UPLOADS_MB}
    return Row(
        name="memory",
        title="resident memory",
        peer="budget",
        goals=(
            rows.memory("idle", "idle"),
            rows.memory("stored", f"more, {events:,} events stored"),
            rows.memory("uploads", f"peak, {UPLOADS} clients send 5 MB each"),
        ),
        ours=ours,
        theirs=lambda: budget,
    )


def _ready_ms(folder: Path) -> float:
    with Premblyd(folder, actions=ACTIONS, stop_timeout="1s") as daemon:
        took_ms = start_ms(daemon)
        daemon.stop()
        return took_ms


def _help() -> None:
    command = [sys.executable, "-m", "premblyd", "--help"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def _serve(daemon: Premblyd) -> None:
    sent = requests(webhooks.ours, SERVED, secrets.token_hex(4))
    load.at_once(peers.address(daemon), sent, clients=16)


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


def resident_mb(daemon: Premblyd) -> float:
    resident: int = psutil.Process(daemon.process.pid).memory_info().rss
    return resident / MB


def _peak_mb(daemon: Premblyd) -> float:
    status = Path(f"/proc/{daemon.process.pid}/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    if found is None:
        raise load.LoadError("the kernel does not tell a process's peak memory")
    return int(found[1]) * 1024 / MB
