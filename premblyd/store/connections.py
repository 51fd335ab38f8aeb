"""How every part reaches the database, whichever engine it is.

A file is SQLite's, which is in the core. A feature may have another engine.
"""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

from premblyd.feature import added
from premblyd.ground.databases import DatabaseAddress, EncryptedFile
from premblyd.ground.errors import CannotStartError, PremblydError, StoreUnavailableError
from premblyd.store.engine import Backend, Database
from premblyd.store.sqlite import files, opening
from premblyd.store.sqlite.engine import SqliteBackend


def backend(place: DatabaseAddress) -> Backend:
    """Return the engine's backend for a database. Raise CannotStartError when what it needs is not
    installed, or the place can't be one."""
    if isinstance(place, EncryptedFile):
        return SqliteBackend(place.path, place.key_path)
    if isinstance(place, Path):
        return SqliteBackend(place)
    backends: Iterator[Callable[[DatabaseAddress], Backend | None]] = added("backends", "BACKENDS")
    for made in backends:
        if (found := made(place)) is not None:
            return found
    raise CannotStartError(f"This premblyd has no engine for {place}.")


def connect_read_only(place: DatabaseAddress) -> Database:
    """Return a connection that only reads: see engine.Backend."""
    return backend(place).connect_read_only()


def connect_operator(place: DatabaseAddress) -> Database:
    """Return a connection for a command that writes while daemons run: see engine.Backend."""
    return backend(place).connect_operator()


def put_aside(path: Path | None) -> list[Path]:
    """Return the files that were a database in a file before others took its place."""
    return [] if path is None else files.put_aside(path)


@contextlib.contextmanager
def translated(to: type[StoreUnavailableError] = StoreUnavailableError) -> Iterator[None]:
    """Turn a database's failure into a StoreUnavailableError."""
    with opening.translated(to):
        try:
            yield
        except Exception as error:  # it goes on, as ours if another engine knows it
            for as_ours in added("backends", "TRANSLATIONS"):
                ours: PremblydError | None = as_ours(error, to)
                if ours is not None:
                    raise ours from None
            raise
