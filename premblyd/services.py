"""What a running daemon offers its features (`Services`), and what each adds to it (`Part`)."""

import contextlib
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any

from premblyd.config.models import Config
from premblyd.config.routing import Routing
from premblyd.ground.databases import DatabaseAddress
from premblyd.ground.times import Clock
from premblyd.queue.heartbeat import Heartbeat
from premblyd.queue.queue import Queue
from premblyd.queue.register import Identity
from premblyd.run.dispatcher import Gate
from premblyd.run.kinds import Runners
from premblyd.store.engine import Backend
from premblyd.store.writer import Writer

Expose = Callable[[str], Awaitable[tuple[bytes, str]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """What a running daemon offers. `own` is what the other hosts know it by."""

    database: DatabaseAddress
    backend: Backend
    clock: Clock
    own: Identity
    writer: Writer
    queue: Queue
    runners: Runners
    wake: Callable[[], None]  # has deliveries run that are due now
    is_leader: Callable[[], bool]  # whether this host does what one of them does for all
    can_store: Callable[[], Awaitable[bool]]  # by a commit now
    is_alive: Callable[[], bool]  # whether due deliveries are looked for
    expose: Expose | None  # that of a part
    heartbeat: Heartbeat
    opened: contextlib.AsyncExitStack  # closes, in reverse, what parts push on it


class Part:
    """What a feature adds to a running daemon, which makes one of it. A feature has those of these
    that it needs; the methods are in the order in which they are called."""

    loops: Mapping[str, Callable[[], Coroutine[Any, Any, None]]] = {}  # run as long as the daemon
    gate: Gate | None = None  # which hooks pass before they run
    expose: Expose | None = None  # returns all metrics as a request's `Accept` asks, and their type
    address: str | None = None  # where it listens

    def begin(self, settings: Config, clock: Clock, opened: contextlib.AsyncExitStack) -> None:
        """Begin before anything is open: the database is this daemon's, that is all."""

    def open(self, services: Services) -> None:
        """Open what is needed. Nothing is at work yet."""

    def prepare(self, settings: Config, routing: Routing) -> Any:
        """Return what takes long to make of settings that nobody uses yet. For a reload, a thread
        calls it. `routing`: of their actions."""

    def configure(self, settings: Config, prepared: Any) -> None:
        """Use these settings from now on, and what was `prepared` of them."""

    def listen(self) -> None:
        """Listen too, if that is wanted: the daemon does by now."""

    async def stop(self) -> None:
        """End what is under way: the daemon takes no more work."""
