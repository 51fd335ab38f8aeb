"""Logs in a running daemon when pauses begin and end."""

from typing import Any

from premblyd.features.pause.pauses import has_lasted_until, is_in_force
from premblyd.features.pause.tables import Pause
from premblyd.ground import loops, times
from premblyd.ground.telemetry import tell
from premblyd.ground.times import Clock
from premblyd.queue import heartbeat
from premblyd.services import Part, Services
from premblyd.store.engine import Statement, Transaction, param
from premblyd.store.writer import Step, Writer

STORE_PAUSE_S = 1.0
LOOK_AGAIN_S = 5.0
KEPT_MS = 10 * 60_000  # what has waited for the end of a pause is not late at once
_FORGET_OLD = Statement(Pause.delete().where(~has_lasted_until(param("at_ms"))))
_UNTIL = Statement(Pause.select(Pause.action, Pause.until_ms).where(is_in_force(param("now_ms"))))


class PauseLog:
    """Logs when a pause begins and ends, on whichever host, and deletes those that ended a while
    ago. `run` it as a loop."""

    def __init__(self, writer: Writer, clock: Clock) -> None:
        self._writer = writer
        self._clock = clock
        self._told: dict[str, Any] = {}  # until when each action is paused

    async def run(self) -> None:
        """Look every few seconds: claims don't wait for that."""
        await loops.repeat(self._round, STORE_PAUSE_S)

    async def _round(self) -> float:
        now_ms = self._clock.now_ms()
        paused = await self._writer.call(
            lambda transaction: _in_force(transaction, now_ms), Step.EVIDENCE
        )
        for action, until_ms in paused.items():
            if (action, until_ms) not in self._told.items():
                until = None if until_ms is None else times.for_people(until_ms)
                tell("action.paused", action=action, until=until)
        for action in self._told.keys() - paused.keys():
            tell("action.resumed", action=action)
        self._told = paused
        return LOOK_AGAIN_S


def _in_force(transaction: Transaction, now_ms: int) -> dict[str, Any]:
    old_ms = heartbeat.counted_ms(transaction, now_ms) - KEPT_MS
    transaction.change(_FORGET_OLD, at_ms=old_ms)
    return dict(transaction.rows(_UNTIL, now_ms=now_ms))


class Pausing(Part):
    """See `PauseLog`."""

    def open(self, services: Services) -> None:
        self.loops = {"pauses": PauseLog(services.writer, services.clock).run}


PARTS = (Pausing,)
