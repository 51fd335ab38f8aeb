"""The console of a running daemon."""

import sys
from typing import TYPE_CHECKING

from premblyd.config.models import Config
from premblyd.features.console.settings import CONSOLE
from premblyd.features.reading.readers import Readers
from premblyd.ground.errors import PremblydError
from premblyd.ground.telemetry import tell
from premblyd.receive import listening
from premblyd.services import Part, Services

if TYPE_CHECKING:
    from premblyd.features.console.app import Console

# Of threads beside the loop, which each may hold it up for so long at each of its turns (Python's
# default is 5 ms).
SWITCH_S = 0.0005


class Pages(Part):
    """Webhooks are taken even if it can't listen."""

    _console: "Console | None" = None

    def open(self, services: Services) -> None:
        self._services = services

    def configure(self, settings: Config, prepared: object) -> None:
        self._settings = settings
        if self._console is not None and CONSOLE.of(settings) is not None:
            self._console.configure(settings)

    def listen(self) -> None:
        services, settings = self._services, self._settings
        if (own := CONSOLE.of(settings)) is None:
            return
        from premblyd.features.console.app import Console  # it takes memory that few need

        try:
            listened = listening.listen_at(own.listen)
        except PremblydError as error:
            tell("console.not_opened", reason=str(error))
            return
        sys.setswitchinterval(SWITCH_S)  # a thread that makes a page keeps the loop waiting
        readers = Readers(services.backend)
        services.opened.push_async_callback(readers.close)
        self._console = Console(listened, readers, services)
        services.opened.push_async_callback(self._console.close)
        self._console.configure(settings)
        self.address = self._console.address


PARTS = (Pages,)
