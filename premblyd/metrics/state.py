"""How things stand now: what the daemon's parts say, and what its record says."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from premblyd.config.models import Config
from premblyd.errors import PremblydError
from premblyd.store.sqlite.files import beside, real_path

if TYPE_CHECKING:
    from premblyd.record.standing import Standing


@dataclass(frozen=True, slots=True, kw_only=True)
class Runtime:
    """What the daemon's parts say."""

    requests: int
    connections: int
    hooks: int
    store_works: bool
    store_error: str | None = None  # of the last commits, even if one worked since


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """How things stand. `record` is None when it can't be read."""

    requests: int
    connections: int
    hooks: int
    store_works: bool
    database_bytes: int
    wal_bytes: int
    free_bytes: int
    record: "Standing | None"


def look(runtime: Runtime, path: Path, settings: Config, now_ms: int) -> State:
    """Return how things stand. It reads the database, so not in the loop."""
    real = real_path(path)
    return State(
        requests=runtime.requests,
        connections=runtime.connections,
        hooks=runtime.hooks,
        store_works=runtime.store_works,
        database_bytes=_size(real),
        wal_bytes=_size(beside(real, "-wal")),
        free_bytes=_free(real),
        record=_read(path, settings, now_ms, runtime.store_error),
    )


def _read(path: Path, settings: Config, now_ms: int, store_error: str | None) -> "Standing | None":
    # Here, as a daemon that nobody asks has no use for it, and it takes a tenth of a start.
    from premblyd.record import standing

    try:
        return standing.read(path, settings, now_ms, store_error=store_error)
    except PremblydError:
        return None


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _free(path: Path) -> int:
    try:
        disk = os.statvfs(path.parent)
    except OSError:
        return 0
    return disk.f_bavail * disk.f_frsize
