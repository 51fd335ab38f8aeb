"""What people see of paused actions."""

from collections.abc import Collection, Iterator
from dataclasses import asdict
from typing import Any

from premblyd.config.models import Config
from premblyd.features.pause.pauses import has_lasted_until, is_in_force
from premblyd.features.pause.tables import Pause
from premblyd.ground import times
from premblyd.ground.times import DAY_MS
from premblyd.ground.words import counted, visible
from premblyd.record import queries, standing
from premblyd.record.queries import Row, row_of
from premblyd.record.standing import actions_at_work
from premblyd.record.told import Family, Item, Part, Situation, Target, Told, trouble
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


def paused_since(database: Database, since_ms: int) -> set[str]:
    """Return the actions that are paused, or were at that time or later."""
    query = Pause.select(Pause.action).where(has_lasted_until(since_ms))
    return {str(action) for (action,) in queries.tuples(database, query)}


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


def without_action(database: Database, settings: Config, paused: Collection[str]) -> list[str]:
    """Return which of these actions neither the configuration has nor that of another host that
    is at work."""
    known = {action.name for action in settings.actions} | actions_at_work(database)
    return [name for name in paused if name not in known]


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
    found = standing.actions(situation.database, situation.now_ms, paused) if paused else []
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


def reminders(situation: Situation) -> Iterator[str]:
    """Yield which actions are paused."""
    paused = in_force(situation.database, situation.now_ms)
    settings = situation.settings
    gone = without_action(situation.database, settings, paused) if settings else ()
    for action, pause in paused.items():
        told = f"{action} has been {sentence(pause)}: `premblyd resume {action}` ends the pause"
        dead = "; no configuration has this action: its waiting deliveries are dead then"
        yield told + dead if action in gone else told


def of_actions(situation: Situation) -> Iterator[Family]:
    """Yield which are paused, and of the others those that are configured."""
    paused = in_force(situation.database, situation.now_ms)
    actions = situation.settings.actions if situation.settings else ()
    stands = {action.name: 0 for action in actions} | dict.fromkeys(paused, 1)
    yield Family(
        "premblyd_action_paused",
        "Whether an operator has paused the action: 1, or 0.",
        stands,
        ("action",),
    )


PAUSED_MS = DAY_MS  # a pause without an end that has lasted for longer may be forgotten


@trouble()
def paused(situation: Situation) -> Iterator[Item]:
    """Yield pauses that somebody may have forgotten. The others are shown by `status` apart."""
    found = in_force(situation.database, situation.now_ms)
    settings = situation.settings
    gone = without_action(situation.database, settings, found) if settings else ()
    for action, pause in found.items():
        is_gone = action in gone
        is_long = pause.until_ms is None and pause.since_ms < situation.now_ms - PAUSED_MS
        if is_gone or is_long:
            yield Item(
                text=f"{action} has been {without_reason(pause)}."
                + (" No configuration has this action." if is_gone else ""),
                remedy=f"`premblyd resume {action}` ends the pause, and its waiting deliveries are"
                " dead then: look at them first."
                if is_gone
                else "Resume it, or set when it resumes (`--until`).",
                command="" if is_gone else f"premblyd resume {action}",
                target=Target(page="deliveries", state="pending", action=action),
            )


def lately(situation: Situation) -> Collection[str]:
    """Return the actions that were paused when what is late now was due, or have been since."""
    return paused_since(situation.database, situation.now_ms - LATE_MS)


REMINDERS = (reminders,)
STATUS = (Part("paused", _read, _lines, nothing=[]),)
AT_REST = (in_force,)
IN_WORDS = (sentences,)
OF_QUEUED = (of_queued,)
FAMILIES = (of_actions,)
TROUBLES = (paused,)
NOT_LATE = (lately,)
