"""Actions that an operator has paused: no host claims their deliveries, which use up no attempts
and keep their places, until the pause ends. The claim reads the pauses (due.py); here they begin
and end, and are logged."""

from typing import Any

from premblyd.features.pause.tables import Pause
from premblyd.ground import loops, times
from premblyd.ground.telemetry import tell
from premblyd.ground.times import Clock
from premblyd.queue import trusted
from premblyd.store.engine import Statement, Transaction, param
from premblyd.store.writer import Step, Writer

STORE_PAUSE_S = 1.0
LOOK_AGAIN_S = 5.0
KEPT_MS = 10 * 60_000  # what has waited for the end of a pause is not late at once
RESUMED_MS = 0  # the end of one that was resumed: it stays over, also if the clock is set back


def is_in_force(now_ms: Any) -> Any:
    """Return the condition on Pause that its time is not over."""
    return Pause.until_ms.is_null() | (Pause.until_ms > now_ms)


def has_lasted_until(at_ms: Any) -> Any:
    """Return the condition on Pause that it has not ended before."""
    return is_in_force(at_ms) | (Pause.since_ms > at_ms)


def begin(
    transaction: Transaction, action: str, now_ms: int, until_ms: int | None, reason: str | None
) -> None:
    """Pause an action, or let its pause end at another time, for another reason."""
    transaction.change(_FORGET_OVER, now_ms=now_ms)  # one that begins anew has lasted since now
    about = {"action": action, "until_ms": until_ms, "reason": reason}
    transaction.change(_BEGIN, since_ms=now_ms, **about)


def end(transaction: Transaction, action: str, now_ms: int) -> bool:
    """End an action's pause. Return whether it had one."""
    return transaction.change(_END, action=action, now_ms=now_ms) > 0


class PauseLog:
    """Tells the log of each pause that begins and ends, whoever says it where, and forgets those
    that were over a while ago. `run` it as a loop."""

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
    old_ms = trusted.counted_ms(transaction, now_ms) - KEPT_MS
    transaction.change(_FORGET_OLD, at_ms=old_ms)
    return dict(transaction.rows(_UNTIL, now_ms=now_ms))


_FORGET_OVER = Statement(Pause.delete().where(Pause.until_ms <= param("now_ms")))
_FORGET_OLD = Statement(Pause.delete().where(~has_lasted_until(param("at_ms"))))
_UNTIL = Statement(Pause.select(Pause.action, Pause.until_ms).where(is_in_force(param("now_ms"))))
_ABOUT = {Pause.until_ms: param("until_ms"), Pause.reason: param("reason")}
_BEGIN = Statement(
    Pause.insert(
        {Pause.action: param("action"), Pause.since_ms: param("since_ms"), **_ABOUT}
    ).on_conflict(conflict_target=[Pause.action], update=_ABOUT)
)
_END = Statement(
    Pause.update(until_ms=RESUMED_MS, since_ms=param("now_ms")).where(
        Pause.action == param("action"), is_in_force(param("now_ms"))
    )
)
