"""Who is measured: premblyd and its peers, each a process on a free port of the loopback."""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from tests.bench.load import Address
from tests.bench.webhooks import PEER_HEADER
from tests.support.daemon import Premblyd
from tests.support.ports import free_port
from tests.support.waiting import wait_until
from tests.support.webhooks import KEY

ROOT = Path(__file__).parents[2]
FINISHED = b"finished handling"


@contextlib.contextmanager
def premblyd(
    folder: Path | None = None, *, environ: Mapping[str, Any] | None = None, **config: Any
) -> Iterator[Premblyd]:
    """Run premblyd with its own new folder, or with `folder` and the database in it; with `environ`
    beside the environment. It is executed: a forked one would be this checkout's, whatever
    PYTHONPATH says, and have memory that its parent made."""
    with contextlib.ExitStack() as stack:
        if folder is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        daemon = stack.enter_context(Premblyd(folder, stop_timeout="1s", **config))
        yield daemon.start(is_executed=True, **environ or {})
        daemon.stop()


def address(daemon: Premblyd) -> Address:
    host, _, port = daemon.address.rpartition(":")
    return host, int(port)


def processor_s(pid: int, *, with_children: bool = True) -> float:
    """Return how long a process and its workers have had the processor, in user and system time."""
    own = psutil.Process(pid)
    each = [own, *own.children(recursive=True)] if with_children else [own]
    return sum(sum(process.cpu_times()[:2]) for process in each)


class Server(NamedTuple):
    """Where it listens, and its process."""

    address: str
    pid: int


@contextlib.contextmanager
def bare() -> Iterator[Server]:
    """Run tests.bench.bare."""
    command = [sys.executable, "-m", "tests.bench.bare"]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, cwd=ROOT, **pipes) as process:
        try:
            if process.stdout is None:
                raise TypeError("it tells its port over a pipe")
            yield Server(f"127.0.0.1:{int(process.stdout.readline())}", process.pid)
        finally:
            process.kill()


class Webhook:
    """adnanh/webhook with one hook that checks the signature and runs a command."""

    def __init__(self, port: int, log: Path, pid: int) -> None:
        self.address: Address = ("127.0.0.1", port)
        self.pid = pid
        self._log = log

    @property
    def finished(self) -> int:
        """How many runs have ended, by its log."""
        return self._log.read_bytes().count(FINISHED)


@contextlib.contextmanager
def webhook(command: Sequence[str], *, payload_after: str = "") -> Iterator[Webhook]:
    """Run adnanh/webhook with a hook that runs `command`; the payload is an argument after the
    one that is `payload_after`."""
    program = shutil.which("webhook")
    if program is None:
        raise FileNotFoundError("webhook is missing: apt-get install webhook")
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        folder.joinpath("hooks.json").write_text(json.dumps([_hook(command, payload_after)]))
        port = free_port()
        log = stack.enter_context(folder.joinpath("log").open("wb"))
        # Verbose, because only its log tells when a run has ended. premblyd logs as much.
        options = ["-hooks", "hooks.json", "-ip", "127.0.0.1", "-port", str(port), "-verbose"]
        process = stack.enter_context(
            subprocess.Popen([program, *options], cwd=folder, stdout=log, stderr=log)
        )
        stack.callback(process.kill)
        wait_until(lambda: _listens(port))
        yield Webhook(port, folder / "log", process.pid)


@contextlib.contextmanager
def flask(threads: int) -> Iterator[Server]:
    """Run tests.bench.durable by gunicorn with 4 workers of so many threads, and give its address.
    With one thread gunicorn closes each connection after its answer, with more it keeps them."""
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        port = free_port()
        log = stack.enter_context(Path(name, "log").open("wb"))
        options = ["--workers", "4", "--bind", f"127.0.0.1:{port}", "--threads", str(threads)]
        process = stack.enter_context(
            subprocess.Popen(
                [sys.executable, "-m", "gunicorn", *options, "tests.bench.durable:application"],
                cwd=ROOT,
                env=os.environ | {"DURABLE_PEER": f"{name}/peer.db"},
                stdout=log,
                stderr=log,
            )
        )
        stack.callback(process.wait)
        stack.callback(process.terminate)
        wait_until(lambda: Path(name, "log").read_bytes().count(b"Booting worker") == 4)
        yield Server(f"127.0.0.1:{port}", process.pid)


def _hook(command: Sequence[str], payload_after: str) -> dict[str, Any]:
    arguments = []
    for argument in command[1:]:
        arguments.append({"source": "string", "name": argument})
        if argument == payload_after:
            arguments.append({"source": "entire-payload"})
    return {
        "id": "bench",
        "execute-command": shutil.which(command[0]),
        "pass-arguments-to-command": arguments,
        "trigger-rule-mismatch-http-response-code": 401,
        "trigger-rule": {
            "match": {
                "type": "payload-hmac-sha256",
                "secret": KEY,
                "parameter": {"source": "header", "name": PEER_HEADER},
            }
        },
    }


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
