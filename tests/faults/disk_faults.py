"""The faults of a disk, each as a context: it lasts as long as that."""

import contextlib
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

from tests.faults.daemon import Victim, folder
from tests.support.needs import UnavailableError

HOLD_LOCK = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=30)
connection.execute("BEGIN IMMEDIATE")
print("locked", flush=True)
sys.stdin.read()
"""
Fault = Callable[[Victim], AbstractContextManager[None]]


@contextlib.contextmanager
def small_disk(size: str = "4m") -> Iterator[Path]:
    """Mount a tmpfs, which needs root. Raise UnavailableError where that is not allowed."""
    with folder() as at:
        disk = at / "disk"
        disk.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(disk)]
        if subprocess.run(command, capture_output=True).returncode:
            raise UnavailableError("no tmpfs can be mounted")
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
                strace.wait()

    return fault


@contextlib.contextmanager
def locked(victim: Victim) -> Iterator[None]:
    """Hold the database's write lock in another process."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD_LOCK, str(victim.database)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"locked\n"
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
