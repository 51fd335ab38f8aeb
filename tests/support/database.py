"""The database as another connection sees it."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any


def rows(path: Path, sql: str, *values: Any) -> list[tuple[Any, ...]]:
    """Return what another connection sees of the database at `path`."""
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as connection:
        return connection.execute(sql, values).fetchall()
