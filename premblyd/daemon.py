"""The daemon: connects the parts, starts and stops them. The owner of the process runs it."""

import asyncio
import contextlib
import random
import socket
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from premblyd import __version__, presence
from premblyd.config import load
from premblyd.config.hooks import Hook
from premblyd.config.load import load_config
from premblyd.config.models import Config
from premblyd.config.routing import Routing
from premblyd.feature import added
from premblyd.ground.databases import OnServer
from premblyd.ground.loops import Loops
from premblyd.ground.telemetry import tell
from premblyd.ground.times import Clock
from premblyd.queue import hooks
from premblyd.queue.heartbeat import Heartbeat
from premblyd.queue.inbox import Inbox
from premblyd.queue.queue import Queue
from premblyd.queue.register import Hosts, Identity, Member
from premblyd.receive import listening
from premblyd.receive.server import Receiver, make_server
from premblyd.run.dispatcher import Actions, Dispatcher
from premblyd.run.kinds import Runners
from premblyd.run.process import Children
from premblyd.run.starting import Permit
from premblyd.run.strays import find_marks, kill_marked
from premblyd.services import Part, Services
from premblyd.store.connections import backend
from premblyd.store.writer import Writer

STUCK_MS = 30_000  # without a round of the dispatcher, which waits for the writer


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """What takes long to make of a configuration."""

    settings: Config
    routing: Routing
    actions: Actions
    kinds: Collection[type[Hook]]  # of all their hooks
    of_parts: Sequence[Any]  # what each has prepared


class Daemon:
    """One running premblyd, for as long as it is entered (`async with`).

    Entering opens the database, listens and runs hooks; raise PremblydError when it can't. Leaving
    closes what was opened, in reverse, and so does a start that fails half-way.
    """

    def __init__(self, settings: Config, path: Path) -> None:
        self._settings = self._started_with = settings
        self._path = path
        place = settings.database
        self._clock = place.clock() if isinstance(place, OnServer) else Clock()
        self._started_at_ms = self._clock.now_ms()
        self._opened = contextlib.AsyncExitStack()
        self.loops = Loops()
        self.children = Children()
        self._parts: list[Part] = [make() for make in added("daemon", "PARTS")]

    async def __aenter__(self) -> Self:
        async with contextlib.AsyncExitStack() as opened:
            await self._open(opened)
            self._opened = opened.pop_all()
        return self

    async def __aexit__(self, *exception: Any) -> None:
        """Stop. Raise PremblydError when that is because a loop failed."""
        try:
            await self._opened.__aexit__(*exception)
        finally:
            tell("daemon.stopped")

    async def _open(self, opened: contextlib.AsyncExitStack) -> None:
        """Open one thing after the other; `opened` closes each."""
        settings = self._settings
        self._open_store(opened)
        names = (name(settings) for name in added("backends", "HOSTS"))
        own = Identity.of_this_process(next(filter(None, names), socket.gethostname()))
        self._queue = Queue(self._writer, own.worker)
        self._membership = self._member(own)
        opened.push_async_callback(self._membership.leave)
        interrupted = await self._membership.join()
        if released := await self._queue.let_go(self._clock.now_ms()):
            tell("daemon.let_go", deliveries=released)
        # Also processes that ended hooks left behind: the last daemon may have died before a sweep.
        marks = find_marks()
        ended = await self._membership.ended({mark.worker for mark in marks})
        leftovers = kill_marked({mark for mark in marks if mark.worker in ended})
        self._open_hooks(opened)
        self._open_receiver(opened)
        self._open_parts(own, opened)
        self._configure(self._make(settings))
        self._listen(opened)
        self._publish()
        opened.callback(presence.withdraw, self._database, self._path)
        await self._heartbeat.beat()  # not before: a start that fails must not count
        await opened.enter_async_context(self.loops)
        self._start_loops()
        opened.push_async_callback(self._end_work)
        tell(
            "daemon.started",
            version=__version__,
            listen=self._listening.addresses,
            database=str(settings.database),
            endpoints=len(settings.endpoints),
            actions=len(settings.actions),
            recovered_deliveries=len(interrupted),
            killed_leftovers=leftovers,
        )
        self._listening.tell_if_elsewhere(settings.listen)

    def _start_loops(self) -> None:
        for name, run in {
            "hosts": self._membership.run,
            "dispatcher": self._dispatcher.run,
            "connections": self._receiver.watch_connections,
            "heartbeat": self._heartbeat.run,
            **{name: run for part in self._parts for name, run in part.loops.items()},
        }.items():
            self.loops.start(name, run())

    def _open_store(self, opened: contextlib.AsyncExitStack) -> None:
        self._database = self._settings.database
        self._backend = backend(self._database)
        opened.enter_context(self._backend.hold())
        # Not before: another daemon may be at work here, for which this one must not speak.
        for part in self._parts:
            part.begin(self._settings, self._clock, opened)
        self._backend.prepare()
        with contextlib.ExitStack() as failed:
            engine = self._backend.engine()
            failed.callback(engine.close)
            self._writer = Writer(engine)
            self._writer.bound = hooks.bind(self._settings)
            failed.pop_all()  # from here on the writer closes it
        opened.push_async_callback(self._writer.close)
        self._heartbeat = Heartbeat(self._writer, self._clock, is_leader=self._leads)

    def _member(self, own: Identity) -> Member:
        """Return what knows of other daemons, where there may be others."""
        if not self._backend.is_shared:
            names = (action.name for action in self._settings.actions)
            return Member(Hosts(self._writer, own, names), self._queue, self._clock)
        [make_member] = added("backends", "MEMBERS")
        member: Member = make_member(
            settings=self._settings,
            writer=self._writer,
            queue=self._queue,
            own=own,
            backend=self._backend,
            clock=self._clock,
            wake=self._wake_dispatcher,
            permitted=lambda: self._dispatcher.permitted,
        )
        return member

    def _leads(self) -> bool:
        """Return whether this host does what one of them does for all."""
        return self._membership.is_leader

    def _wake(self) -> None:
        """Have deliveries run that are due now: here, or on another host that has room."""
        self._wake_dispatcher()
        self._membership.announce()

    def _wake_dispatcher(self) -> None:
        """Have the dispatcher look for due deliveries."""
        self._dispatcher.wake()

    def _open_hooks(self, opened: contextlib.AsyncExitStack) -> None:
        self._runners = Runners(self.children)
        opened.callback(self._runners.close)
        # Closing the runners waits for their hooks. After a whole stop none runs any more; after
        # one that was cut short some may, so they are interrupted first.
        opened.callback(self._runners.interrupt)
        rng = random.Random()  # noqa: S311 (spreads retries; nobody gains by guessing)
        self._dispatcher = Dispatcher(
            self._queue,
            self._runners,
            self._clock,
            rng,
            lambda job, claimed_at_s: Permit(self._membership.claim(job, claimed_at_s)),
        )

    def _open_receiver(self, opened: contextlib.AsyncExitStack) -> None:
        inbox, wake = Inbox(self._writer), self._dispatcher.wake
        if self._backend.is_shared:  # and the server may be far: its claim waits for no commit
            inbox = Inbox(self._writer, will_add=self._wake_dispatcher)
            wake = self._membership.announce
        self._receiver = Receiver(
            inbox, failed_at=lambda: self._writer.failed_at, wake=wake, clock=self._clock
        )
        opened.callback(self._receiver.close)

    def _open_parts(self, own: Identity, opened: contextlib.AsyncExitStack) -> None:
        services = Services(
            database=self._database,
            backend=self._backend,
            clock=self._clock,
            own=own,
            writer=self._writer,
            queue=self._queue,
            runners=self._runners,
            wake=self._wake,
            is_leader=self._leads,
            can_store=self._can_store,
            is_alive=self.is_alive,
            expose=next((part.expose for part in self._parts if part.expose), None),
            heartbeat=self._heartbeat,
            opened=opened,
        )
        for part in self._parts:
            part.open(services)

    def _listen(self, opened: contextlib.AsyncExitStack) -> None:
        self._listening = listening.listen(self._settings.listen)
        opened.callback(self._listening.close)
        self._server = make_server(self._receiver)
        self._server.add_sockets(self._listening.sockets)
        for part in self._parts:
            part.listen()

    async def _end_work(self) -> None:
        """Accept no more, answer what is in flight, and let hooks end. Those that run longer than
        `stop_timeout` are interrupted, and run again after the next start."""
        tell("daemon.stopping", running_hooks=self._dispatcher.running)
        self.loops.may_end()
        timeout_s = self._settings.stop_timeout_ms / 1000
        stopped = [asyncio.create_task(part.stop()) for part in self._parts]
        hooks = asyncio.create_task(self._dispatcher.stop(timeout_s))
        beat = asyncio.create_task(self._heartbeat.end())
        self._receiver.ask_to_close()
        await self._listening.accept_last()
        self._server.stop()
        await self._receiver.drain(timeout_s)
        await self._server.close_all_connections()
        await asyncio.gather(hooks, beat, *stopped)

    @property
    def address(self) -> str:
        """Where it listens, as a URL's host and port."""
        return self._listening.addresses[0]

    def read(self) -> Made:
        """Read the configuration again, for `reload`. In a thread: thousands of actions take
        seconds. Raise ConfigError when the file can't be used."""
        return self._make(load_config(self._path))

    async def reload(self, made: Made) -> None:
        """Use these settings from the next request and claim on."""
        settings = made.settings
        self._runners.need(made.kinds)  # it may fail: first
        for key in load.changed(self._started_with, settings):
            tell("config.needs_restart", setting=key)
        self._settings = settings
        self._writer.bound = hooks.bind(settings)
        self._configure(made)
        await asyncio.to_thread(self._publish)
        tell("config.reloaded", endpoints=len(settings.endpoints), actions=len(settings.actions))

    async def _can_store(self) -> bool:
        """Return whether webhooks can be stored, by a commit now, and could be lately."""
        can_store = await asyncio.shield(self._receiver.services.check_health())
        return can_store and self._writer.recent_error() is None

    def is_alive(self) -> bool:
        """Return whether the loop, the writer and the dispatcher still work together: what the
        watchdog is fed on. A database that fails is no reason: a restart does not mend it, and
        would interrupt the hooks that run."""
        return self._clock.now_ms() - self._dispatcher.last_round_ms < STUCK_MS

    def _make(self, settings: Config) -> Made:
        routing = Routing(settings.actions)
        gates = [part.gate for part in self._parts if part.gate]
        return Made(
            settings=settings,
            routing=routing,
            actions=Actions(settings.actions, gates),
            kinds={type(action.hook) for action in settings.actions},
            of_parts=[part.prepare(settings, routing) for part in self._parts],
        )

    def _configure(self, made: Made) -> None:
        settings = made.settings
        self._runners.need(made.kinds)
        self._runners.configure(settings)
        self._dispatcher.configure(
            made.actions, settings.total_concurrency, settings.max_hook_bytes
        )
        self._membership.configure([action.name for action in settings.actions])
        self._receiver.configure(settings, made.routing)
        for part, prepared in zip(self._parts, made.of_parts, strict=True):
            part.configure(settings, prepared)

    def _publish(self) -> None:
        presence.publish(
            self._settings,
            self._path,
            started_with=self._started_with,
            started_at_ms=self._started_at_ms,
            listening=self._listening,
            console=next((part.address for part in self._parts if part.address), None),
        )
