"""What a running daemon counts, whom it tells of trouble, and where it checks in."""

import contextlib

from premblyd.config.models import Config
from premblyd.features.watch.checkin import Checkin
from premblyd.features.watch.exporter import Exporter
from premblyd.features.watch.settings import CHECKIN
from premblyd.features.watch.troublewatch import AlertLog, TroubleWatch
from premblyd.ground import telemetry
from premblyd.ground.times import Clock
from premblyd.services import Part, Services


class Watch(Part):
    """Checks in from the first to the last: also of a start that fails, people are told."""

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
