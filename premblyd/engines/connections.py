"""How all reach the database, of whichever engine.

The one place that names the engines. What is an engine's own is in its folder.
"""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from peewee import Database, SqliteDatabase

from premblyd.clock import Clock, SharedClock
from premblyd.databases import DatabaseAddress
from premblyd.engines.engine import Backend, Transaction
from premblyd.engines.sqlite import engine, failures
from premblyd.engines.sqlite.engine import SqliteBackend
from premblyd.errors import CannotStartError, StoreUnavailableError, StoreUnreadableError

__all__ = [
    "Database",
    "backend",
    "clock_of",
    "connect_operator",
    "connect_read_only",
    "now_ms",
    "transact",
    "translated",
]
Done = TypeVar("Done")


def backend(place: DatabaseAddress) -> Backend:
    """Return the engine's backend for a database. Raise CannotStartError when what it needs is not
    installed, or the place can't be one."""
    if isinstance(place, Path):
        return SqliteBackend(place)
    try:
        from premblyd.engines.postgresql.engine import PostgresqlBackend
    except ImportError:  # many do without its library
        raise CannotStartError(
            "PostgreSQL needs the library psycopg: run install.sh --with postgresql; without"
            " systemd, pip install '.[postgresql]' in a checkout."
        ) from None
    return PostgresqlBackend(place)


def connect_read_only(place: DatabaseAddress) -> Database:
    """Return a connection that only reads: see engine.Backend."""
    return backend(place).connect_read_only()


def connect_operator(place: DatabaseAddress) -> Database:
    """Return a connection by which a command writes while daemons run: see engine.Backend."""
    return backend(place).connect_operator()


def now_ms(database: Database) -> int:
    """Return the time by which the daemons on a database go: its server's, or this machine's."""
    if isinstance(database, SqliteDatabase):
        return time.time_ns() // 1_000_000
    from premblyd.engines.postgresql import transaction as postgresql

    with translated(StoreUnreadableError):
        return postgresql.now_ms(database)


def clock_of(database: Database) -> Clock:
    """Return a clock that goes on from what `now_ms` says now."""
    if isinstance(database, SqliteDatabase):
        return Clock()
    clock = SharedClock()
    asked_at_s = time.monotonic()
    clock.follow(now_ms(database), asked_at_s, time.monotonic())
    return clock


def transact(database: Database, work: Callable[[Transaction], Done]) -> Done:
    """Run `work` in a transaction on a command's own connection, while daemons write by theirs.
    Raise StoreUnavailableError when nothing of it could be kept."""
    if isinstance(database, SqliteDatabase):
        return engine.transact(database, work)
    from premblyd.engines.postgresql import transaction as postgresql

    return postgresql.transact(database, work)


@contextlib.contextmanager
def translated(to: type[StoreUnavailableError] = StoreUnavailableError) -> Iterator[None]:
    """Turn a database's failure into a StoreUnavailableError."""
    with failures.translated(to):
        try:
            yield
        except Exception:
            # Looked for only now: what failed may have been what loaded it.
            postgresql = sys.modules.get("premblyd.engines.postgresql.transaction")
            if postgresql is None:
                raise
            with postgresql.translated(to):
                raise
