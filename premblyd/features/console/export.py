"""Lists as complete CSV: read part by part, so that a long list holds no snapshot of the database
and little memory."""

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from premblyd.ground import times, words
from premblyd.ground.errors import TryAgainError
from premblyd.record.queries import Row
from premblyd.store.engine import Database
from premblyd.store.readers import Readers

ROWS = 500  # of a part
TRIES = 5
AGAIN_S = 0.5
Read = Callable[[Database, int | None], tuple[Sequence[Any], int | None]]


async def parts(
    readers: Readers,
    row: type[Row],
    read: Read,
    before: int | None = None,
) -> AsyncIterator[bytes]:
    """Yield a table's head, and a line for each row. `read` returns the rows before a row, and
    before which to go on: None is the end. Raise TryAgainError where it can't be read, again and
    again."""
    names = [field.name for field in dataclasses.fields(row)]
    yield words.csv_head([name.removesuffix("_ms") if _is_time(name) else name for name in names])
    while True:
        lines, before = await _part(readers, read, names, before)
        yield lines
        if before is None:
            return


async def _part(
    readers: Readers, read: Read, names: Sequence[str], before: int | None
) -> tuple[bytes, int | None]:
    def make(database: Database) -> tuple[bytes, int | None]:
        rows, older = read(database, before)
        return words.csv_lines(_cells(row, names) for row in rows), older

    for _ in range(TRIES - 1):
        try:
            return await readers.run(make)
        except TryAgainError:  # others read too; a server may come back
            await asyncio.sleep(AGAIN_S)
    return await readers.run(make)


def _cells(row: Row, names: Sequence[str]) -> list[Any]:
    cells = [getattr(row, name) for name in names]
    return [
        times.for_people(cell) if _is_time(name) else cell
        for name, cell in zip(names, cells, strict=True)
    ]


def _is_time(name: str) -> bool:
    return name == "at_ms" or name.endswith("_at_ms")
