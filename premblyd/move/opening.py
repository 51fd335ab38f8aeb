"""The two sides of a move, of whichever engine."""

from contextlib import AbstractContextManager
from pathlib import Path

from premblyd.databases import DatabaseAddress
from premblyd.engines.connections import backend
from premblyd.move import sqlite
from premblyd.move.sides import Source, Target


def source(place: DatabaseAddress) -> AbstractContextManager[Source]:
    """Open a database to be moved to another, and keep daemons out meanwhile. Raise
    AlreadyRunningError when one works on it, PremblydError when it can't be read."""
    if isinstance(place, Path):
        return sqlite.source(place)
    backend(place)  # raises when what it needs is not there
    from premblyd.move import postgresql

    return postgresql.source(place)


def target(place: DatabaseAddress) -> AbstractContextManager[Target]:
    """Open a database, made or migrated if need be, to be filled from another. Raise
    AlreadyRunningError when a daemon works on it, PremblydError when it can't be used."""
    if isinstance(place, Path):
        return sqlite.target(place)
    backend(place)  # raises when what it needs is not there
    from premblyd.move import postgresql

    return postgresql.target(place)
