"""The metric of paused actions."""

from collections.abc import Iterator

from premblyd.features.pause import wording
from premblyd.record.families import Family
from premblyd.record.troubles.trouble import Situation


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


FAMILIES = (of_actions,)
