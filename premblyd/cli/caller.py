"""Who runs a command, and how: its output streams, and its configuration.

Python would tell of a failed write while it exits, as status 120 or a traceback, and differently
with and without PYTHONUNBUFFERED. Here a reader that hangs up (`premblyd show 1 | head -1`) has
seen enough: what else is printed is dropped, and the command goes on to its own end and status.
Any other failure, such as a full disk, is an error in words.
"""

import getpass
import io
import os
import sys
from pathlib import Path
from typing import Any

from premblyd.ground.errors import PremblydError

DEFAULT_CONFIG = Path("/etc/premblyd/premblyd.yaml")
CONFIG_VARIABLE = "PREMBLYD_CONFIG"
AS_SERVICE = "PREMBLYD_AS_SERVICE"  # in the environment of a check that root has the service do


class _Stream(io.FileIO):
    """A descriptor whose reader may leave. `must_arrive`: other failures are raised."""

    def __init__(self, descriptor: int, *, must_arrive: bool) -> None:
        super().__init__(descriptor, "w", closefd=False)
        self._must_arrive = must_arrive
        self._broken = False

    def write(self, data: Any) -> int:
        if self._broken:
            return len(data)
        try:
            return super().write(data)
        except OSError as error:
            self._broken = True
            if self._must_arrive and not isinstance(error, BrokenPipeError):
                raise PremblydError(f"Can't write the output: {error.strerror}.") from None
            return len(data)


def take_over() -> None:
    """Replace this process's standard output and error, unless somebody already did. Open what was
    closed when the process began (`2>&-`): else the database or a connection would get that
    number, and whatever is printed would go into it."""
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free
    if sys.stdout is sys.__stdout__:
        sys.stdout = _text(1, sys.stdout, must_arrive=True)
    if sys.stderr is sys.__stderr__:
        # An error of the stream that errors go to can't be shown anywhere.
        sys.stderr = _text(2, sys.stderr, must_arrive=False)


def flush() -> None:
    """Write out what is still in memory. Raise PremblydError when it can't be written."""
    sys.stdout.flush()
    sys.stderr.flush()


def _text(
    descriptor: int, before: "io.TextIOBase | Any | None", *, must_arrive: bool
) -> io.TextIOWrapper:
    raw = _Stream(descriptor, must_arrive=must_arrive)
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=before.encoding if before else "utf-8",
        errors="backslashreplace",  # file names hold any bytes, and a terminal may lack UTF-8
        line_buffering=descriptor == 2 or raw.isatty(),
    )


def actor() -> str:
    """Return who runs this command, for the record of operator actions."""
    user = os.environ.get("SUDO_USER")
    try:
        return user or getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"
