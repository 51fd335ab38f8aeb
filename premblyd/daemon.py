"""The daemon: wires the rooms together, starts and stops them. The owner of the process runs it."""

import asyncio
import errno
import os
import random
import socket
import uuid
from pathlib import Path

from premblyd import __version__, listening, logs, presence
from premblyd.clock import Clock
from premblyd.config.models import Config
from premblyd.errors import CannotStartError, PremblydError
from premblyd.hooks.dispatcher import Dispatcher
from premblyd.hooks.http.runner import HttpRunner
from premblyd.hooks.shell.runner import ShellRunner
from premblyd.hooks.strays import Strays, find_marks, kill_marked
from premblyd.receiver.health import Health
from premblyd.receiver.listener import patiently
from premblyd.receiver.server import Receiver, make_server
from premblyd.routing import Matching
from premblyd.store.inbox import Inbox
from premblyd.store.queue import Queue
from premblyd.store.sqlite import opening as database
from premblyd.store.sqlite.writer import Writer

STUCK_MS = 30_000  # without a round, which waits for the writer
# What trying again does not mend: somebody must change a path or a right.
_LASTING = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.ENAMETOOLONG)
NEEDS_RESTART = ("listen", "database_path")
log = logs.get_logger()


class Daemon:
    """One running premblyd. `start`, then `stop`; `reload` in between."""

    def __init__(self, settings: Config, path: Path) -> None:
        self._settings = settings
        self._path = path
        self._clock = Clock()
        self._started_at_ms = self._clock.now_ms()
        self._lock = -1

    async def start(self) -> None:
        """Open the database, listen and run hooks. Raise PremblydError when it can't."""
        settings = self._settings
        path = self._database_path = settings.database_path
        self._lock = _locked(path)
        migrated = database.prepare(path)
        self._writer = Writer(path)
        worker = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
        self._inbox = Inbox(self._writer)
        queue = Queue(self._writer, worker)
        interrupted = await queue.recover(self._clock.now_ms())
        # Also what hooks left that had ended: the daemon died before it swept.
        leftovers = kill_marked(await queue.known(find_marks()))
        self._shell, self._http = ShellRunner(), HttpRunner()
        runners = {"shell": self._shell.run, "http": self._http.run}
        self._dispatcher = Dispatcher(queue, runners, self._clock, random.Random())  # noqa: S311
        health = Health(
            lambda: self._inbox.prove_commit(self._clock.now_ms()), lambda: self._writer.failed_at
        )
        self._receiver = Receiver(
            self._inbox, health=health, wake=self._dispatcher.wake, clock=self._clock
        )
        self._configure(settings)
        self._server = make_server(self._receiver)
        self._listening = listening.listen(settings.listen)
        self._server.add_sockets(patiently(self._listening.sockets))
        self.dispatching = asyncio.create_task(self._dispatcher.run())
        self.timing_out = asyncio.create_task(self._receiver.watch_connections())
        self._publish(settings)
        log.info(
            "daemon.started",
            version=__version__,
            listen=self._listening.addresses,
            database=str(path),
            endpoints=len(settings.endpoints),
            actions=len(settings.actions),
            migrated=migrated,
            recovered_deliveries=len(interrupted),
            killed_leftovers=leftovers,
        )
        self._doubt_listen(settings)

    @property
    def address(self) -> str:
        """Where it listens, as a URL's host and port."""
        return self._listening.addresses[0]

    def reload(self, settings: Config) -> None:
        """Use `settings` from the next request and claim on."""
        for name in NEEDS_RESTART:
            if getattr(settings, name) != getattr(self._settings, name):
                log.warning("config.needs_restart", setting=name.removesuffix("_path"))
        self._settings = settings
        self._configure(settings)
        self._publish(settings)
        log.info(
            "config.reloaded", endpoints=len(settings.endpoints), actions=len(settings.actions)
        )

    async def stop(self) -> None:
        """Accept no more, answer what is in flight, let hooks end, and close. Hooks that run
        longer than `stop_timeout` are interrupted, and run again after the next start."""
        log.info("daemon.stopping", running_hooks=self._dispatcher.running)
        timeout_s = self._settings.stop_timeout_ms / 1000
        self._server.stop()
        hooks = asyncio.create_task(self._dispatcher.stop(timeout_s, self._interrupt))
        await self._receiver.drain(timeout_s)
        await self._server.close_all_connections()
        await hooks
        await self.dispatching
        self.timing_out.cancel()
        self._shell.close()
        self._http.close()
        await self._writer.close()
        self._publish(None)
        os.close(self._lock)
        self._listening.remove()
        log.info("daemon.stopped")

    def is_alive(self) -> bool:
        """Return whether the loop, the writer and the dispatcher still work together: what the
        watchdog is fed on. A database that fails is no reason: a restart does not mend it, and
        would interrupt the hooks that run."""
        return self._clock.now_ms() - self._dispatcher.last_round_ms < STUCK_MS

    async def sweep(self, strays: Strays) -> None:
        """Kill what hooks leave behind; see ShellRunner.sweep."""
        await self._shell.sweep(strays)

    def status(self) -> str:
        """Return one line for `systemctl status`."""
        health = self._writer.last_error or "ok"
        return (
            f"{self._receiver.requests_in_flight} requests in flight,"
            f" {self._dispatcher.running} hooks running, database {health}"
        )

    def _configure(self, settings: Config) -> None:
        self._http.configure(settings.endpoints, settings.total_concurrency)
        self._dispatcher.configure(
            settings.actions, settings.total_concurrency, settings.max_hook_bytes
        )
        self._receiver.configure(settings, Matching(settings.actions).match)

    def _publish(self, settings: Config | None) -> None:
        """Tell commands what runs here; None: nothing any more. Work goes on if that fails."""
        try:
            if settings is None:
                presence.withdraw(self._database_path)
                return
            own = presence.of_this_process(
                settings,
                self._path,
                started_at_ms=self._started_at_ms,
                listen=self._listening.addresses,
            )
            presence.publish(own, self._database_path)
        except OSError as error:
            log.warning("daemon.not_published", reason=error.strerror)

    def _doubt_listen(self, settings: Config) -> None:
        """Warn when systemd's sockets are elsewhere than `listen` says: they win."""
        if self._listening.differs_from(settings.listen):
            log.warning(
                "daemon.listen_ignored",
                listen=str(settings.listen),
                used=self._listening.addresses,
                remedy="systemctl edit premblyd.socket",
            )

    def _interrupt(self) -> None:
        self._shell.interrupt()
        self._http.interrupt()


def _locked(path: Path) -> int:
    try:
        path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
        return database.lock(path)
    except OSError as error:
        kind = CannotStartError if error.errno in _LASTING else PremblydError
        raise kind(f"Can't use {path.parent} for the database: {error.strerror}") from None
