"""What a running daemon removes, and how it keeps the lines of erasures."""

from premblyd.config.models import Config
from premblyd.features.keeping.linefiles import LineKeeper
from premblyd.features.keeping.settings import RETENTION
from premblyd.features.keeping.sweeping import Sweeping
from premblyd.services import Part, Services


class Keeping(Part):
    """See sweeping.py and linefiles.py."""

    def open(self, services: Services) -> None:
        writer = services.writer
        self._sweeping = Sweeping(writer, services.clock, is_leader=services.is_leader)
        lines = LineKeeper(writer, services.database, services.own.name)
        self.loops = {"retention": self._sweeping.run, "erasure lines": lines.run}

    def configure(self, settings: Config, prepared: object) -> None:
        self._sweeping.configure(RETENTION.of(settings))


PARTS = (Keeping,)
