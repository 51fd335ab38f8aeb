"""Lists as CSV, whole: part by part, each read by itself, so that a long list keeps no snapshot of
the database and no memory."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from typing import Any

from premblyd.console import csvtext
from premblyd.console.readers import Readers
from premblyd.errors import TryAgainError
from premblyd.store.connections import Database

ROWS = 500  # of a part
TRIES = 5
AGAIN_S = 0.5
Read = Callable[[Database, int | None], tuple[Sequence[Any], int | None]]


async def parts(
    readers: Readers,
    columns: Sequence[str],
    read: Read,
    cells: Callable[[Any], Iterable[Any]],
    before: int | None = None,
) -> AsyncIterator[bytes]:
    """Yield a table's head and its rows. `read` returns the rows before a row, and before which to
    go on: None is the end. Raise TryAgainError where it can't be read, again and again."""
    yield csvtext.head(columns)
    while True:
        lines, before = await _part(readers, read, cells, before)
        yield lines
        if before is None:
            return


async def _part(
    readers: Readers, read: Read, cells: Callable[[Any], Iterable[Any]], before: int | None
) -> tuple[bytes, int | None]:
    def make(database: Database) -> tuple[bytes, int | None]:
        rows, older = read(database, before)
        return csvtext.lines(cells(row) for row in rows), older

    for _ in range(TRIES - 1):
        try:
            return await readers.run(make)
        except TryAgainError:  # others read too; a server may come back
            await asyncio.sleep(AGAIN_S)
    return await readers.run(make)
