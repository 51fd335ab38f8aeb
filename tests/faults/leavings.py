"""What the canary campaign leaves beside a record, or has left there by a crash: copies that hold
everybody, and memory in core dumps."""

import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

from tests.support.daemon import Premblyd

# Lets a process write its memory into a folder, if it does not forbid that itself.
DUMPING = """
import os, resource
os.chdir({folder!r})
_, hard = resource.getrlimit(resource.RLIMIT_CORE)
resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))
"""
CRASHING = """
import atexit
atexit.register(os.abort)
from premblyd.cli import main
main({arguments!r})
"""


def copies_of(place: Path) -> list[Path]:
    """Copy a SQLite database to where upgrades, `restore` and `move` leave such; return where."""
    aside = place.with_name(f"{place.name}.replaced-20260101T000000Z")
    aside.mkdir()
    names = f"{place.name}.before-upgrade", f"{aside.name}/{place.name}", "moved.db"
    found = [place.parent / name for name in names]
    for path in found:
        with closing(sqlite3.connect(place)) as source, closing(sqlite3.connect(path)) as target:
            source.backup(target)
    return found


def dumping(folder: Path) -> str:
    """Return Python that a process runs first, of which any dump is to be in a folder."""
    return DUMPING.format(folder=str(folder))


def are_seen(folder: Path) -> bool:
    """Return whether dumps are written into a folder here: another program may get them."""
    code = f"{dumping(folder)}os.abort()"
    subprocess.run([sys.executable, "-c", code], check=False, stderr=subprocess.DEVNULL)
    found = list(folder.iterdir())
    for path in found:
        path.unlink()
    return bool(found)


def crash(daemon: Premblyd, number: signal.Signals) -> None:
    """End a daemon by a signal at which the kernel dumps memory."""
    daemon.signal(number)
    assert daemon.process.wait() == -number


def crash_command(folder: Path, *arguments: object) -> None:
    """Run a command that crashes when it has done its work."""
    code = dumping(folder) + CRASHING.format(arguments=[*map(str, arguments)])
    environ = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(
        [sys.executable, "-c", code], stdout=subprocess.DEVNULL, env=environ, check=False
    )
    assert done.returncode == -signal.SIGABRT
