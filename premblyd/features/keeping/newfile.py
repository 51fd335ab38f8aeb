"""A new file with something private in it: for its owner alone, there whole or not at all, and
never in the place of another."""

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from premblyd.ground.errors import PremblydError

_MODE = 0o600


class CannotWriteError(PremblydError):
    """A file can't be written, or is there already. Nothing of it was left: name another."""


def require_new(path: Path) -> None:
    """Raise CannotWriteError when there is something at `path`, before any work is done for it."""
    if os.path.lexists(path):
        raise CannotWriteError(
            f"{path} is there already. Nothing was written over it: name another."
        )


def sync(*paths: Path) -> None:
    """Have on the disk what files hold, or which names folders have."""
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def new_file(path: Path) -> Iterator[BinaryIO]:
    """Give a file to be written, which is at `path` when all of it is on the disk. Raise
    CannotWriteError when something is there, or it can't be written."""
    require_new(path)
    try:
        descriptor, part = _opened(path.absolute().parent)
        try:
            with os.fdopen(descriptor, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
                _put(file.fileno(), part, path)
        finally:
            if part is not None:
                part.unlink(missing_ok=True)
    except OSError as error:
        raise CannotWriteError(f"{path} can't be written: {error.strerror}.") from None


def _opened(folder: Path) -> tuple[int, Path | None]:
    """Return a file of the folder's file system that has no name, so nothing of it is left whatever
    ends this process; where it can't have such, one with a name."""
    flags = os.O_WRONLY | os.O_CLOEXEC
    with contextlib.suppress(OSError):
        return os.open(folder, flags | os.O_TMPFILE, _MODE), None
    part = folder / f".premblyd-{secrets.token_hex(8)}.part"
    return os.open(part, flags | os.O_CREAT | os.O_EXCL, _MODE), part


def _put(descriptor: int, part: Path | None, path: Path) -> None:
    """Give a file its name, if nothing has it."""
    folder = os.open(path.absolute().parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        # With a folder, so that it is linkat: it follows /proc's link to a file without a name.
        source = part or f"/proc/self/fd/{descriptor}"
        os.link(source, path.name, src_dir_fd=folder, dst_dir_fd=folder)
        os.fsync(folder)
    except FileExistsError:
        require_new(path)
        raise
    finally:
        os.close(folder)
