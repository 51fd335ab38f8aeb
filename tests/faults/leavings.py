"""What a crash in the canary campaign may leave: memory in core dumps."""

import os
import signal
import subprocess
import sys
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
