"""A real premblyd: its configuration in a folder, its process and its log."""

import contextlib
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from signal import SIGHUP, SIGKILL, SIGTERM, Signals
from typing import IO, Any, Self

import psutil

from premblyd.feature import installed
from premblyd.ground.databases import DatabaseAddress, file_of
from tests.support.configuration import configuration
from tests.support.database import new_place, rows, settings_of
from tests.support.forking import Forked
from tests.support.requests import Answer, request
from tests.support.waiting import wait_until
from tests.support.webhooks import PATH, signed

# Python that each runs first. On a busy machine few seconds are nothing: neither for a page of the
# console, nor for an answer, nor for one of Prembly's, nor for who is accepted while it stops.
PATIENT = """
from premblyd.receive import listening
from premblyd.receive.server import Receiver
listening.WAITING_S = 3600
def patiently(configure, key, usual):
    def do(own, settings, *more):
        if getattr(settings, key, None) == usual:
            settings = settings.model_copy(update={key: 3_600_000})
        return configure(own, settings, *more)
    return do
Receiver.configure = patiently(Receiver.configure, "answer_within_ms", 8_000)
"""
PATIENT_FEATURES = {
    "asking": """
from premblyd.features.asking.client import Inquirer
Inquirer.configure = patiently(Inquirer.configure, "timeout_ms", 10_000)
""",
    "reading": """
from premblyd.features.reading.readers import Readers
Readers.__init__.__kwdefaults__["time_limit_s"] = 3600
""",
}
PATIENT += "".join(PATIENT_FEATURES.get(feature, "") for feature in installed())


class Premblyd:
    """A daemon in a folder of its own. Leaving the context kills it and its hooks."""

    def __init__(
        self, folder: Path, *, place: DatabaseAddress | None = None, **changes: Any
    ) -> None:
        """`place`: a database that it shares with other daemons; else it gets one of its own."""
        self.folder = folder
        self.config = folder / "premblyd.yaml"
        self.place = place or new_place(folder)
        self._log = folder / "log"
        self._log.touch()
        self._read_from = 0
        self._process: subprocess.Popen[bytes] | Forked | None = None
        self._hooks: list[psutil.Process] = []
        self.configure(**changes)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self.kill()
        for hook in self._hooks:
            with contextlib.suppress(psutil.NoSuchProcess):  # it has ended
                hook.kill()

    @property
    def database(self) -> Path:
        """The file of a database that is in one."""
        path = file_of(self.place)
        assert path is not None
        return path

    def configure(self, **changes: Any) -> None:
        settings = settings_of(self.place) | changes
        self.config.write_text(json.dumps(configuration(**settings), indent=1))

    def start(
        self,
        before: str = "",
        pass_fds: Sequence[int] = (),
        prefix: Sequence[str] = (),
        is_executed: bool = False,
        **environ: str,
    ) -> Self:
        """Start it and wait until it listens. `before` is Python that it runs first: a fault.
        `prefix` is the program that starts it. `is_executed`: by a start of Python, for a test that
        looks at its start, or at what the kernel tells of it."""
        self._read_from = self._log.stat().st_size
        with self._log.open("ab") as log:
            how: dict[str, Any] = {"pass_fds": pass_fds, "prefix": prefix, "environ": environ}
            self._process = self.spawn(log, before, is_executed=is_executed, **how)
        wait_until(lambda: "daemon.started" in self.log_text() or self._process_ended())
        lines = [line for line in self.log_text().splitlines() if "daemon.started" in line]
        assert lines, self.log_text()
        found = re.search(r"(127\.0\.0\.1:|unix:)[^'\"]+", lines[0])
        self.address = found[0] if found else ""
        return self

    def fail_to_start(
        self, before: str = "", pass_fds: Sequence[int] = (), *, prefix: Sequence[str] = ()
    ) -> tuple[int, str]:
        """Start it, and return its exit status and what it prints."""
        with tempfile.TemporaryFile("w+") as told:
            process = self.spawn(told, before, stdout=told, pass_fds=pass_fds, prefix=prefix)
            try:
                code = process.wait()
            finally:
                process.kill()
            told.seek(0)
            return code, told.read()

    def spawn(
        self,
        stderr: int | IO[Any],
        before: str = "",
        *,
        stdout: int | IO[Any] = 1,
        pass_fds: Sequence[int] = (),
        prefix: Sequence[str] = (),
        is_executed: bool = False,
        environ: Mapping[str, str] | None = None,
    ) -> "subprocess.Popen[bytes] | Forked":
        """Return a process of it, which nobody ends but the caller."""
        arguments = ["--config", str(self.config), "serve"]
        env = os.environ | (environ or {})
        given: dict[str, Any] = {"stdout": stdout, "stderr": stderr, "pass_fds": pass_fds}
        if not (is_executed or prefix):
            return Forked(arguments, environ=env, before=PATIENT + before, **given)
        run = ["-c", f"{before}\nfrom premblyd.cli import main\nmain()"] if before else []
        command = [*prefix, sys.executable, *(run or ["-m", "premblyd"]), *arguments]
        return subprocess.Popen(command, env=env, **given)

    def _process_ended(self) -> bool:
        return self.process.poll() is not None

    @property
    def process(self) -> "subprocess.Popen[bytes] | Forked":
        assert self._process is not None
        return self._process

    def send(self, body: bytes, **more: str) -> Answer:
        """Send a signed webhook."""
        return request(self.address, "POST", PATH, body, signed(body, **more))

    def signal(self, number: Signals) -> None:
        self._hooks += self.hooks()
        self.process.send_signal(number)

    def reload(self, **changes: Any) -> None:
        """Let it read its file again, with these `changes` if there are any, and use it."""
        if changes:
            self.configure(**changes)
        before = len(self.log("config.reloaded"))
        self.signal(SIGHUP)
        wait_until(lambda: len(self.log("config.reloaded")) > before)

    def stop(self, number: Signals = SIGTERM) -> int:
        """End it gracefully and return its exit status."""
        self.signal(number)
        return self.process.wait()

    def kill(self) -> None:
        """kill -9, if it still runs."""
        self.signal(SIGKILL)
        self.process.wait()

    def hooks(self) -> list[psutil.Process]:
        """Return its hooks' processes that run now."""
        try:
            return psutil.Process(self.process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []

    def rows(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        return rows(self.place, sql, *values)

    def wait_for_rows(self, expected: list[tuple[Any, ...]], sql: str) -> None:
        """Wait until `sql` gives `expected`."""
        try:
            wait_until(lambda: self.rows(sql) == expected)
        except AssertionError:
            assert self.rows(sql) == expected  # shows the difference

    def log_text(self) -> str:
        """Return what this process has logged: whole lines, as it may be writing one."""
        with self._log.open() as log:
            log.seek(self._read_from)
            lines, end, _ = log.read().rpartition("\n")
            return lines + end

    def log(self, event: str) -> list[dict[str, Any]]:
        """Return its JSON log lines called `event`, of those that are written by now."""
        lines = [json.loads(line) for line in self.log_text().splitlines()]
        return [line for line in lines if line["event"] == event]

    def logged(self, event: str) -> list[dict[str, Any]]:
        """Wait until a line called `event` is written: a thread writes the log, after what it tells
        of. Return all of these."""
        return wait_until(lambda: self.log(event))
