"""A simulation with several hosts: daemons on one PostgreSQL database, each with its own machine,
clocks, commits and way to the server. They take turns, by the seed."""

import asyncio
import contextlib
import functools
import json
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import psycopg
from greenlet import GreenletExit

from premblyd.config.load import load_config
from premblyd.config.models import Config
from premblyd.daemon import Daemon
from premblyd.features.postgresql import membership, opening, schema, transaction
from premblyd.features.postgresql.transaction import Pieces
from premblyd.ground.errors import PremblydError
from premblyd.receive.server import Receiver
from tests.sim import server
from tests.sim.disk import FAILURES, Disk, Fate
from tests.sim.hostsmodel import HostsModel
from tests.sim.model import Broken
from tests.sim.simulation import Simulation, lacking
from tests.sim.virtual import BEGIN_NS, Clocks, Crash, TurnLoop
from tests.sim.world import Post
from tests.support import postgresql

ORPHANS_EVERY_S = 20.0  # that is looked for now and then
LACKS = ("order", "once", "confirm", "pending")
TURNS = 50_000  # at one moment: then it is a loop without end


class Host:
    """A machine, and the lives of its daemon."""

    def __init__(self, sim: "HostsSimulation", number: int, path: Path) -> None:
        self.sim, self.number, self.path = sim, number, path
        self.name = f"host-{number}"
        self.rng, self.server = sim.rng, sim.server
        self.settings = self.whole = load_config(path)
        self.lacking = self.whole  # a feature, see `settings_of`
        self.clocks = Clocks()
        sim.time.machines.append(self.clocks)
        self.machine = f"{self.name}-1"
        self.disk = Disk(sim.rng)
        self.disk.times_s = sim.rng.choice(((0.0005, 0.002, 0.02), (0.002, 0.02, 0.3)))
        self.disk.told = lambda fate: sim.tell(f"{self.name}: the next commit: {fate.name}")
        self.loop: TurnLoop | None = None
        self.life = 0
        self.is_cut = self.is_frozen = False
        self.well_since_s: float | None = None  # it serves, and reaches the server
        self.slow_s = 0.0
        self.open: set[Any] = set()  # transactions
        self.engines: list[server.Engine] = []
        self._forget()

    def _forget(self) -> None:
        self.daemon: Daemon | None = None
        self.task: asyncio.Task[None] | None = None
        self.receiver: Receiver | None = None
        self.stop: asyncio.Future[bool] | None = None

    @contextlib.contextmanager
    def at_work(self) -> Iterator[None]:
        """Let this host be the one whose code runs."""
        loop, before = asyncio._get_running_loop(), self.sim.current
        self.take()
        asyncio._set_running_loop(self.loop)
        try:
            yield
        finally:
            asyncio._set_running_loop(loop)
            before.take()

    def take(self) -> None:
        """Be the host at which the world does what it does next."""
        self.sim.current, self.sim.time.own = self, self.clocks
        self.sim.script.host, self.sim.script.life = self.number, self.life

    def new_engine(self) -> server.Engine:
        self.engines.append(server.Engine(self))
        return self.engines[-1]

    def finishes_late(self, transaction: Any) -> None:
        """Have the server go on with a transaction that this host has given up."""
        self.sim.late.append(transaction)
        self.sim.time.at(self.rng.choice((0.5, 3.0, 20.0)), lambda: self.sim.finish(transaction))

    # What happens to it

    @property
    def lives(self) -> bool:
        return self.loop is not None and not self.is_cut and not self.is_frozen

    def is_well(self, since_s: float) -> bool:
        return self.well_since_s is not None and self.well_since_s <= since_s

    def fall_silent(self) -> None:
        """Note that others may see nothing of it from now on."""
        if self.well_since_s is not None:
            self.sim.model.falls_silent(self)
            self.well_since_s = None

    def cut(self, seconds: float) -> None:
        """Let it not reach the server."""
        if not self.is_cut:
            self.sim.tell(f"{self.name} can't reach the server for {seconds} s")
            self.fall_silent()
            self.is_cut = True
            self.sim.time.at(seconds, self.mend)

    def freeze(self, seconds: float, *, asleep: bool) -> None:
        """Have the daemon do nothing. Its hooks go on."""
        if self.open:
            return self.sim.time.at(0.02, lambda: self.freeze(seconds, asleep=asleep))
        if self.loop is not None and not self.is_frozen:
            self.sim.tell(f"{self.name} {'sleeps' if asleep else 'is stopped'} for {seconds} s")
            self.fall_silent()
            self.is_frozen, self.clocks.is_asleep = True, asleep
            self.sim.model.loose.add(self.life)
            self.sim.time.at(seconds, self.mend)
        return None

    def mend(self) -> None:
        """Let it go on."""
        if self.is_cut or self.is_frozen:
            self.sim.tell(f"{self.name} goes on")
            if self.clocks.is_asleep:  # its clock stood too, until it reads the server's again
                self.sim.model.clock_set_s = self.sim.time.now_s
            self.is_cut = self.is_frozen = self.clocks.is_asleep = False
            self.new_life()
            if self.receiver is not None:
                self.well_since_s = self.sim.time.now_s

    # Its lives

    def start(self) -> None:
        if self.loop is not None:
            return
        self.settings = self.sim.settings_of(self)
        self.new_life()
        self.take()
        self.loop = TurnLoop(self.sim.time)
        self.sim.counts["lives"] += 1
        self.sim.tell(f"{self.name} starts")
        with self.at_work():
            self.daemon = Daemon(self.settings, self.path)
            self.task = self.loop.create_task(self._serve(self.daemon))

    def new_life(self) -> None:
        """What ran until now may run again: nobody heard of its end."""
        self.sim.lives += 1
        self.life = self.sim.lives

    async def _serve(self, daemon: Daemon) -> None:
        async with daemon:
            self.receiver = daemon._receiver
            if not self.is_cut:
                self.well_since_s = self.sim.time.now_s
            self.stop = asyncio.get_running_loop().create_future()
            if not self.sim.is_quiet or self.settings is self.whole:
                await self.stop
            self.well_since_s = self.receiver = None
            self.sim.model.changes_s.append(self.sim.time.now_s)

    def waits_ns(self) -> int | None:
        return None if self.loop is None or self.is_frozen else self.loop.waits_ns()

    def turn(self) -> None:
        """Let it go on until all that is to be done now is."""
        assert self.loop is not None
        assert self.task is not None
        try:
            with self.at_work():
                self.loop.turn()
            if not self.task.done():
                return
            self.task.result()
            self.sim.tell(f"{self.name} has stopped")
        except Crash:
            return self.kill()
        except PremblydError as error:
            self.sim.tell(f"{self.name} does not start: {error}")
            if "part of the daemon failed" in str(error):
                raise Broken("no part of the daemon fails") from None
        return self.end()

    def kill(self) -> None:
        self.sim.counts["crashes"] += 1
        self.sim.tell(f"{self.name} is killed")
        self.fall_silent()
        self.sim.model.loose.add(self.life)
        self.end()

    def end(self) -> None:
        """Leave nothing of the daemon but its hooks."""
        assert self.loop is not None
        loop, self.loop = self.loop, None
        for each in [*self.open]:
            with contextlib.suppress(Crash), self.at_work():
                each.throw(Crash)
        self.open.clear()
        with self.at_work():
            loop.throw_away()
        for engine_ in self.engines:
            engine_.close()
        self.engines.clear()
        self._forget()
        self.disk.next_fates.clear()
        self.disk.next_claim = None
        self.is_frozen = self.clocks.is_asleep = False
        self.sim.ended(self)


def _of_current(name: str) -> Any:
    return property(lambda sim: getattr(sim.current, name, None), lambda *_: None)


class HostsSimulation(Simulation):
    """See Simulation: of several hosts. `cluster`: a PostgreSQL server, which nobody else uses."""

    KINDS = (
        *("crashes", "disk", "cut", "freeze", "slow", "clock", "api", "hooks", "operator", "stop"),
        *("reboots", "actions", "words"),
    )
    FAILURES = (*FAILURES, Fate.LATE)
    model: HostsModel
    HOURS = (0.05, 0.1, 0.2)
    QUIET_S = 120.0
    comes_back = False  # by starting again, not by a reload
    current: Any = None  # the host that is at work
    loop, receiver = _of_current("loop"), _of_current("receiver")
    stop, disk = _of_current("stop"), _of_current("disk")

    def __init__(
        self, seed: int, count: int, cluster: postgresql.Cluster, hours: float | None = None
    ) -> None:
        super().__init__(seed, hours)
        self.count, self.cluster = count, cluster
        self.hosts: list[Host] = []
        self.late: list[Any] = []
        self.lives = 0
        self.is_over = False
        self.overtaking = self.rng.choice((0, 0.05, 0.3))
        self._parts = 0
        # Of a generator of its own, so that worlds without are as they were.
        self.lack = random.Random(f"lack {seed}").choice((None, None, *LACKS))

    @property
    def server_ms(self) -> int:
        return (BEGIN_NS + self.time.true_ns) // 1_000_000

    def _machine(self) -> str:
        return str(self.current.machine)

    def _open(self, folder: Path) -> HostsModel:
        self.server = self.place = postgresql.new_database(self.cluster, postgresql.TEMPLATE)
        configuration = self._configuration() | {"database": self.server.url}
        configuration.pop("retention", None)
        if "pending" in configuration:
            configuration["pending"] = {"ask": ["10s", "1m"], "give_up": "5m"}
        for action in configuration["actions"]:
            action["retry"]["max_delay"] = "1m"
            action["timeout"] = "2m"  # some are longer than `lost_after`
            if self.rng.random() < 0.3:
                action["concurrency"] = {"cluster": self.rng.choice((1, 2))}
        self.lost_after_s = self.rng.choice((20, 30, 60))
        self.time.machines.clear()
        for number in range(1, self.count + 1):
            own = {"name": f"host-{number}", "lost_after": f"{self.lost_after_s}s"}
            path = folder / f"{number}.yaml"
            path.write_text(json.dumps(configuration | {"hosts": own}))
            self.hosts.append(Host(self, number, path))
            without = folder / f"{number}-lacking.yaml"
            without.write_text(json.dumps(lacking(configuration, self.lack) | {"hosts": own}))
            self.hosts[-1].lacking = load_config(without)
        self.current, self.settings = self.hosts[0], self.hosts[0].settings
        self.link = psycopg.connect(self.server.url, autocommit=True)
        self.link.execute("SET lock_timeout = '20ms'")
        model = HostsModel(
            psycopg.connect(self.server.url, autocommit=True), self.time, self.settings
        )
        model.hosts = self.hosts
        return model

    def _own_parts(self) -> dict[str, Any]:
        def of_current(kind: type) -> Callable[..., Any]:
            return lambda *given: type("Own", (kind,), {"host": self.current})(*given)  # noqa: PLW0108 (who is current then)

        return {"backend": of_current(server.Backend), "Writer": of_current(server.Writer)}

    @contextlib.contextmanager
    def _instead_of_the_machine(self) -> Iterator[None]:
        own_send = functools.partialmethod(server.send, real=Pieces.send, sim=self)
        with contextlib.ExitStack() as patched:
            patched.enter_context(super()._instead_of_the_machine())
            for place, name, value in (
                (transaction, "take_part", self._take_part),
                (Pieces, "send", own_send),
                (os, "getpid", lambda: 4711),
                (opening, "NOW_MS", _Now(self)),
                (membership, "ORPHANS_EVERY_S", ORPHANS_EVERY_S),
                *((module, "bounded", _unbounded) for module in (opening, schema)),
            ):
                patched.enter_context(mock.patch.object(place, name, value))
            yield

    def _take_part(self, connection: Any) -> int:
        self._parts = (self._parts + 1) % transaction.PARTS
        connection.execute("SELECT set_config('premblyd.part', %s, false)", [str(self._parts)])
        return self._parts

    # Turns

    def _go_on(self) -> None:
        for host in self.hosts:
            self.time.at(self.rng.uniform(0, 1), host.start)
        for minute in range(60):
            self.time.at(minute * 30, self.model.claimed_begin)
        count, at_ns = 0, -1
        try:
            while not self.is_over:
                waits = {host: host.waits_ns() for host in self.hosts}
                able = [host for host, wait_ns in waits.items() if wait_ns == 0]
                if able:
                    self.rng.choice(able).turn()
                    count = count + 1 if at_ns == self.time.true_ns else 0
                    at_ns = self.time.true_ns
                    self.model.require(count < TURNS, "nothing goes round for ever")
                    continue
                least_ns = min((each for each in waits.values() if each), default=60 * 10**9)
                self.time.pass_until(self.time.true_ns + least_ns)
        finally:
            self.is_over = True
            for host in self.hosts:
                if host.loop is not None:
                    host.end()
            for transaction_ in self.late:
                transaction_.throw(GreenletExit)

    def _close(self) -> None:
        self.link.close()
        with self.cluster.connect() as connection:
            name = self.server.url.partition("@/")[2].partition("?")[0]
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())

    def finish(self, transaction_: Any) -> None:
        self.late.remove(transaction_)
        self.tell("the server ends a transaction that was given up")
        transaction_.switch()

    def ended(self, host: Host) -> None:
        """Start it again some time."""
        if self.is_over:
            return
        down_s = self.rng.choice((0.2, 3.0, 30.0, 100.0)) if not self.is_quiet else 1.0
        self.time.at(down_s, host.start)
        if self.faults["reboots"] and self.rng.random() < 0.3:
            host.take()
            host.machine += "'"
            self.time.restart_machine()
            for run in self.script.running:
                self.script.kill(run)
            self.tell(f"the machine of {host.name} starts again")

    def _plan_reloads(self, length_s: float) -> None:
        """Hosts differ in what they start with, see `settings_of`."""

    def settings_of(self, host: Host) -> Config:
        """Return with which configuration it starts: for a while with one action less, or without
        a feature that other hosts have."""
        if self.lack and not self.is_quiet and host.number != 1 and self.lives % 2:
            self.model.turned_off |= {self.lack}
            self.tell(f"{host.name} has no `{self.lack}`")
            return host.lacking
        actions = host.whole.actions
        if self.is_quiet or not self.faults["actions"] or self.rng.random() < 0.5:
            return host.whole
        lacks = actions[host.number % len(actions)]
        self.tell(f"{host.name} has no {lacks.name}")
        return host.whole.model_copy(
            update={"actions": tuple(each for each in actions if each is not lacks)}
        )

    def _hear(self, event: str, fields: Any) -> None:
        super()._hear(event, fields)
        if event == "host.failed":
            raise Broken(f"the daemon has no fault of its own: {event} {fields.get('cause')!r}")
        if event.startswith("host."):
            self.tell(f"{self.current.name} tells: {event} {dict(fields)}")
        if event == "host.lost":
            self.model.taken_for_lost(fields["worker"])
        elif event == "host.fenced":
            self.model.fenced(self.current)

    def announce(self, by: Host) -> None:
        for host in self.hosts:
            if self.faults["words"] and self.rng.random() < 0.5:
                continue
            if host is not by and host.daemon is not None and not host.is_cut:
                beacon: Any = host.daemon._membership._beacon  # type: ignore[attr-defined]
                self.time.at(
                    self.rng.choice((0.001, 0.001, 0.05, 0.5)), functools.partial(_hear, beacon)
                )

    # What happens in the world

    def _moments(self, length_s: float) -> Iterator[float]:
        self.script.slow = self.rng.choice((0.1, 0.5))
        crowds = [self.rng.uniform(1, length_s) for _ in range(5)]  # so that hosts meet
        for _ in range(20):
            yield self.rng.choice(crowds) + self.rng.choice((0.0, 0.0, 0.01, 0.2, 5.0))

    def _faults(self) -> dict[str, Callable[[], None]]:
        return {
            "crashes": self._at_some(self._crash_soon),
            "disk": self._at_some(self._disk_fails),
            "cut": self._at_some(lambda: self.current.cut(self._length_s())),
            "freeze": self._at_some(
                lambda: self.current.freeze(self._length_s(), asleep=self.rng.random() < 0.5)
            ),
            "slow": self._at_some(self._slow_down),
            "clock": self._at_some(self._clock_is_set),
            "api": self._api_changes,
            "operator": self._somebody_operates,
            "stop": self._at_some(self._stop_daemon),
        }

    def _at_some(self, fault: Callable[[], None]) -> Callable[[], None]:
        def do() -> None:
            self.rng.choice(self.hosts).take()
            self.tell(f"at {self.current.name}:")
            fault()

        return do

    def _length_s(self) -> float:
        return float(self.lost_after_s * self.rng.choice((0.1, 0.7, 1.2, 1.2, 2.5)))

    def _slow_down(self) -> None:
        self.current.slow_s = self.rng.choice((0.0, 0.3, 0.8))

    def _clock_is_set(self) -> None:
        by_s = self.rng.choice((1, -1)) * self.rng.choice((3, 100, 4000, 90_000))
        self.tell(f"the wall's clock is set by {by_s} s")
        self.time.own.wall_ns += by_s * 10**9

    @property
    def _has_open(self) -> bool:
        """Whether a transaction is open, which a command would wait for."""
        return bool(self.late or any(host.open for host in self.hosts))

    def _somebody_operates(self) -> None:
        if self._has_open:
            return self.time.at(0.05, self._unless_quiet(self._somebody_operates))
        return super()._somebody_operates()

    def _be_quiet(self) -> None:
        for host in self.hosts:
            host.disk.mend()  # else one that is slow may always have a transaction open
        if self._has_open:
            return self.time.at(0.05, self._be_quiet)
        for host in self.hosts:
            host.mend()
            host.slow_s = 0.0
        super()._be_quiet()
        for host in self.hosts:
            if host.settings is not host.whole:
                host.take()
                self._stop_daemon()
        return None

    def _send(self, post: Post) -> None:
        with self.rng.choice(self.hosts).at_work():
            super()._send(post)

    def _is_over(self) -> None:
        self.hosts[0].take()
        super()._is_over()
        self.is_over = bool(self.stop and self.stop.done())


@contextlib.contextmanager
def prepared_cluster() -> Iterator[postgresql.Cluster]:
    """A server for simulations. What it does by itself could change the order of rows."""
    with postgresql.cluster(**postgresql.FAST, autovacuum="off") as cluster:
        cluster.start()
        postgresql.make_template(cluster)
        yield cluster


def _unbounded(*_: object) -> contextlib.AbstractContextManager[None]:
    return contextlib.nullcontext()


def _hear(beacon: server.Beacon) -> None:
    beacon.has_heard = True
    beacon.stirred.set()


class _Now:
    """The server's time, as a statement has it."""

    def __init__(self, sim: HostsSimulation) -> None:
        self._sim = sim

    def __str__(self) -> str:
        return str(self._sim.server_ms)
