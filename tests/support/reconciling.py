"""A record to reconcile with the stand-in for Prembly's API."""

import asyncio
import json
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from premblyd.queue.inbox import Inbox
from premblyd.store.connections import backend
from premblyd.store.writer import Writer
from tests.support.configuration import configuration
from tests.support.database import by_hand, new_place, rows, url_of
from tests.support.prembly_api import PremblyApi
from tests.support.store import new_event

HOUR_S = 3600.0
STORED = "SELECT reference FROM event WHERE type = 'prembly.status' ORDER BY id"


class Record:
    """A database and a configuration that asks `api`, in a folder of their own."""

    def __init__(self, folder: Path, api: PremblyApi, **changes: Any) -> None:
        self.config = folder / "premblyd.yaml"
        self.place = new_place(folder)
        self.configure(api, **changes)

    @property
    def database(self) -> Path:
        """The file of a database that is in one."""
        assert isinstance(self.place, Path)
        return self.place

    def configure(self, api: PremblyApi, **changes: Any) -> None:
        asking = {"url": api.url, "api_key": api.key, "rate": 1000, "timeout": "10s"}
        own: dict[str, Any] = {"prembly": asking | changes.pop("prembly", {})}
        settings = configuration(database=url_of(self.place), **own, **changes)
        self.config.write_text(json.dumps(settings))

    def receive(self, references: Iterable[str], **changes: Any) -> None:
        """Have an event of each of these verifications."""

        async def add() -> None:
            writer = Writer(backend(self.place).engine())
            inbox = Inbox(writer)
            events = [new_event(each.encode(), reference=each, **changes) for each in references]
            await asyncio.gather(*(inbox.add(event, []) for event in events))
            await writer.close()

        asyncio.run(add())

    def stored(self) -> list[str]:
        """Return what was asked for and stored, in its order."""
        return [reference for (reference,) in rows(self.place, STORED)]

    def change(self, sql: str, *values: Any) -> None:
        by_hand(self.place, sql, *values)

    def rows(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        return rows(self.place, sql, *values)


def know(api: PremblyApi, count: int, **fields: Any) -> list[str]:
    """Let Prembly know `count` verifications of the last hours, and return their references."""
    now = time.time()
    made = [
        api.know(f"ver_bvn_{number:05x}a", created_at_s=now - HOUR_S - number, **fields)
        for number in range(count)
    ]
    return [verification.reference for verification in made]


def every_nth(references: Sequence[str], count: int) -> set[str]:
    """Return `count` of these, evenly spread."""
    return set(references[:: len(references) // count][:count])
