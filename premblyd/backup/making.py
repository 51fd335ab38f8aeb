"""Making a copy of the record while daemons work on it, and removing old ones. The copy has its
name when all of it is on the disk. What is sealed is sealed while it is written: nothing of it is
in clear in any file, whenever this is killed."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from premblyd.agefiles import require_recipients, sealed
from premblyd.backup import folder as folders
from premblyd.engines.backend import Backend
from premblyd.engines.besides import Copied
from premblyd.engines.engine import Database
from premblyd.keep import operators
from premblyd.newfile import sync


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
        is_sealed = bool(recipients)
        path = folders.new_name(folder, now_ms, backed.copy_suffix, is_sealed=is_sealed)
        failed = f"The copy could not be written into {folder}"
        with folders.writing(folder, failed, " Those of before are there still."):
            with folders.written(path) as file, sealed(file, recipients) as out:
                backed.write_copy(out, tell, without_keys=without_keys)
            size = path.stat().st_size
        sync(folder)
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
    sync(folder)
    return removed, left
