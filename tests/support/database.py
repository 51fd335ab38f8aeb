"""The database as another connection sees it."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def reading(path: Path) -> Iterator[sqlite3.Connection]:
    """Open the database at `path` as anyone may who reads it."""
    uri = f"{path.as_uri()}?mode=ro"
    with closing(sqlite3.connect(uri, uri=True, timeout=10)) as connection:
        yield connection


def rows(path: Path, sql: str, *values: Any) -> list[tuple[Any, ...]]:
    """Return what another connection sees of the database at `path`."""
    with reading(path) as connection:
        return connection.execute(sql, values).fetchall()


@contextmanager
def locked(path: Path) -> Iterator[sqlite3.Connection]:
    """Hold the write lock on the database at `path`, by a connection that may write meanwhile."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield connection
