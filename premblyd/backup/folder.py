"""The folder with the copies of a record: which are in it, and what a run that was killed left."""

import contextlib
import fcntl
import io
import os
import re
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from premblyd import times
from premblyd.errors import LacksRightsError, NotFoundError, PremblydError, TryAgainError

SEALED = ".age"
_NAME = re.compile(r"premblyd-(\d{8}T\d{6}Z)(?:-(\d{1,4}))?\.(db|dump)(\.age)?")
_PART = re.compile(r"\.premblyd-[0-9a-f]{16}\.part")


_MODE = 0o600
# So much waits for the disk at most. With more, a daemon's commit would wait for all of it.
_UNSYNCED_BYTES = 8 << 20
_BUFFER_BYTES = 1 << 20


class FolderError(PremblydError):
    """The folder for copies can't be used. Make it, mount its disk, or name another."""


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Copy:
    """A copy that is whole. They stand in the order in which they were made."""

    made: str  # when, UTC: 20261127T071500Z
    number: int  # of those of one second
    path: Path
    suffix: str  # db: a SQLite database; dump: of pg_dump's
    is_sealed: bool


def copies(folder: Path, suffix: str) -> list[Copy]:
    """Return the copies in a folder, the oldest first. Raise FolderError when it can't be read."""
    found = []
    for path in _entries(folder):
        match = _NAME.fullmatch(path.name)
        if match and match[3] == suffix and not path.is_symlink() and path.is_file():
            number = int(match[2] or 1)
            is_sealed = match[4] is not None
            found.append(
                Copy(made=match[1], number=number, path=path, suffix=suffix, is_sealed=is_sealed)
            )
    return sorted(found)


def chosen(folder: Path, suffix: str, name: str | None) -> Copy:
    """Return the copy of this name, or the newest. Raise NotFoundError when there is none."""
    found = copies(folder, suffix)
    if name is not None:
        found = [copy for copy in found if copy.path.name == name]
    if not found:
        what = f"no copy {name}" if name is not None else "no copy"
        raise NotFoundError(
            f"There is {what} in {folder}: `premblyd backup` names them"
            f" premblyd-20260131T021500Z.{suffix}, and {SEALED} behind it if they are sealed."
        )
    return found[-1]


@contextlib.contextmanager
def held(folder: Path) -> Iterator[None]:
    """Let nobody else back up into a folder for as long as it is entered. Raise TryAgainError when
    somebody does, FolderError when it can't be used."""
    with explained(folder):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with explained(folder):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


def clean(folder: Path) -> list[Path]:
    """Remove what runs left in a folder that were killed; who calls holds it, so nobody writes
    there now. Return what could not be removed."""
    left = []
    for path in _entries(folder):
        if _PART.fullmatch(path.name):
            try:
                path.unlink()
            except OSError:
                left.append(path)
    return left


class _Steady(io.FileIO):
    """A file that is brought onto the disk while it is written, and not all of it at the end."""

    _unsynced = 0

    def write(self, data: object) -> int:
        count: int = super().write(data)  # type: ignore[arg-type]
        self._unsynced += count
        if self._unsynced >= _UNSYNCED_BYTES:
            os.fdatasync(self.fileno())
            self._unsynced = 0
        return count


@contextlib.contextmanager
def written(path: Path) -> Iterator[BinaryIO]:
    """Give a new file, for its owner alone, which gets this name when all of it is on the disk."""
    part = path.with_name(f".premblyd-{secrets.token_hex(8)}.part")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _MODE)
    try:
        with io.BufferedWriter(_Steady(descriptor, "wb"), _BUFFER_BYTES) as out:
            yield cast(BinaryIO, out)
            out.flush()
            os.fsync(out.fileno())
        part.rename(path)
    finally:
        part.unlink(missing_ok=True)


def new_name(folder: Path, at_ms: int, suffix: str, *, is_sealed: bool) -> Path:
    """Return a name for a copy that was begun at this time, which nothing has."""
    stem, number = f"premblyd-{times.for_file_name(at_ms)}", 1
    ending = f".{suffix}{SEALED if is_sealed else ''}"
    path = folder / f"{stem}{ending}"
    while os.path.lexists(path):
        number += 1
        path = folder / f"{stem}-{number}{ending}"
    return path


def _entries(folder: Path) -> list[Path]:
    with explained(folder):
        return sorted(folder.iterdir())


@contextlib.contextmanager
def explained(folder: Path) -> Iterator[None]:
    """Raise what is wrong with a folder in words."""
    try:
        yield
    except BlockingIOError:
        raise TryAgainError(
            f"Another backup writes into {folder}. Wait until it has ended."
        ) from None
    except FileNotFoundError:
        raise FolderError(
            f"There is no folder {folder}. Make it (`mkdir -m 0700`), or mount its disk."
        ) from None
    except PermissionError:
        raise LacksRightsError(f"You may not use the folder {folder}.") from None
    except OSError as error:
        raise FolderError(f"The folder {folder} can't be used: {error.strerror}.") from None


@contextlib.contextmanager
def writing(folder: Path, failed: str, left: str = "") -> Iterator[None]:
    """Raise in words why what is written into a folder has `failed`, and what is `left` then."""
    try:
        yield
    except PermissionError:
        raise LacksRightsError(f"You may not write into {folder}.") from None
    except OSError as error:
        raise PremblydError(f"{failed}: {error.strerror}.{left}") from None
