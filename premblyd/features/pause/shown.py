"""What people are told of paused actions."""

from collections.abc import Collection, Iterator
from dataclasses import asdict
from typing import Any

from premblyd.features.pause import wording
from premblyd.features.pause.wording import PauseRow
from premblyd.ground.times import DAY_MS
from premblyd.ground.words import counted
from premblyd.record import standing
from premblyd.record.told import Family, Item, Part, Situation, Target, Told, trouble
from premblyd.record.troubles import LATE_MS
from premblyd.store.engine import Database


def of_queued(database: Database, actions: Collection[str]) -> Told:
    """Say which of these actions are paused."""
    in_force = wording.in_force(database, database.now_ms())
    paused = [each for action, each in in_force.items() if action in actions]
    sentences = [
        f"{each.action} has been {wording.sentence(each)}. Its queued deliveries wait:"
        f" `premblyd resume {each.action}`."
        for each in paused
    ]
    return Told(values={"paused": paused} if paused else {}, sentences=sentences)


def _paused(situation: Situation) -> Iterator[tuple[PauseRow, int]]:
    """Yield the pauses, and how many deliveries wait for the end of each."""
    paused = wording.in_force(situation.database, situation.now_ms)
    found = standing.actions(situation.database, situation.now_ms, paused) if paused else []
    yield from ((paused[each.action], each.waiting) for each in found if each.action in paused)


def _read(situation: Situation) -> list[dict[str, Any]]:
    return [{**asdict(pause), "waiting": waiting} for pause, waiting in _paused(situation)]


def _lines(situation: Situation) -> Iterator[str]:
    for pause, count in _paused(situation):
        waiting = counted(count, "delivery", "deliveries")
        yield (
            f"{pause.action} ({waiting} waiting) has been {wording.sentence(pause)}."
            f" `premblyd resume {pause.action}` ends the pause."
        )


def reminders(situation: Situation) -> Iterator[str]:
    """Yield which actions are paused."""
    paused = wording.in_force(situation.database, situation.now_ms)
    settings = situation.settings
    gone = wording.without_action(situation.database, settings, paused) if settings else ()
    for action, pause in paused.items():
        told = (
            f"{action} has been {wording.sentence(pause)}: `premblyd resume {action}` ends"
            " the pause"
        )
        dead = "; no configuration has this action: its waiting deliveries are dead then"
        yield told + dead if action in gone else told


def of_actions(situation: Situation) -> Iterator[Family]:
    """Yield which are paused, and of the others those that are configured."""
    paused = wording.in_force(situation.database, situation.now_ms)
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
    """Yield pauses that somebody may have forgotten. Others are told beside what needs somebody."""
    found = wording.in_force(situation.database, situation.now_ms)
    settings = situation.settings
    gone = wording.without_action(situation.database, settings, found) if settings else ()
    for action, pause in found.items():
        is_gone = action in gone
        is_long = pause.until_ms is None and pause.since_ms < situation.now_ms - PAUSED_MS
        if is_gone or is_long:
            yield Item(
                text=f"{action} has been {wording.without_reason(pause)}."
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
    return wording.lately(situation.database, situation.now_ms - LATE_MS)


REMINDERS = (reminders,)
STATUS = (Part("paused", _read, _lines, nothing=[]),)
AT_REST = (wording.in_force,)
IN_WORDS = (wording.sentences,)
OF_QUEUED = (of_queued,)
FAMILIES = (of_actions,)
TROUBLES = (paused,)
NOT_LATE = (lately,)
