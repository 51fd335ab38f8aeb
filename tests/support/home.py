"""A folder in which a daemon runs now and then, in this process."""

import asyncio
import json
from pathlib import Path
from typing import Any

from premblyd.config.load import load_config
from premblyd.daemon import Daemon
from premblyd.ground.databases import DatabaseAddress
from tests.support.configuration import configuration
from tests.support.database import by_hand, new_place, rows, url_of
from tests.support.logs import Lines, logged

HOUR_MS = 3_600_000
ALIVE = "SELECT alive_at_ms FROM record"
DOWNTIMES = "SELECT from_ms, until_ms, reconciled_at_ms FROM downtime"
PREMBLY = {"api_key": "a-secret-key"}


class Home:
    """A folder in which a daemon runs now and then, in this process."""

    def __init__(self, folder: Path, **changes: Any) -> None:
        self.place = new_place(folder)
        self._path = folder / "premblyd.yaml"
        self.configure(**changes)

    def configure(self, **changes: Any) -> None:
        own = {"listen": f"unix:{self._path.parent}/socket", "database": url_of(self.place)}
        self._path.write_text(json.dumps(configuration(**own | changes)))

    def run(self) -> Lines:
        """Start and stop a daemon; return what it logged of a downtime."""

        async def start_and_stop() -> None:
            async with Daemon(load_config(self._path), self._path):
                self.began = self.rows(ALIVE)[0][0]

        with logged() as lines:
            asyncio.run(start_and_stop())
        return [line for line in lines if line["event"] == "daemon.was_down"]

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        return rows(self.place, sql)

    def age(self, by_ms: int) -> None:
        """Let the last heartbeat be older: as if the daemon had been stopped for as long."""
        age(self.place, by_ms)

    def set_clock(self, by_ms: int) -> None:
        """Let the last heartbeat be by another clock: as if somebody had set it since."""
        by_hand(self.place, "UPDATE record SET alive_at_ms = alive_at_ms - ?", by_ms)


def age(place: DatabaseAddress, by_ms: int) -> None:
    sql = "UPDATE record SET alive_at_ms = alive_at_ms - ?, uptime_ms = uptime_ms - ?"
    by_hand(place, sql, by_ms, by_ms)
