"""What a running daemon tells of pauses."""

from premblyd.features.pause.pauses import PauseLog
from premblyd.services import Part, Services


class Pausing(Part):
    """See pauses.py."""

    def open(self, services: Services) -> None:
        self.loops = {"pauses": PauseLog(services.writer, services.clock).run}


PARTS = (Pausing,)
