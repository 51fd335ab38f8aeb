"""What `premblyd status` says of paused actions."""

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from premblyd.cli.status import Part
from premblyd.features.pause import wording
from premblyd.features.pause.wording import PauseRow
from premblyd.ground.words import counted
from premblyd.record import standing
from premblyd.record.troubles.trouble import Situation


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


STATUS = (Part("paused", _read, _lines, nothing=[]),)
