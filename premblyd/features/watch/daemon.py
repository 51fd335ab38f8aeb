"""What a running daemon counts, the alerts that it sends, and where it checks in."""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from typing import Any

from premblyd.config.models import Config
from premblyd.features.watch.checkin import Checkin
from premblyd.features.watch.counting import Counts
from premblyd.features.watch.settings import CHECKIN
from premblyd.features.watch.troublewatch import AlertLog, TroubleWatch
from premblyd.ground import telemetry
from premblyd.ground.databases import DatabaseAddress
from premblyd.ground.errors import PremblydError
from premblyd.ground.times import Clock
from premblyd.record.told import Family
from premblyd.services import Part, Runtime, Services
from premblyd.store.connections import backend
from premblyd.store.readers import Readers


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
    """Checks in from the first to the last: a start that fails is reported too."""

    def begin(self, settings: Config, clock: Clock, opened: contextlib.AsyncExitStack) -> None:
        self._checkin = Checkin(
            lambda: self._services.can_store(),  # noqa: PLW0108 (there once it is open)
            lambda: self._services.looked_at_s(),  # noqa: PLW0108
        )
        self._checkin.start(CHECKIN.of(settings))
        opened.push_async_exit(self._checkin.end)
        self._metrics = Exporter(settings.database, clock)
        self.expose = self._metrics.expose
        telemetry.LISTENERS.append(self._metrics.counts.listen)
        opened.callback(telemetry.LISTENERS.remove, self._metrics.counts.listen)

    def open(self, services: Services) -> None:
        self._services = services
        self._metrics.watch(services.runtime)
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

    async def stop(self) -> None:
        self._checkin.stop()


PARTS = (Watch,)
