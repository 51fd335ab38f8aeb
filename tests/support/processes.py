"""A real premblyd: its configuration in a folder, its process, its log, and signed webhooks."""

import http.client
import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from signal import SIGKILL, SIGTERM, Signals
from types import TracebackType
from typing import Any, Self, TypeVar

import psutil

from premblyd.prembly import signature
from tests.conftest import rows

T = TypeVar("T")
KEY = "the-key-of-the-tests"
PATH = "/webhooks/prembly"
# Root, but one whom a file's mode stops as it stops others.
OBEYING_MODES = (
    ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] if os.geteuid() == 0 else []
)
ONCE = {"attempts": 1}
AT_ONCE = {"attempts": 3, "first_delay": "0ms"}


def configuration(**changes: Any) -> dict[str, Any]:
    """Return a configuration, as data; `endpoint` changes keys of its only endpoint."""
    endpoint = {"name": "prembly", "path": PATH, "keys": {"live": KEY}}
    return {
        "listen": "127.0.0.1:0",
        "database": "sqlite:///premblyd.db",
        "log": {"format": "json"},
        "endpoints": [endpoint | changes.pop("endpoint", {})],
        **changes,
    }


def shell(name: str, script: str, *codes: str, **more: Any) -> dict[str, Any]:
    """Return an action that runs `script`."""
    return {"name": name, "response_codes": list(codes) or ["*"], "shell": script, **more}


def signed(body: bytes, key: str = KEY, **more: str) -> dict[str, str]:
    """Return the headers with which Prembly sends `body`; `more` adds some, `_` standing for -."""
    own = {"Content-Type": "application/json", signature.HEADER: signature.sign(body, key)}
    return own | {name.replace("_", "-"): value for name, value in more.items()}


def wait_until(check: Callable[[], T], timeout_s: float = 10) -> T:
    """Return what `check` returns as soon as that is true. Fail after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while not (found := check()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)
    return found


def runs(process: psutil.Process) -> bool:
    """Return whether it still runs: a zombie does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class _Connection(http.client.HTTPConnection):
    """To a TCP port, or to a unix socket's path."""

    def __init__(self, address: str) -> None:
        self._unix_path = address.removeprefix("unix:") if address.startswith("unix:") else ""
        super().__init__("localhost" if self._unix_path else address, timeout=10)

    def connect(self) -> None:
        if not self._unix_path:
            return super().connect()
        self.sock = socket.socket(socket.AF_UNIX)
        return self.sock.connect(self._unix_path)


def request(address: str, method: str, path: str, body: bytes, headers: dict[str, str]) -> Answer:
    """Send one request. Raise OSError or HTTPException when no answer comes."""
    connection = _Connection(address)
    try:
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        return Answer(answer.status, dict(answer.getheaders()), answer.read())
    finally:
        connection.close()


class Premblyd:
    """A daemon in a folder of its own. Leaving the context kills it and its hooks."""

    def __init__(self, folder: Path, **changes: Any) -> None:
        self.folder = folder
        self.config = folder / "premblyd.yaml"
        self.database = folder / "premblyd.db"
        self._log = folder / "log"
        self._log.touch()
        self._read_from = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._hooks: list[psutil.Process] = []
        self.configure(**changes)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None
    ) -> None:
        if self._process is not None:
            self.kill()
        for hook in self._hooks:
            if runs(hook):
                hook.kill()

    def configure(self, **changes: Any) -> None:
        self.config.write_text(json.dumps(configuration(**changes), indent=1))

    def start(self, before: str = "", pass_fds: Sequence[int] = (), **environ: str) -> Self:
        """Start it and wait until it listens. `before` is Python that it runs first: a fault."""
        self._read_from = self._log.stat().st_size
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command(before),
                stderr=log,
                env=os.environ | environ,
                pass_fds=pass_fds,
            )
        wait_until(lambda: "daemon.started" in self.log_text() or self._process_ended())
        lines = [line for line in self.log_text().splitlines() if "daemon.started" in line]
        assert lines, self.log_text()
        found = re.search(r"(127\.0\.0\.1:|unix:)[^'\"]+", lines[0])
        self.address = found[0] if found else ""
        return self

    def fail_to_start(
        self, before: str = "", pass_fds: Sequence[int] = (), *, prefix: Sequence[str] = ()
    ) -> tuple[int, str]:
        """Start it, and return its exit status and what it said."""
        ended = subprocess.run(
            [*prefix, *self._command(before)],
            capture_output=True,
            text=True,
            timeout=30,
            pass_fds=pass_fds,
        )
        assert not ended.stdout
        return ended.returncode, ended.stderr

    def _command(self, before: str) -> list[str]:
        run = ["-c", f"{before}\nfrom premblyd.cli import main\nmain()"] if before else []
        return [sys.executable, *(run or ["-m", "premblyd"]), "--config", str(self.config), "serve"]

    def _process_ended(self) -> bool:
        return self.process.poll() is not None

    @property
    def process(self) -> "subprocess.Popen[bytes]":
        assert self._process is not None
        return self._process

    def send(self, body: bytes, **more: str) -> Answer:
        """Send a signed webhook."""
        return request(self.address, "POST", PATH, body, signed(body, **more))

    def signal(self, number: Signals) -> None:
        self._hooks += self.hooks()
        self.process.send_signal(number)

    def stop(self, number: Signals = SIGTERM) -> int:
        """End it gracefully and return its exit status."""
        self.signal(number)
        return self.process.wait(20)

    def kill(self) -> None:
        """kill -9, if it still runs."""
        self.signal(SIGKILL)
        self.process.wait(10)

    def hooks(self) -> list[psutil.Process]:
        """Return its hooks' processes that run now."""
        try:
            return psutil.Process(self.process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []

    def rows(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        return rows(self.database, sql, *values)

    def wait_for_rows(self, expected: list[tuple[Any, ...]], sql: str) -> None:
        """Wait until `sql` gives `expected`."""
        deadline = time.monotonic() + 10
        while (found := self.rows(sql)) != expected:
            assert time.monotonic() < deadline, f"{found} instead of {expected}"
            time.sleep(0.01)

    def log_text(self) -> str:
        """Return what this process has logged."""
        with self._log.open() as log:
            log.seek(self._read_from)
            return log.read()

    def log(self, event: str) -> list[dict[str, Any]]:
        """Return its JSON log lines called `event`."""
        lines = [json.loads(line) for line in self.log_text().splitlines()]
        return [line for line in lines if line["event"] == event]
