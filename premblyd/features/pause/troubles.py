"""The trouble of paused actions: somebody may have forgotten one."""

from collections.abc import Collection, Iterator

from premblyd.features.pause import wording
from premblyd.ground.times import DAY_MS
from premblyd.record.troubles.events import LATE_MS
from premblyd.record.troubles.trouble import Item, Situation, Target, trouble

PAUSED_MS = DAY_MS  # a pause without an end that has lasted for longer may be forgotten


@trouble(means="a pause without an end has lasted a day, or its action is not configured any more")
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


TROUBLES = (paused,)
NOT_LATE = (lately,)
