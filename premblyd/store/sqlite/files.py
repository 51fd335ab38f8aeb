"""The database's file and those beside it: where they are, and who may read them."""

import os
from pathlib import Path


def real_path(path: Path) -> Path:
    """Return where the file itself is: SQLite puts its other files beside that, not beside a
    symbolic link to it."""
    return Path(os.path.realpath(path))


def beside(real: Path, suffix: str) -> Path:
    """Return the file that SQLite, or we, put beside the database's own."""
    return real.with_name(real.name + suffix)


def restrict(path: Path) -> None:
    """Create the file, or take away what goes beyond 0640. SQLite gives its other files the
    same mode."""
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640))
    mode = path.stat().st_mode & 0o777
    if mode & ~0o640:
        path.chmod(mode & 0o640)
