"""Making a copy of the record while daemons work on it, and removing old ones. The copy has its
name when all of it is on the disk. What is sealed is sealed while it is written: nothing of it is
in clear in any file, whenever this is killed."""

import contextlib
import io
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from premblyd.agefiles import require_recipients, sealed
from premblyd.backup import folder as folders
from premblyd.engines.backend import Backend
from premblyd.engines.besides import Copied
from premblyd.engines.engine import Database
from premblyd.errors import LacksRightsError, PremblydError
from premblyd.keep import operators

_MODE = 0o600
# So much waits for the disk at most. With more, a daemon's commit would wait for all of it.
_UNSYNCED_BYTES = 8 << 20
_BUFFER_BYTES = 1 << 20


class CannotBackUpError(PremblydError):
    """The copy could not be written; nothing of it was left. The copies of before stay."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A copy that was made, and the older ones that were removed then. `left`: what could not be
    removed."""

    path: Path
    at_ms: int
    bytes: int
    is_sealed: bool
    removed: Sequence[Path]
    left: Sequence[Path]


def make(
    backed: Backend,
    folder: Path,
    recipients: Sequence[str],
    keep: int | None,
    now_ms: int,
    tell: Callable[[Copied], None],
    *,
    copy_keys: Callable[[Path], None] | None = None,
) -> Made:
    """Make a copy in the folder, sealed to the recipients if there are any, and keep so many of
    them, this one with them; None: all. `copy_keys`: it is without events' keys, which this copies
    when it is there; else it can't be opened, and no older one goes for it. Raise PremblydError
    when it can't be made."""
    without_keys = copy_keys is not None
    require_recipients(recipients)
    with folders.held(folder):
        left = folders.clean(folder)
        with _written(folder) as (out, part):
            if recipients:
                with sealed(out, recipients) as source:
                    backed.write_copy(source, tell, without_keys=without_keys)
            else:
                backed.write_copy(out, tell, without_keys=without_keys)
            out.flush()
            os.fsync(out.fileno())
            is_sealed = bool(recipients)
            path = folders.new_name(folder, now_ms, backed.copy_suffix, is_sealed=is_sealed)
            size = os.fstat(out.fileno()).st_size
            part.rename(path)
        folders.sync(folder)
        if copy_keys is not None:
            copy_keys(path)
        removed, stays = _remove_old(folder, path, backed.copy_suffix, keep)
    return Made(
        path=path,
        at_ms=now_ms,
        bytes=size,
        is_sealed=is_sealed,
        removed=removed,
        left=[*left, *stays],
    )


def write_down(database: Database, actor: str, made: Made) -> None:
    """Put on record that there is a copy: so it is known when the last one was made."""
    how = "sealed" if made.is_sealed else "in clear"
    note = f"{made.path.name}, {how}"
    database.transact(
        lambda transaction: operators.write_down(
            transaction, actor, operators.BACKUP, made.at_ms, note
        )
    )


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
def _written(folder: Path) -> Iterator[tuple[BinaryIO, Path]]:
    """Give a new file, and its name, which is to be changed before the end."""
    part = folders.new_part(folder)
    try:
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _MODE)
        try:
            with io.BufferedWriter(_Steady(descriptor, "wb"), _BUFFER_BYTES) as out:
                yield cast(BinaryIO, out), part
        finally:
            part.unlink(missing_ok=True)
    except PermissionError:
        raise LacksRightsError(f"You may not write into {folder}.") from None
    except OSError as error:
        raise CannotBackUpError(
            f"The copy could not be written into {folder}: {error.strerror}. Those of before are"
            " there still."
        ) from None


def _remove_old(
    folder: Path, made: Path, suffix: str, keep: int | None
) -> tuple[list[Path], list[Path]]:
    """Remove the oldest copies but for the one that was just made; return which went, and which
    could not."""
    if keep is None:
        return [], []
    older = [copy.path for copy in folders.copies(folder, suffix) if copy.path != made]
    removed, left = [], []
    for path in older[: max(0, len(older) - keep + 1)]:
        try:
            path.unlink()
            removed.append(path)
        except OSError:
            left.append(path)
    folders.sync(folder)
    return removed, left
