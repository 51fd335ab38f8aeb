"""What `premblyd check` says of paused actions."""

from collections.abc import Iterator

from premblyd.features.pause import wording
from premblyd.record.troubles.trouble import Situation


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


REMINDERS = (reminders,)
