"""Who runs a command, and how: its output streams, its name as typed, its configuration.

Python would tell of a failed write while it exits, as status 120 or a traceback, and differently
with and without PYTHONUNBUFFERED. Here a reader that hangs up (`premblyd show 1 | head -1`) has
seen enough: what else is printed is dropped, and the command goes on to its own end and status.
Any other failure, such as a full disk, is an error in words.
"""

import contextlib
import getpass
import grp
import io
import os
import re
import select
import shlex
import shutil
import stat
import sys
from pathlib import Path
from typing import Any

import click

from premblyd.ground.errors import PremblydError

NAME = "premblyd"
DEFAULT_CONFIG = Path("/etc/premblyd/premblyd.yaml")
CONFIG_VARIABLE = "PREMBLYD_CONFIG"
AS_SERVICE = "PREMBLYD_AS_SERVICE"  # in the environment of a check that root has the service do
_CONFIG = "premblyd.config"
_TYPED = re.compile(rf"(^|; |sudo (?:-u \S+ )?){NAME} (\S+)")


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


def wait_for_reader_to_leave(timeout_s: float) -> bool:
    """Return whether the reader of standard output has left; wait so long for that."""
    descriptor = sys.stdout.fileno()
    watch = select.poll()
    watch.register(descriptor, 0)  # a pipe without a reader is reported all the same
    return any(event & select.POLLERR for _, event in watch.poll(timeout_s * 1000))


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


def as_called(text: str) -> str:
    """Return a text with its `premblyd …` as this person types them."""
    return re.sub("`([^`]*)`", lambda found: f"`{command_as_called(found[1])}`", text)


def command_as_called(command: str) -> str:
    """Return a command line, perhaps with `sudo`, as this person types it: with `--config` where
    it would go by another configuration than this command."""

    def typed(found: re.Match[str]) -> str:
        before, which = found.groups()
        reads_it = which != "init"
        config = _config_typed(by_sudo=before.startswith("sudo")) if reads_it else ""
        return f"{before}{name()} {config}{which}"

    return _TYPED.sub(typed, command)


def go_by(context: click.Context, config_path: Path) -> None:
    """Note which configuration this command uses."""
    context.meta[_CONFIG] = config_path


def _config_typed(*, by_sudo: bool) -> str:
    """Return what names this command's configuration to another; nothing where that goes by it
    anyway. sudo drops the variable."""
    context = click.get_current_context(silent=True)
    path = context.meta.get(_CONFIG) if context is not None else None
    variable = None if by_sudo else os.environ.get(CONFIG_VARIABLE)
    if path in (None, Path(variable or DEFAULT_CONFIG)):
        return ""
    return f"--config {shlex.quote(str(path))} "


def is_service() -> bool:
    """Return whether root has this done as the service: no other rights would help it."""
    return AS_SERVICE in os.environ


def reading_group() -> str | None:
    """Return the group of the system that may read this command's configuration, and with it the
    record, where this user is no member."""
    path: Path | None = click.get_current_context().meta.get(_CONFIG)
    for place in (path, *path.absolute().parents) if path is not None else ():
        with contextlib.suppress(OSError, KeyError):  # in a folder that is closed to this user
            found = place.stat()
            is_open = found.st_mode & stat.S_IRGRP and found.st_gid not in (0, *os.getgroups())
            return grp.getgrgid(found.st_gid).gr_name if is_open else None
    return None


def name() -> str:
    """Return `premblyd`, or the path by which this process was started where that name alone would
    start another program or none: a virtual environment's, say."""
    started = sys.argv[0]
    if os.sep not in started or Path(started).name != NAME:  # python -m premblyd
        return NAME
    found = shutil.which(NAME)
    is_it = found is not None and os.path.realpath(found) == os.path.realpath(started)
    return NAME if is_it else shlex.quote(started)


def actor() -> str:
    """Return who runs this command, for the record of operator actions."""
    user = os.environ.get("SUDO_USER")
    try:
        return user or getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"
