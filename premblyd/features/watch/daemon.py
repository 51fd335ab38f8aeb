"""What a running daemon does for those who watch it: it counts, sends alerts, and checks in."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from premblyd.config.models import Config
from premblyd.features.watch.alerts import AlertLog, TroubleWatch
from premblyd.features.watch.counting import Counts
from premblyd.features.watch.settings import CHECKIN
from premblyd.features.watch.settings import Checkin as CheckinSettings
from premblyd.ground import loops, telemetry
from premblyd.ground.databases import DatabaseAddress
from premblyd.ground.errors import PremblydError
from premblyd.ground.httpclient import HttpClient, Request
from premblyd.ground.telemetry import tell
from premblyd.ground.times import Clock, boot_s
from premblyd.record.told import Family
from premblyd.services import Part, Runtime, Services
from premblyd.store.connections import backend
from premblyd.store.readers import Readers

AGAIN_S = 15.0  # after what failed: Healthchecks.io drops more than five heartbeats a minute
TIMEOUT_S = 10.0
LOOKED_S = 60.0  # ago the queue may have been looked at, however long the period is
OFF_S = 3600.0  # until the next look, where there is nobody to check in with: a reload wakes
NO_STORE = "webhooks can't be stored"
NO_LOOK = "nothing checks for due deliveries"


class Checkin:
    """The dead man's switch: it sends heartbeats to a service elsewhere, which alerts people when
    they stop. One is sent only after a real commit and a real check of the queue."""

    def __init__(
        self, can_store: Callable[[], Awaitable[bool]], looked_at_s: Callable[[], float]
    ) -> None:
        """`can_store` finds out by a commit. `looked_at_s`: when the queue was looked at last, as
        `boot_s` counts."""
        self._can_store = can_store
        self._looked_at_s = looked_at_s
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
        if lack := await self._lacking(every_s):
            self._tell("checkin.withheld", lack, reason=lack)
        elif await self._send(settings):
            return every_s
        return min(AGAIN_S, every_s / 4)

    async def _lacking(self, every_s: float) -> str | None:
        """Return why a heartbeat is not earned; None: it is."""
        if not await self._can_store():
            return NO_STORE
        if boot_s() - self._looked_at_s() > min(every_s, LOOKED_S):
            return NO_LOOK
        return None

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
    """Counts from its start on. `runtime` returns what the daemon's parts say now."""

    def __init__(self, place: DatabaseAddress, clock: Clock) -> None:
        self.counts = Counts()
        self._place = place
        self._clock = clock
        self._one_at_a_time = asyncio.Lock()

    def configure(self, config: Config) -> None:
        """Know these endpoints and actions from now on."""
        self._config = config
        self.counts.configure(config)

    def watch(self, runtime: Callable[[], Runtime]) -> None:
        """Ask `runtime` what the daemon's parts say."""
        self._runtime = runtime

    async def expose(self, accept: str) -> tuple[bytes, str]:
        """Return all metrics in the format that `accept`, a request's header, asks for, and that
        format: without those of the record where that can't be read, or takes too long."""
        async with self._one_at_a_time:
            counts, runtime = self.counts.copy(), self._runtime()
            settings, now_ms = self._config, self._clock.now_ms()
            families = await asyncio.to_thread(_families)
            readers = Readers(backend(self._place), count=1)
            try:
                record = await readers.run(
                    lambda database: families.read(database, runtime, self._place, settings, now_ms)
                )
            except PremblydError:
                record = None
            finally:
                await readers.close()
            return await asyncio.to_thread(self._expose, counts, runtime, record, accept)

    def _expose(
        self, counts: Counts, runtime: Runtime, record: Sequence[Family] | None, accept: str
    ) -> tuple[bytes, str]:
        families = _families()
        sizes = backend(self._place).sizes()
        exposed: tuple[bytes, str] = families.expose(counts, runtime, sizes, record, accept)
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
        self._metrics.watch(services.runtime)
        self._checkin = Checkin(services.can_store, services.looked_at_s)
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
