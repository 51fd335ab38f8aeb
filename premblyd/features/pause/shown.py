"""What people see of paused actions."""

from collections.abc import Collection, Iterator
from dataclasses import asdict
from typing import Any

from premblyd.features.pause.pauses import has_lasted_until, is_in_force
from premblyd.features.pause.tables import Pause
from premblyd.features.reading.standing import standings
from premblyd.ground import times
from premblyd.ground.times import DAY_MS
from premblyd.ground.words import counted, visible
from premblyd.record import queries
from premblyd.record.queries import Row, row_of
from premblyd.record.told import Item, Part, Situation, Target, Told, trouble
from premblyd.record.troubles import LATE_MS
from premblyd.store.columns import Seen
from premblyd.store.engine import Database


@row_of(Pause, Seen.LISTS)
class PauseRow(Row):
    """An action that is paused."""


def in_force(database: Database, now_ms: int) -> dict[str, PauseRow]:
    """Return the pauses by their actions, in the order of these."""
    query = Pause.select(*queries.columns(Pause, PauseRow)).where(is_in_force(now_ms))
    found = queries.rows(database, query.order_by(Pause.action), PauseRow)
    return {str(pause.action): pause for pause in found}


def sentence(pause: PauseRow) -> str:
    """Return what there is to say of a pause, without a full stop."""
    reason = f": {visible(pause.reason)}" if pause.reason else ""
    return without_reason(pause) + reason


def without_reason(pause: PauseRow) -> str:
    """Return the same for who may not read the record: a reason may name somebody."""
    until = "" if pause.until_ms is None else f" until {times.for_people(pause.until_ms)} UTC"
    return f"paused since {times.for_people(pause.since_ms)} UTC{until}"


def sentences(database: Database, now_ms: int) -> dict[str, str]:
    """Return what there is to say of the actions that are paused."""
    return {action: sentence(pause) for action, pause in in_force(database, now_ms).items()}


def of_queued(database: Database, actions: Collection[str]) -> Told:
    """Say which of these actions are paused."""
    found = in_force(database, database.now_ms())
    paused = [each for action, each in found.items() if action in actions]
    sentences = [
        f"{each.action} has been {sentence(each)}. Its queued deliveries wait:"
        f" `premblyd resume {each.action}`."
        for each in paused
    ]
    return Told(values={"paused": paused} if paused else {}, sentences=sentences)


def _paused(situation: Situation) -> Iterator[tuple[PauseRow, int]]:
    """Yield the pauses, and how many deliveries wait for the end of each."""
    paused = in_force(situation.database, situation.now_ms)
    found = standings(situation.database, situation.now_ms, paused) if paused else []
    yield from ((paused[each.action], each.waiting) for each in found if each.action in paused)


def _read(situation: Situation) -> list[dict[str, Any]]:
    return [{**asdict(pause), "waiting": waiting} for pause, waiting in _paused(situation)]


def _lines(situation: Situation) -> Iterator[str]:
    for pause, count in _paused(situation):
        waiting = counted(count, "delivery", "deliveries")
        yield (
            f"{pause.action} ({waiting} waiting) has been {sentence(pause)}."
            f" `premblyd resume {pause.action}` ends the pause."
        )


PAUSED_MS = DAY_MS  # a pause without an end that has lasted for longer may be forgotten


@trouble()
def paused(situation: Situation) -> Iterator[Item]:
    """Yield pauses that somebody may have forgotten. The others are shown by `status` apart."""
    for action, pause in in_force(situation.database, situation.now_ms).items():
        if pause.until_ms is None and pause.since_ms < situation.now_ms - PAUSED_MS:
            yield Item(
                text=f"{action} has been {without_reason(pause)}.",
                remedy="Resume it, or set when it resumes (`--until`).",
                command=f"premblyd resume {action}",
                target=Target(page="deliveries", state="pending", action=action),
            )


def lately(situation: Situation) -> Collection[str]:
    """Return the actions that were paused when what is late now was due, or have been since."""
    query = Pause.select(Pause.action).where(has_lasted_until(situation.now_ms - LATE_MS))
    return {str(action) for (action,) in queries.tuples(situation.database, query)}


STATUS = (Part("paused", _read, _lines, nothing=[]),)
AT_REST = (in_force,)
IN_WORDS = (sentences,)
OF_QUEUED = (of_queued,)
TROUBLES = (paused,)
NOT_LATE = (lately,)
