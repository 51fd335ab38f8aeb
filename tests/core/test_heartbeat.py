"""What a daemon keeps of when it could store webhooks, and what it says after a downtime."""

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import pytest

from premblyd import daemon as composition
from premblyd.config.load import load_config
from premblyd.daemon import Daemon
from premblyd.features.postgresql import opening as postgresql_opening
from premblyd.ground.databases import DatabaseAddress
from premblyd.ground.errors import PremblydError
from premblyd.queue import heartbeat
from premblyd.queue.heartbeat import Heartbeat, machine_start
from premblyd.store.sqlite import opening
from tests.support.clock import SettableClock
from tests.support.configuration import configuration
from tests.support.daemon import Premblyd
from tests.support.database import by_hand, locked, new_place, rows, url_of
from tests.support.logs import Lines, logged
from tests.support.store import Store
from tests.support.waiting import until

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


def test_a_clean_stop_is_kept_exactly_and_a_start_after_a_downtime_says_once_what_to_do(
    tmp_path: Path,
) -> None:
    home = Home(tmp_path, prembly=PREMBLY)
    assert home.run() == []
    ((ended,),) = home.rows(ALIVE)
    assert home.began < ended
    assert home.rows(DOWNTIMES) == []
    home.age(5 * HOUR_MS)
    (line,) = home.run()
    ((from_ms, until_ms, reconciled_at_ms),) = home.rows(DOWNTIMES)
    assert 5 * HOUR_MS <= until_ms - from_ms < 6 * HOUR_MS
    assert (line["minutes"], line["log_level"], reconciled_at_ms) == (300, "warning", None)
    assert line["remedy"] == f"premblyd reconcile --since {line['down_since']} --store"
    home.configure()
    assert home.run() == []
    assert len(home.rows(DOWNTIMES)) == 1
    home.age(2 * HOUR_MS)
    (line,) = home.run()
    assert line["remedy"] == "set `api_key` in `prembly:`"
    for by_ms in (-30 * HOUR_MS, 30 * HOUR_MS):
        home.set_clock(by_ms)
        assert (home.run(), len(home.rows(DOWNTIMES))) == ([], 2), "a clock invents none"


@pytest.mark.process
def test_a_kill_leaves_the_last_heartbeat_and_the_next_start_tells_of_it(tmp_path: Path) -> None:
    with Premblyd(tmp_path, prembly=PREMBLY) as daemon:
        daemon.start()
        began = daemon.rows(ALIVE)
        daemon.kill()
        assert daemon.rows(ALIVE) == began
        age(daemon.place, 2 * HOUR_MS)
        daemon.start()
        (line,) = daemon.log("daemon.was_down")
        assert (line["minutes"], line["level"]) == (120, "warning")


def test_a_start_that_fails_is_no_heartbeat(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = Home(tmp_path)
    home.run()
    before = home.rows(ALIVE)

    def fail(_: object) -> None:
        raise PremblydError("the address is used already")

    monkeypatch.setattr(f"{composition.__name__}.listening.listen", fail)
    with pytest.raises(PremblydError):
        home.run()
    assert home.rows(ALIVE) == before


def test_a_database_that_fails_for_hours_is_a_downtime(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Webhooks are answered 503 meanwhile, and most are never sent again."""
    passed_ms = 0

    def uptime_ns(_: int) -> int:
        return (1_000_000 + passed_ms) * 1_000_000

    async def run() -> None:
        nonlocal passed_ms
        own = Heartbeat(impatient.writer, SettableClock(), every_s=0.01)
        await own.beat()
        loop = asyncio.create_task(own.run())
        with locked(store.place):
            await until(lambda: impatient.writer.last_error)
            passed_ms = 2 * HOUR_MS
        await until(lambda: "daemon.was_down" in [line["event"] for line in lines])
        loop.cancel()

    monkeypatch.setattr(time, "clock_gettime_ns", uptime_ns)
    monkeypatch.setattr(opening, "BUSY_TIMEOUT_S", 0.05)
    monkeypatch.setitem(postgresql_opening.SESSION, "lock_timeout", "50ms")
    impatient = store.beside("host:2:boot")
    with logged() as lines:
        store.wait(run())
    impatient.close()
    assert len(store.rows(DOWNTIMES)) == 1


def test_the_machine_start_comes_from_the_kernel_or_from_systemd(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told, file = "0123456789abcdef0123456789abcdef", tmp_path / "boot_id"
    monkeypatch.setenv(heartbeat.MACHINE_START_VARIABLE, told)
    monkeypatch.setattr(heartbeat, "MACHINE_START_FILE", file)
    assert machine_start() == told
    file.write_text("fedcba98-7654-3210-fedc-ba9876543210\n")
    assert machine_start() == "fedcba9876543210fedcba9876543210"
