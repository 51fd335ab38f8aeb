"""What a running daemon keeps of actions that are halted."""

import asyncio
from collections.abc import Mapping

from premblyd.features.worker.tables import Halt
from premblyd.ground import loops
from premblyd.ground.times import Clock
from premblyd.run.process import Halts
from premblyd.services import Part, Services
from premblyd.store.engine import Statement, Transaction, insert, param, update
from premblyd.store.tables import Host
from premblyd.store.writer import Step, Writer

STORE_PAUSE_S = 1.0
LOOK_AGAIN_S = 3600.0  # without a change


class HaltLog:
    """Keeps `halts` in the record, as those of the daemon `worker`. `run` it as a loop."""

    def __init__(self, writer: Writer, worker: str, halts: Halts, clock: Clock) -> None:
        self._writer = writer
        self._worker = worker
        self._halts = halts
        self._clock = clock
        self._has_changed = asyncio.Event()
        halts.listen(self._has_changed.set)

    async def run(self) -> None:
        """Write down each change, and first what daemons before this one have left."""
        await loops.repeat(self._round, STORE_PAUSE_S, wake=self._has_changed)

    async def _round(self) -> float:
        reasons, now_ms = dict(self._halts.reasons), self._clock.now_ms()
        await self._writer.call(
            lambda transaction: self._write(transaction, reasons, now_ms), Step.EVIDENCE
        )
        return LOOK_AGAIN_S

    def _write(self, transaction: Transaction, reasons: Mapping[str, str], now_ms: int) -> None:
        transaction.change(_FORGET_ENDED)
        known = {action for (action,) in transaction.rows(_OF_WORKER, worker=self._worker)}
        for action in known - reasons.keys():
            transaction.change(_END, worker=self._worker, action=action)
        for action, reason in reasons.items():
            about = {"worker": self._worker, "action": action, "reason": reason}
            if action in known:
                transaction.change(_CHANGE, **about)
            else:
                transaction.insert(_BEGIN, since_ms=now_ms, **about)


_ITS = (Halt.worker == param("worker")) & (Halt.action == param("action"))
_OF_WORKER = Statement(Halt.select(Halt.action).where(Halt.worker == param("worker")))
_BEGIN = insert(Halt, "worker", "action", "since_ms", "reason", if_unique=True)
_CHANGE = update(Halt, "reason", where=_ITS)
_END = Statement(Halt.delete().where(_ITS))
# Who reads passes over those of daemons that have ended.
_FORGET_ENDED = Statement(
    Halt.delete().where(Halt.worker.in_(Host.select(Host.worker).where(Host.ended.is_null(False))))
)


class Halting(Part):
    """See `Halts`."""

    def open(self, services: Services) -> None:
        halts, worker = services.runners.halts, services.own.worker
        self.loops = {"halts": HaltLog(services.writer, worker, halts, services.clock).run}


PARTS = (Halting,)
