"""One daemon among others, with a beacon of the test's own: what it takes over, and lets go."""

import asyncio
import errno
from collections.abc import Awaitable, Callable, Collection, Iterator
from pathlib import Path
from typing import Any

import pytest
from structlog.typing import EventDict

from premblyd.features.postgresql import membership
from premblyd.features.postgresql.membership import (
    Beat,
    Membership,
    SharedHosts,
    Sighting,
    TimeRead,
)
from premblyd.features.postgresql.sharedclock import SharedClock
from premblyd.ground.errors import StoreUnavailableError
from premblyd.run.starting import Permit
from premblyd.store.engine import Statement
from tests.support.database import new_place
from tests.support.hosts import identity
from tests.support.queue import claim
from tests.support.store import NOW_MS, Store
from tests.support.waiting import until

LOST_AFTER_S = 0.5


class FakeBeacon:
    """Tells of the hosts that the test names, or that the database is away."""

    def __init__(self, *names: str) -> None:
        self.hosts = [
            Sighting(id=number, worker=f"{name}:1:boot", name=name, beat_count=0)
            for number, name in enumerate(names)
        ]
        self.is_away = False
        self.now_ms = NOW_MS
        self.beats = self.failures = 0

    async def read_time(self) -> TimeRead:
        now_s = asyncio.get_running_loop().time()
        return TimeRead(now_ms=self.now_ms, asked_at_s=now_s, answered_at_s=now_s)

    async def beat(self, beat: Statement, look: Statement, worker: str) -> Beat:
        if self.is_away:
            self.failures += 1
            raise StoreUnavailableError("the network is cut")
        self.beats += 1
        hosts = [host._replace(beat_count=self.beats) for host in self.hosts]
        return Beat(hosts=hosts, is_known=True, time=await self.read_time())

    async def announce(self) -> None: ...

    async def wait(self, timeout_s: float) -> bool:
        await asyncio.sleep(min(timeout_s, 0.01))
        return False

    def stir(self) -> None: ...

    async def close(self) -> None: ...


class Member:
    """A membership at work. `stop_fenced_hooks`: how often it ended what it ran."""

    def __init__(self, store: Store, beacon: FakeBeacon, *, is_named: bool = False) -> None:
        self.stop_fenced_hooks = self.wakes = 0
        self.failures: list[OSError] = []  # of what would end it
        self.clock = SharedClock()
        own = identity("a")
        self.membership = Membership(
            SharedHosts(store.writer, own),
            store.queue,
            own,
            beacon,
            self.clock,
            lost_after_s=LOST_AFTER_S,
            is_named=is_named,
            wake=self._wake,
            stop_fenced_hooks=self._stop_fenced_hooks,
        )

    def _wake(self) -> None:
        self.wakes += 1

    async def _stop_fenced_hooks(self, still_own: Callable[[], Awaitable[Collection[str]]]) -> int:
        assert await still_own() == ()
        if self.failures:
            raise self.failures.pop()
        self.stop_fenced_hooks += 1
        return 0

    async def run_until(self, condition: Callable[[], object]) -> None:
        running = asyncio.create_task(self.membership.run())
        try:
            await until(condition)
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


class Machine:
    """The clock by which a daemon counts its silence. It stands unless the test lets time go by:
    the real one goes on while a busy machine holds the test up."""

    boot_s = 0.0

    def let_go_by(self) -> None:
        """Let more go by than the others wait for a beat."""
        self.boot_s += 2 * LOST_AFTER_S


@pytest.fixture(name="machine", autouse=True)
def make_machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    machine = Machine()
    monkeypatch.setattr(membership, "boot_s", lambda: machine.boot_s)
    return machine


@pytest.fixture(name="store")
def open_store(tmp_path: Path) -> Iterator[Store]:
    with asyncio.Runner() as runner:
        store = Store(new_place(tmp_path), runner.get_loop(), "b:1:boot")
        yield store
        store.close()


def told(lines: list[EventDict]) -> list[str]:
    return [line["event"] for line in lines]


def orphan(store: Store) -> Callable[[], Any]:
    """Have a delivery run under a host that was lost, took it before it knew, and ended."""
    store.wait(SharedHosts(store.writer, identity("b")).join(NOW_MS))
    store.add("crm")
    claim(store, crm=1)
    store.by_hand("UPDATE host SET ended = 'stopped', ended_at_ms = 1")
    return lambda: store.rows("SELECT state FROM delivery") == [("pending",)]


@pytest.mark.parametrize("is_first", [True, False])
def test_the_first_host_alone_finds_what_runs_under_one_that_has_ended(
    store: Store, monkeypatch: pytest.MonkeyPatch, is_first: bool
) -> None:
    monkeypatch.setattr(membership, "ORPHANS_EVERY_S", 0.02)
    is_due = orphan(store)
    beacon = FakeBeacon(*("a", "c") if is_first else ("c", "a"))
    member = Member(store, beacon)
    if is_first:
        store.wait(member.run_until(lambda: is_due() and member.wakes))
    else:
        store.wait(member.run_until(lambda: beacon.beats > 3))
        assert not is_due()


def test_a_host_that_can_not_beat_ends_its_hooks_once(
    store: Store, lines: list[EventDict], machine: Machine
) -> None:
    """And again, if they could not be ended."""
    beacon = FakeBeacon("a", "b")
    member = Member(store, beacon)
    member.failures = [OSError(errno.EMFILE, "no descriptor for /proc")]

    async def main() -> None:
        await member.run_until(lambda: beacon.beats > 1)
        beacon.is_away = True
        machine.let_go_by()
        await member.run_until(lambda: member.stop_fenced_hooks)
        machine.let_go_by()
        assert told(lines).count("host.failed") == 1
        failures = beacon.failures
        await member.run_until(lambda: beacon.failures > failures + 5)
        assert told(lines).count("host.let_go") == 1
        beacon.is_away = False
        await member.run_until(lambda: beacon.beats > 3)

    store.wait(main())
    assert member.stop_fenced_hooks == 1


def test_a_host_that_never_knew_another_lets_its_hooks_run(
    store: Store, lines: list[EventDict], machine: Machine
) -> None:
    """Nobody starts them: when the database is back, they are reported. One that has a name, or
    knew another once, can't tell: another may have come."""
    beacons = {name: FakeBeacon("a") for name in ("single", "named", "left")}
    beacons["left"].hosts.append(Sighting(id=9, worker="b:1:boot", name="b", beat_count=0))
    members = {name: Member(store, beacons[name], is_named=name == "named") for name in beacons}

    async def cut_off() -> None:
        await until(lambda: all(beacon.beats > 1 for beacon in beacons.values()))
        beacons["left"].hosts.pop()
        beats = beacons["left"].beats
        await until(lambda: beacons["left"].beats > beats + 1)
        for beacon in beacons.values():
            beacon.is_away = True
        machine.let_go_by()
        await until(lambda: all(members[name].stop_fenced_hooks for name in ("named", "left")))
        failures = beacons["single"].failures
        await until(lambda: beacons["single"].failures > failures + 2)  # it has looked since

    async def main() -> None:
        done = asyncio.create_task(cut_off())
        await asyncio.gather(*(member.run_until(done.done) for member in members.values()))
        await done

    store.wait(main())
    ended = {name: member.stop_fenced_hooks for name, member in members.items()}
    assert ended == {"single": 0, "named": 1, "left": 1}


def test_the_log_names_a_host_that_joins_later(store: Store, lines: list[EventDict]) -> None:
    beacon = FakeBeacon("a")
    member = Member(store, beacon)

    async def main() -> None:
        await member.run_until(lambda: beacon.beats > 1)
        beacon.hosts.append(Sighting(id=9, worker="b:1:boot", name="b", beat_count=0))
        await member.run_until(lambda: "host.seen" in told(lines))

    store.wait(main())
    (seen,) = [line for line in lines if line["event"] == "host.seen"]
    assert (seen["name"], seen["worker"]) == ("b", "b:1:boot")
    assert abs(member.clock.now_ms() - beacon.now_ms) < 3_600_000, "the database's, of long ago"


def test_hooks_that_others_have_end_if_none_can_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Out of descriptors, /proc can't be read."""

    def fail(_: object) -> int:
        raise ZeroDivisionError

    monkeypatch.setattr(membership, "kill_marked", fail)
    own, lost = Permit(), Permit()

    async def still_own() -> list[str]:
        return ["own"]

    with pytest.raises(ZeroDivisionError):
        asyncio.run(membership.stop_fenced_hooks(lambda: {"own": own, "lost": lost}, still_own))
    assert (own.is_revoked, lost.is_revoked) == (False, True)
