"""What a running daemon does for those who watch it: it counts, sends alerts, and checks in."""

import asyncio
import contextlib
import functools
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from premblyd.config.models import Config
from premblyd.features.reading.readers import Readers
from premblyd.features.watch.alerts import AlertLog, TroubleWatch
from premblyd.features.watch.counting import Counts
from premblyd.features.watch.settings import CHECKIN
from premblyd.features.watch.settings import Checkin as CheckinSettings
from premblyd.ground import loops, telemetry
from premblyd.ground.databases import DatabaseAddress, file_of
from premblyd.ground.errors import PremblydError
from premblyd.ground.httpclient import HttpClient, Request
from premblyd.ground.telemetry import tell
from premblyd.ground.times import Clock
from premblyd.record.told import Family, Situation
from premblyd.services import Part, Services
from premblyd.store.connections import backend
from premblyd.store.writer import Writer

AGAIN_S = 15.0  # after what failed: Healthchecks.io drops more than five heartbeats a minute
TIMEOUT_S = 10.0
OFF_S = 3600.0  # until the next look, where there is nobody to check in with: a reload wakes
NO_STORE = "webhooks can't be stored"
NO_LOOK = "nothing checks for due deliveries"


class Checkin:
    """The dead man's switch: it sends heartbeats to a service elsewhere, which alerts people when
    they stop. One is sent only after a real commit and a real check of the queue."""

    def __init__(
        self, can_store: Callable[[], Awaitable[bool]], is_alive: Callable[[], bool]
    ) -> None:
        """`can_store` finds out by a commit. `is_alive`: whether the queue is looked at."""
        self._can_store = can_store
        self._is_alive = is_alive
        self._settings: CheckinSettings | None = None
        self._client: HttpClient | None = None  # made when there is somebody to check in with
        self._wake = asyncio.Event()
        self._told: str | None = None  # why the last heartbeat was not sent, as the log has it

    def configure(self, settings: CheckinSettings | None) -> None:
        """Check in there from now on; None: nowhere."""
        if settings != self._settings:
            self._settings, self._told = settings, None
            self._wake.set()

    async def run(self) -> None:
        """Check in until the daemon ends."""
        await loops.repeat(self._round, AGAIN_S, wake=self._wake, failed="checkin.failed")

    def close(self) -> None:
        if self._client is not None:
            self._client.close()

    async def _round(self) -> float:
        """Send the heartbeat that is due, if it is earned."""
        settings = self._settings
        if settings is None:
            return OFF_S
        every_s = settings.every_ms / 1000
        lack = NO_STORE if not await self._can_store() else "" if self._is_alive() else NO_LOOK
        if lack:
            self._tell("checkin.withheld", lack, reason=lack)
        elif await self._send(settings):
            return every_s
        return min(AGAIN_S, every_s / 4)

    async def _send(self, settings: CheckinSettings) -> bool:
        self._client = self._client or HttpClient()
        response = await self._client.send(
            Request(settings.url.reveal(), [], method="GET"),
            TIMEOUT_S,
            ca_file=str(settings.ca_file) if settings.ca_file else None,
            proxy=settings.proxy.reveal() if settings.proxy else "",
        )
        if not 200 <= response.status < 300:
            error = response.error or f"HTTP {response.status}"
            self._tell("checkin.not_sent", error, http_status=response.status or None, error=error)
            return False
        if self._told is not None:
            self._told = None
            tell("checkin.resumed")
        return True

    def _tell(self, event: str, why: str, **fields: Any) -> None:
        """Tell of a failure once, until a heartbeat was sent or it fails otherwise."""
        if why != self._told:
            self._told = why
            tell(event, **fields)


class Exporter:
    """Counts from its start on."""

    def __init__(self, place: DatabaseAddress, clock: Clock) -> None:
        self.counts = Counts()
        self._place = place
        self._clock = clock
        self._one_at_a_time = asyncio.Lock()

    def configure(self, config: Config) -> None:
        """Know these endpoints and actions from now on."""
        self._config = config
        self.counts.configure(config)

    def watch(self, writer: Writer) -> None:
        """Tell whether this one can commit."""
        self._writer = writer

    async def expose(self, accept: str) -> tuple[bytes, str]:
        """Return all metrics in the format that `accept`, a request's header, asks for, and that
        format: without those of the record where that can't be read, or takes too long."""
        async with self._one_at_a_time:
            counts = self.counts.copy()
            situation = functools.partial(
                Situation,
                now_ms=self._clock.now_ms(),
                settings=self._config,
                path=file_of(self._place),
                store_error=self._writer.recent_error(),
            )
            families = await asyncio.to_thread(_families)
            readers = Readers(backend(self._place), count=1)
            try:
                record = await readers.run(
                    lambda database: families.read(situation(record=database))
                )
            except PremblydError:
                record = None
            finally:
                await readers.close()
            return await asyncio.to_thread(self._expose, counts, record, accept)

    def _expose(
        self, counts: Counts, record: Sequence[Family] | None, accept: str
    ) -> tuple[bytes, str]:
        works, free = self._writer.last_error is None, backend(self._place).sizes().free_bytes
        exposed: tuple[bytes, str] = _families().expose(
            counts, record, accept, store_works=works, free_bytes=free
        )
        return exposed


def _families() -> Any:
    # Here, as a daemon that nobody asks has no use for the library, nor for reading the record, and
    # they take memory and a tenth of a start.
    from premblyd.features.watch import families

    return families


class Watch(Part):
    """Counts, alerts and heartbeats."""

    def begin(self, settings: Config, clock: Clock, opened: contextlib.AsyncExitStack) -> None:
        self._metrics = Exporter(settings.database, clock)
        self.expose = self._metrics.expose
        telemetry.LISTENERS.append(self._metrics.counts.listen)
        opened.callback(telemetry.LISTENERS.remove, self._metrics.counts.listen)

    def open(self, services: Services) -> None:
        self._metrics.watch(services.writer)
        self._checkin = Checkin(services.can_store, services.is_alive)
        services.opened.callback(self._checkin.close)
        self._troubles = TroubleWatch(
            AlertLog(services.writer),
            services.runners,
            services.clock,
            services.database,
            store_error=services.writer.recent_error,
            is_leader=services.is_leader,
        )
        self.loops = {"alerts": self._troubles.run, "checkin": self._checkin.run}

    def configure(self, settings: Config, prepared: object) -> None:
        self._metrics.configure(settings)
        self._troubles.configure(settings)
        self._checkin.configure(CHECKIN.of(settings))


PARTS = (Watch,)
