"""What a daemon keeps of when it could store webhooks, and what it says after a downtime."""

import asyncio
import socket
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from premblyd import heartbeat
from premblyd.heartbeat import Heartbeat, machine_start
from premblyd.store.downtimes import Heartbeats
from tests.support.clock import SettableClock
from tests.support.daemon import Premblyd
from tests.support.database import locked
from tests.support.logs import logged
from tests.support.store import Store
from tests.support.waiting import until

HOUR_MS = 3_600_000
ALIVE = "SELECT alive_at_ms FROM heartbeat"
DOWNTIMES = "SELECT from_ms, until_ms, reconciled_at_ms FROM downtime"
PREMBLY = {"api_key": "a-secret-key"}


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def age(database: Path, by_ms: int) -> None:
    """Let the last heartbeat be older: as if the daemon had been stopped for as long."""
    sql = "UPDATE heartbeat SET alive_at_ms = alive_at_ms - ?, uptime_ms = uptime_ms - ?"
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute(sql, (by_ms, by_ms))


def test_a_clean_stop_is_kept_exactly_and_a_kill_to_the_minute(tmp_path: Path) -> None:
    with Premblyd(tmp_path) as daemon:
        before = now_ms()
        daemon.start()
        ((began,),) = daemon.rows(ALIVE)
        assert before - 100 <= began <= now_ms() + 100
        stopping = now_ms()
        daemon.stop()
        ((ended,),) = daemon.rows(ALIVE)
        assert stopping - 100 <= ended <= now_ms() + 100
        daemon.start()
        ((began,),) = daemon.rows(ALIVE)
        daemon.kill()
        assert daemon.rows(ALIVE) == [(began,)]
        assert daemon.rows(DOWNTIMES) == []


@pytest.mark.parametrize("ending", ["stop", "kill"])
def test_a_start_after_a_downtime_says_what_to_do(tmp_path: Path, ending: str) -> None:
    with Premblyd(tmp_path, prembly=PREMBLY) as daemon:
        daemon.start()
        assert daemon.log("daemon.was_down") == []
        getattr(daemon, ending)()
        age(daemon.database, 5 * HOUR_MS)
        daemon.start()
        (line,) = daemon.log("daemon.was_down")
        ((from_ms, until_ms, reconciled_at_ms),) = daemon.rows(DOWNTIMES)
        assert 5 * HOUR_MS <= until_ms - from_ms < 5 * HOUR_MS + 20_000
        assert (line["minutes"], line["level"], reconciled_at_ms) == (300, "warning", None)
        assert line["remedy"] == f"premblyd reconcile --since {line['down_since']} --store"
        daemon.stop()
        daemon.start()
        assert daemon.log("daemon.was_down") == []
        assert len(daemon.rows(DOWNTIMES)) == 1


def test_without_a_key_the_log_says_what_is_needed_to_ask(tmp_path: Path) -> None:
    with Premblyd(tmp_path) as daemon:
        daemon.start().stop()
        age(daemon.database, 2 * HOUR_MS)
        (line,) = daemon.start().log("daemon.was_down")
        assert line["remedy"] == "set `api_key` in `prembly:`"


def test_a_start_that_fails_is_no_heartbeat(tmp_path: Path) -> None:
    with Premblyd(tmp_path) as daemon:
        daemon.start().stop()
        age(daemon.database, 2 * HOUR_MS)
        before = daemon.rows(ALIVE)
        with socket.create_server(("127.0.0.1", 0)) as taken:
            daemon.configure(listen=f"127.0.0.1:{taken.getsockname()[1]}")
            assert daemon.fail_to_start()[0] != 0
        assert daemon.rows(ALIVE) == before


def test_a_clock_set_while_the_daemon_is_stopped_invents_no_downtime(tmp_path: Path) -> None:
    with Premblyd(tmp_path) as daemon:
        daemon.start().stop()
        for by_ms in (-30 * HOUR_MS, 30 * HOUR_MS):
            with closing(sqlite3.connect(daemon.database)) as connection, connection:
                connection.execute("UPDATE heartbeat SET alive_at_ms = alive_at_ms + ?", (by_ms,))
            daemon.start().stop()
            assert (daemon.log("daemon.was_down"), daemon.rows(DOWNTIMES)) == ([], [])


def test_a_clock_set_while_the_daemon_runs_invents_no_downtime(store: Store) -> None:
    async def run() -> list[Any]:
        clock = SettableClock()
        own = Heartbeat(Heartbeats(store.writer), clock, every_s=0.01)
        await own.begin()
        loop = asyncio.create_task(own.run())
        for by_ms in (50 * HOUR_MS, -100 * HOUR_MS):
            clock.set_by_ms += by_ms
            clock.jumped_ms()
            expected = clock.now_ms()
            await until(lambda: abs(store.rows(ALIVE)[0][0] - expected) < HOUR_MS)  # noqa: B023
        await own.end()
        loop.cancel()
        return store.rows(DOWNTIMES)

    with logged() as lines:
        assert store.wait(run()) == []
    assert lines == []


def test_a_database_that_fails_for_hours_is_a_downtime(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Webhooks are answered 503 meanwhile, and most are never sent again."""
    passed_ms = 0

    def uptime_ns(_: int) -> int:
        return (1_000_000 + passed_ms) * 1_000_000

    async def run() -> None:
        nonlocal passed_ms
        own = Heartbeat(Heartbeats(store.writer), SettableClock(), every_s=0.01)
        await own.begin()
        loop = asyncio.create_task(own.run())
        with locked(store.path):
            await until(lambda: store.writer.last_error)
            passed_ms = 2 * HOUR_MS
        await until(lambda: store.rows(DOWNTIMES))
        loop.cancel()

    monkeypatch.setattr(time, "clock_gettime_ns", uptime_ns)
    store.on_connection(lambda connection: connection.execute("PRAGMA busy_timeout = 50"))
    with logged() as lines:
        store.wait(run())
    assert "daemon.was_down" in [line["event"] for line in lines]


def test_the_machine_start_comes_from_the_kernel_or_from_systemd(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(heartbeat.MACHINE_START_VARIABLE, "0123456789abcdef0123456789abcdef")
    file = tmp_path / "boot_id"
    monkeypatch.setattr(heartbeat, "MACHINE_START_FILE", file)
    assert machine_start() == "0123456789abcdef0123456789abcdef"
    file.write_text("fedcba98-7654-3210-fedc-ba9876543210\n")
    assert machine_start() == "fedcba9876543210fedcba9876543210"
    file.unlink()
    monkeypatch.delenv(heartbeat.MACHINE_START_VARIABLE)
    assert machine_start() is None
