"""Reading beside the daemon's work, on SQLite: somebody may put a file away, and back."""

import asyncio
from pathlib import Path

import pytest

from premblyd.engines.engine import Database
from premblyd.engines.readers import Readers
from premblyd.engines.sqlite.engine import SqliteBackend
from premblyd.errors import PremblydError
from premblyd.model.tables import Event
from premblyd.record import queries


def count(database: Database) -> int:
    return len(queries.tuples(database, Event.select(Event.id)))


def test_a_database_that_is_put_back_is_read_again(path: Path) -> None:
    async def scene() -> None:
        own = Readers(SqliteBackend(path), count=2)
        aside = path.with_name("aside")
        path.rename(aside)
        for _ in range(2):
            with pytest.raises(PremblydError):
                await own.run(count)
        aside.rename(path)
        assert [await own.run(count) for _ in range(4)] == [0] * 4
        await own.close()

    asyncio.run(scene())
