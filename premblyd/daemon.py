"""The daemon: connects the parts, starts and stops them. The owner of the process runs it."""

import asyncio
import contextlib
import os
import random
import sys
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from premblyd import __version__, presence
from premblyd.config import load
from premblyd.config.load import load_config
from premblyd.config.models import Config
from premblyd.features.asking.answering import Answers
from premblyd.features.asking.awaited import AwaitedQueue
from premblyd.features.asking.client import Inquirer
from premblyd.features.asking.confirm import Confirmation
from premblyd.features.asking.pending import PendingAsker
from premblyd.features.asking.questions import Inquiries
from premblyd.features.asking.settings import PENDING, PREMBLY, may_ask
from premblyd.features.asking.settling import Settling
from premblyd.features.console.settings import CONSOLE
from premblyd.features.keeping.linefiles import LineKeeper
from premblyd.features.keeping.settings import RETENTION
from premblyd.features.keeping.sweeping import Sweeping
from premblyd.features.pause.pauses import PauseLog
from premblyd.features.postgresql.membership import Alone, Membership
from premblyd.features.postgresql.settings import HOSTS
from premblyd.features.watch.checkin import Checkin
from premblyd.features.watch.counting import Runtime
from premblyd.features.watch.exporter import Exporter
from premblyd.features.watch.settings import CHECKIN
from premblyd.features.watch.troublewatch import AlertLog, TroubleWatch
from premblyd.features.worker.halts import HaltLog
from premblyd.ground import keyfile, telemetry
from premblyd.ground.databases import Server, key_of
from premblyd.ground.errors import PremblydError
from premblyd.ground.loops import Loops
from premblyd.ground.telemetry import tell
from premblyd.ground.times import Clock, SharedClock
from premblyd.queue import hooks, identity
from premblyd.queue.heartbeat import Heartbeat
from premblyd.queue.identity import Identity
from premblyd.queue.inbox import Inbox
from premblyd.queue.queue import Queue
from premblyd.queue.register import Hosts
from premblyd.receive import listening
from premblyd.receive.server import Receiver, make_server
from premblyd.run.dispatcher import Actions, Dispatcher
from premblyd.run.kinds import Runners
from premblyd.run.process import Children
from premblyd.run.starting import Permit
from premblyd.run.strays import find_marks, kill_marked
from premblyd.store.connections import backend
from premblyd.store.readers import Readers
from premblyd.store.writer import Writer

if TYPE_CHECKING:
    from premblyd.features.console.app import Console

SWITCH_S = 0.0005
STUCK_MS = 30_000  # without a round of the dispatcher, which waits for the writer


@dataclass(frozen=True, slots=True, kw_only=True)
class Reread:
    """The configuration as it is read for a reload, with all that takes long to make of it."""

    settings: Config
    presence: presence.Presence
    settling: Settling  # and the routing of its actions
    actions: Actions


class Daemon:
    """One running premblyd, for as long as it is entered (`async with`).

    Entering opens the database, listens and runs hooks; raise PremblydError when it can't. Leaving
    closes what was opened, in reverse, and so does a start that fails half-way.
    """

    def __init__(self, settings: Config, path: Path) -> None:
        self._settings = self._started_with = settings
        self._path = path
        shared = isinstance(settings.database, Server)
        self._clock = SharedClock() if shared else Clock()
        self._started_at_ms = self._clock.now_ms()
        self._opened = contextlib.AsyncExitStack()
        self.loops = Loops()
        self.children = Children()
        self._console: Console | None = None
        self._checkin = Checkin(self._can_store, lambda: self._dispatcher.looked_at_s)

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
        about_host = HOSTS.of(settings)
        own = identity.of_this_process(about_host.name)
        self._queue = queue = Queue(self._writer, own.worker)
        hosts = Hosts(
            self._writer,
            own,
            (action.name for action in settings.actions),
            about_host.lost_after_ms,
        )
        self._membership = self._member(hosts, own, queue)
        opened.push_async_callback(self._membership.leave)
        interrupted = await self._membership.join()
        # Also processes that ended hooks left behind: the last daemon may have died before a sweep.
        marks = find_marks()
        ended = await hosts.ended({mark.worker for mark in marks})
        leftovers = kill_marked({mark for mark in marks if mark.worker in ended})
        self._inquirer = Inquirer(self._clock)
        opened.callback(self._inquirer.close)
        self._open_hooks(opened, queue)
        self._pending = PendingAsker(
            AwaitedQueue(self._writer),
            Answers(self._writer),
            self._inquirer,
            self._clock,
            self._wake,
            is_leader=self._leads,
        )
        self._sweeping = Sweeping(self._writer, self._clock, is_leader=self._leads)
        self._open_receiver(opened)
        self._open_console(opened)
        presence.publish(self._presence(settings), self._database)
        opened.callback(presence.withdraw, self._database, self._path)
        await self._heartbeat.beat()  # not before: a start that fails must not count
        await opened.enter_async_context(self.loops)
        self._start_loops(own)
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

    def _start_loops(self, own: Identity) -> None:
        writer, clock = self._writer, self._clock
        for name, run in {
            "hosts": self._membership.run,
            "dispatcher": self._dispatcher.run,
            "connections": self._receiver.watch_connections,
            "pending": self._pending.run,
            "heartbeat": self._heartbeat.run,
            "alerts": self._watch.run,
            "retention": self._sweeping.run,
            "erasure lines": LineKeeper(writer, self._database, own.name).run,
            "checkin": self._checkin.run,
            "halts": HaltLog(writer, own.worker, self.children.halts, clock).run,
            "pauses": PauseLog(writer, clock).run,
        }.items():
            self.loops.start(name, run())

    def _open_store(self, opened: contextlib.AsyncExitStack) -> None:
        self._database = self._settings.database
        self._backend = backend(self._database)
        opened.enter_context(self._backend.hold())
        # Not before: another daemon may be at work here, for which this one must not speak.
        self._checkin.start(CHECKIN.of(self._settings))
        opened.push_async_exit(self._checkin.end)
        self._backend.prepare()
        if (key := key_of(self._database)) and os.path.lexists(keyfile.next_to(key)):
            remedy = "stop the daemon, and finish the change: premblyd record encrypt"
            tell("daemon.key_changing", key=str(keyfile.next_to(key)), remedy=remedy)
        self._metrics = Exporter(self._database, self._clock)
        telemetry.LISTENERS.append(self._metrics.counts.listen)
        opened.callback(telemetry.LISTENERS.remove, self._metrics.counts.listen)
        with contextlib.ExitStack() as failed:
            engine = self._backend.engine()
            failed.callback(engine.close)
            self._writer = Writer(engine, self._metrics.counts.committed)
            self._writer.bound = hooks.bind(self._settings)
            failed.pop_all()  # from here on the writer closes it
        opened.push_async_callback(self._writer.close)
        self._heartbeat = Heartbeat(self._writer, self._clock, is_leader=self._leads)

    def _member(self, hosts: Hosts, own: Identity, queue: Queue) -> Membership | Alone:
        """Return what knows of other daemons, where there may be others."""
        beacon = self._backend.beacon()
        if beacon is None or not isinstance(self._clock, SharedClock):
            return Alone(hosts, queue, self._clock)
        return Membership(
            hosts,
            queue,
            own,
            beacon,
            self._clock,
            lost_after_s=HOSTS.of(self._settings).lost_after_ms / 1000,
            is_named=HOSTS.of(self._settings).name_value is not None,
            wake=self._wake_dispatcher,
            stop_fenced_hooks=self._stop_fenced_hooks,
        )

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

    async def _stop_fenced_hooks(self, still_own: Callable[[], Awaitable[Collection[str]]]) -> int:
        """Kill the hooks of deliveries that other hosts have taken over; return how many processes
        that were."""
        permitted = dict(self._dispatcher.permitted)
        own = await still_own()
        lost = [permit for token, permit in permitted.items() if token not in own]
        try:
            return kill_marked({mark for permit in lost for mark in permit.marks})
        finally:  # also when no process can be looked at now: others start these hooks
            for permit in lost:
                permit.revoke()

    def _open_hooks(self, opened: contextlib.AsyncExitStack, queue: Queue) -> None:
        self._runners = Runners.make(self.children)
        opened.callback(self._runners.close)
        # Closing the runners waits for their hooks. After a whole stop none runs any more; after
        # one that was cut short some may, so they are interrupted first.
        opened.callback(self._runners.interrupt)
        rng = random.Random()  # noqa: S311 (spreads retries; nobody gains by guessing)
        self._confirmation = Confirmation(
            self._inquirer, Inquiries(self._writer), queue, Answers(self._writer), self._clock
        )
        self._dispatcher = Dispatcher(
            queue,
            self._runners,
            self._clock,
            rng,
            self._confirmation,
            lambda job, claimed_at_s: Permit(self._membership.claim(job, claimed_at_s)),
        )
        self._watch = TroubleWatch(
            AlertLog(self._writer),
            self._runners,
            self._clock,
            self._database,
            store_error=self._writer.recent_error,
            is_leader=self._leads,
        )

    def _open_receiver(self, opened: contextlib.AsyncExitStack) -> None:
        inbox, wake = Inbox(self._writer), self._wake
        if self._backend.is_shared:  # and the server may be far: its claim waits for no commit
            inbox = Inbox(self._writer, will_add=self._wake_dispatcher)
            wake = self._membership.announce
        self._receiver = Receiver(
            inbox, failed_at=lambda: self._writer.failed_at, wake=wake, clock=self._clock
        )
        opened.callback(self._receiver.close)
        self._metrics.watch(self._runtime)
        actions = Actions(self._settings.actions)
        self._configure(self._settings, Settling(self._settings), actions)
        self._listening = listening.listen(self._settings.listen)
        opened.callback(self._listening.close)
        self._server = make_server(self._receiver)
        self._server.add_sockets(self._listening.sockets)

    def _open_console(self, opened: contextlib.AsyncExitStack) -> None:
        """Open the console, if there is to be one. Webhooks are taken even if it can't listen."""
        console = CONSOLE.of(self._settings)
        if console is None:
            return
        from premblyd.features.console.app import Console  # it takes memory that few need

        try:
            listened = listening.listen_at(console.listen)
        except PremblydError as error:
            tell("console.not_opened", reason=str(error))
            return
        # A thread that makes a page keeps the loop waiting for so long, at each turn, and no longer
        # (Python's default is 5 ms).
        sys.setswitchinterval(SWITCH_S)
        readers = Readers(self._backend)
        opened.push_async_callback(readers.close)
        self._console = Console(
            listened,
            readers=readers,
            writer=self._writer,
            clock=self._clock,
            wake=self._wake,
            database=self._database,
            metrics=self._metrics,
        )
        opened.push_async_callback(self._console.close)
        self._console.configure(self._settings)

    async def _end_work(self) -> None:
        """Accept no more, answer what is in flight, and let hooks end. Those that run longer than
        `stop_timeout` are interrupted, and run again after the next start."""
        tell("daemon.stopping", running_hooks=self._dispatcher.running)
        self.loops.may_end()
        self._checkin.stop()
        timeout_s = self._settings.stop_timeout_ms / 1000
        hooks = asyncio.create_task(self._dispatcher.stop(timeout_s))
        asked = asyncio.create_task(self._pending.stop())
        beat = asyncio.create_task(self._heartbeat.end())
        self._receiver.ask_to_close()
        await self._listening.accept_last()
        self._server.stop()
        await self._receiver.drain(timeout_s)
        await self._server.close_all_connections()
        await asyncio.gather(hooks, beat, asked)

    @property
    def address(self) -> str:
        """Where it listens, as a URL's host and port."""
        return self._listening.addresses[0]

    def read(self) -> Reread:
        """Read the configuration again, for `reload`. In a thread: thousands of actions take
        seconds. (So it looks through settings that nobody uses yet.) Raise ConfigError when the
        file can't be used."""
        settings = load_config(self._path)
        return Reread(
            settings=settings,
            presence=self._presence(settings),
            settling=Settling(settings),
            actions=Actions(settings.actions),
        )

    async def reload(self, reread: Reread) -> None:
        """Use these settings from the next request and claim on."""
        settings = reread.settings
        for key in load.changed(self._started_with, settings):
            tell("config.needs_restart", setting=key)
        self._settings = settings
        self._writer.bound = hooks.bind(settings)
        self._configure(settings, reread.settling, reread.actions)
        await asyncio.to_thread(presence.publish, reread.presence, self._database)
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

    def status(self) -> str:
        """Return one line for `systemctl status`."""
        health = self._writer.last_error or "ok"
        return (
            f"{self._receiver.requests_in_flight} requests in flight,"
            f" {self._dispatcher.running} hooks running, database {health}"
        )

    def _runtime(self) -> Runtime:
        return Runtime(
            requests=self._receiver.requests_in_flight,
            connections=self._receiver.connections,
            hooks=self._dispatcher.running,
            store_works=self._writer.last_error is None,
            store_error=self._writer.recent_error(),
        )

    def _configure(self, settings: Config, settling: Settling, actions: Actions) -> None:
        self._metrics.configure(settings)
        self._inquirer.configure(PREMBLY.of(settings))
        self._pending.configure(PENDING.of(settings), settling)
        self._confirmation.configure(settling)
        self._runners.configure(settings)
        self._dispatcher.configure(actions, settings.total_concurrency, settings.max_hook_bytes)
        self._membership.configure([action.name for action in settings.actions])
        self._receiver.configure(settings, settling.routing)
        self._heartbeat.configure(may_ask=may_ask(settings))
        self._watch.configure(settings)
        self._checkin.configure(CHECKIN.of(settings))
        self._sweeping.configure(RETENTION.of(settings))
        if self._console is not None and CONSOLE.of(settings) is not None:
            self._console.configure(settings)

    def _presence(self, settings: Config) -> presence.Presence:
        return presence.of_this_process(
            settings,
            self._path,
            started_with=self._started_with,
            started_at_ms=self._started_at_ms,
            listening=self._listening,
            console=self._console.address if self._console else None,
        )
