"""What the disk does to a daemon: full, failing, locked, gone, read-only.

    python -m tests.faults.disk [--lock-s 30]

Under each fault webhooks go on coming. None is acknowledged that is not on the disk, the health
check tells and answers in time, and when the fault goes the daemon recovers by itself.
"""

import argparse
import contextlib
import itertools
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults.daemon import RESPONSIVE_S, UnavailableError, Victim, folder
from tests.processes import shell, wait_until

RECOVERY_S = 8.0  # a writer that waits for a lock waits 5 s
SENDERS = 3
HOLD_LOCK = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=30)
connection.execute("BEGIN IMMEDIATE")
print("locked", flush=True)
sys.stdin.read()
"""
Fault = Callable[[Victim], AbstractContextManager[None]]


@dataclass
class Endured:
    """How a daemon fared under a fault."""

    answers: Counter[int] = field(default_factory=Counter)  # 0: none
    health: Counter[int] = field(default_factory=Counter)
    slowest_health_s: float = 0.0
    recovered_after_s: float = 0.0
    accepted: dict[str, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return (
            f"answers {dict(self.answers)}, healthz {dict(self.health)}, at most"
            f" {self.slowest_health_s:.2f} s; recovered after {self.recovered_after_s:.2f} s"
        )


def endure(victim: Victim, fault: Fault, seconds: float) -> Endured:
    """Send webhooks before, under and after `fault`, and return how it went. Under it means
    `seconds` long, and until the first refusal."""
    endured = Endured()
    numbers = itertools.count()
    _send(victim, endured, next(numbers))
    endured.answers.clear()
    stopping = threading.Event()
    threads = [
        threading.Thread(target=_keep_sending, args=(victim, endured, numbers, stopping))
        for _ in range(SENDERS)
    ]
    threads.append(threading.Thread(target=_keep_asking, args=(victim, endured, stopping)))
    pid = victim.process.pid
    with fault(victim):
        for thread in threads:
            thread.start()
        time.sleep(seconds)
        with contextlib.suppress(AssertionError):
            wait_until(lambda: endured.answers[503] and endured.health[503], 12)
        stopping.set()
        if endured.slowest_health_s > RESPONSIVE_S:
            endured.problems.append("the health check was slow")
    start = time.monotonic()
    for thread in threads:
        thread.join(25)
    while victim.healthz()[0] != 200 and time.monotonic() - start < RECOVERY_S:
        time.sleep(0.05)
    endured.recovered_after_s = time.monotonic() - start
    _send(victim, endured, next(numbers))
    if f"{next(numbers) - 1:06}" not in endured.accepted:
        endured.problems.append("it did not recover")
    if victim.process.poll() is not None or victim.process.pid != pid:
        endured.problems.append("it did not survive")
    _judge(victim, endured)
    return endured


def _judge(victim: Victim, endured: Endured) -> None:
    stored = dict(victim.rows("SELECT token, id FROM event"))
    lost = [one for one in endured.accepted.items() if stored.get(one[0]) != one[1]]
    endured.problems += [f"acknowledged, not stored: {one}" for one in lost]
    if not endured.answers[503]:
        endured.problems.append("nothing was refused: was that a fault?")
    if not endured.health[503]:
        endured.problems.append("the health check never told")
    if unexpected := set(endured.answers) - {0, 200, 503}:
        endured.problems.append(f"answers {unexpected}")
    with contextlib.suppress(AssertionError):
        wait_until(lambda: not victim.rows(_UNFINISHED)[0][0], RECOVERY_S)
    if victim.rows(_UNFINISHED)[0][0]:
        endured.problems.append("a delivery is stuck")
    endured.problems += victim.complaints()[:3]


_UNFINISHED = "SELECT count(*) FROM delivery WHERE state IN ('pending', 'running')"


def _send(victim: Victim, endured: Endured, number: int) -> None:
    token = f"{number:06}"
    answer = victim.try_to_send(b'{"reference": "x"}' + b" " * 2000, token=token)
    endured.answers[answer.status if answer else 0] += 1
    if answer and answer.status == 200:
        endured.accepted[token] = answer.json["event"]
    if answer and answer.status == 503 and not answer.headers.get("Retry-After"):
        endured.problems.append("503 without Retry-After")


def _keep_sending(
    victim: Victim, endured: Endured, numbers: Iterator[int], stopping: threading.Event
) -> None:
    while not stopping.wait(0.02):
        _send(victim, endured, next(numbers))


def _keep_asking(victim: Victim, endured: Endured, stopping: threading.Event) -> None:
    while not stopping.wait(0.1):
        status, seconds = victim.healthz()
        endured.health[status] += 1
        endured.slowest_health_s = max(endured.slowest_health_s, seconds)


@contextlib.contextmanager
def small_disk(size: str = "4m") -> Iterator[Path]:
    """Mount a tmpfs. Raise UnavailableError where that is not allowed."""
    with folder() as at:
        disk = at / "disk"
        disk.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(disk)]
        if subprocess.run(command, capture_output=True).returncode:
            raise UnavailableError("mounting a tmpfs needs root")
        try:
            yield disk
        finally:
            subprocess.run(["umount", "--lazy", str(disk)], check=True)


@contextlib.contextmanager
def full(victim: Victim) -> Iterator[None]:
    """Fill what is left of the disk that holds the database."""
    filler = victim.database.parent / "filler"
    with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
        while file.write(bytes(4096)):
            continue
    try:
        yield
    finally:
        filler.unlink()


def failing(*calls: str) -> Fault:
    """Make system calls of the daemon fail, as strace's `inject` describes them."""

    @contextlib.contextmanager
    def fault(victim: Victim) -> Iterator[None]:
        if shutil.which("strace") is None:
            raise UnavailableError("strace is not installed")
        inject = [word for call in calls for word in ("-e", f"inject={call}")]
        names = ",".join(call.partition(":")[0] for call in calls)
        command = ["strace", "-f", "-o", "/dev/null", "-e", f"trace={names}", *inject]
        with subprocess.Popen(
            [*command, "-p", str(victim.process.pid)], stderr=subprocess.PIPE, text=True
        ) as strace:
            attached = (strace.stderr.readline() if strace.stderr else "").strip()
            if "attached" not in attached:
                raise UnavailableError(f"strace can't attach: {attached}")
            try:
                yield
            finally:
                strace.terminate()
                strace.wait(10)

    return fault


@contextlib.contextmanager
def locked(victim: Victim) -> Iterator[None]:
    """Hold the database's write lock in another process."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD_LOCK, str(victim.database)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as holder:
        assert holder.stdout and holder.stdout.readline() == b"locked\n"
        yield
        holder.communicate()


@contextlib.contextmanager
def moved(victim: Victim) -> Iterator[None]:
    """Move the database file away, and back."""
    away = victim.database.with_name("away")
    victim.database.rename(away)
    try:
        yield
    finally:
        away.rename(victim.database)


@contextlib.contextmanager
def replaced(victim: Victim) -> Iterator[None]:
    """Put another database in the place of the file, such as a copy, and put the file back."""
    other = victim.database.with_name("other")
    with contextlib.closing(sqlite3.connect(other)) as connection:
        connection.execute("CREATE TABLE other (id)")
    with moved(victim):
        other.rename(victim.database)
        yield
        victim.database.unlink()


FAULTS: dict[str, tuple[Fault, float]] = {
    "every fsync fails (EIO)": (failing("fdatasync:error=EIO", "fsync:error=EIO"), 1),
    "every write fails (ENOSPC)": (failing("pwrite64:error=ENOSPC"), 1),
    "every write fails (EIO)": (failing("pwrite64:error=EIO"), 1),
    "the file system became read-only (EROFS)": (failing("pwrite64:error=EROFS"), 1),
    "the database file is moved away": (moved, 0.5),
    "the database file is replaced": (replaced, 0.5),
}


def on_full_disk(disk: Path) -> Endured:
    """Fill the disk under a running daemon."""
    with Victim(disk.parent, database=f"sqlite:///{disk}/premblyd.db", actions=[_ACTION]) as victim:
        victim.database = disk / "premblyd.db"
        victim.start()
        return endure(victim, full, 1)


def on(at: Path, fault: Fault, seconds: float) -> Endured:
    """Make a fault under a running daemon."""
    with Victim(at, actions=[_ACTION]) as victim:
        victim.start()
        return endure(victim, fault, seconds)


_ACTION = shell("true", "true", retry={"attempts": 50, "first_delay": "50ms", "max_delay": "1s"})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lock-s", type=float, default=30)
    arguments = parser.parse_args()
    problems = []
    print(f"as {'root' if os.geteuid() == 0 else 'a user'}")
    faults = FAULTS | {f"locked for {arguments.lock_s:g} s": (locked, arguments.lock_s)}
    for name, (fault, seconds) in faults.items():
        with folder() as at:
            endured = on(at, fault, seconds)
        print(f"{name}: {endured}", flush=True)
        problems += [f"{name}: {problem}" for problem in endured.problems]
    with small_disk() as disk:
        endured = on_full_disk(disk)
    print(f"disk full: {endured}")
    problems += [f"disk full: {problem}" for problem in endured.problems]
    if problems:
        raise SystemExit("\n".join(problems))


if __name__ == "__main__":
    main()
