"""What a daemon keeps of when it could store webhooks, and what it says after a downtime."""

import asyncio
import time
from pathlib import Path

import pytest

from premblyd import daemon as composition
from premblyd.ground.errors import PremblydError
from premblyd.queue import heartbeat
from premblyd.queue.heartbeat import Heartbeat, machine_start
from premblyd.store.sqlite import opening
from tests.support import postgresql
from tests.support.clock import SettableClock
from tests.support.daemon import Premblyd
from tests.support.database import locked
from tests.support.home import ALIVE, DOWNTIMES, HOUR_MS, Home, age
from tests.support.logs import logged
from tests.support.store import Store
from tests.support.waiting import until


@pytest.mark.process
def test_a_kill_leaves_the_last_heartbeat_and_the_next_start_tells_of_it(tmp_path: Path) -> None:
    with Premblyd(tmp_path) as daemon:
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
    postgresql.wait_for_locks(monkeypatch, "50ms")
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
