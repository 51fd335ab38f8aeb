"""What a running daemon keeps of actions that are halted."""

from premblyd.features.worker.halts import HaltLog
from premblyd.services import Part, Services


class Halting(Part):
    """See halts.py."""

    def open(self, services: Services) -> None:
        halts, worker = services.runners.halts, services.own.worker
        self.loops = {"halts": HaltLog(services.writer, worker, halts, services.clock).run}


PARTS = (Halting,)
