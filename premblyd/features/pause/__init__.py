"""Actions that an operator pauses and resumes."""

from premblyd.feature import Command

COMMANDS = (
    Command(
        "pause",
        "Act",
        "premblyd.features.pause.cli",
        "Stop starting an action's hooks, on all hosts.",
    ),
    Command(
        "resume",
        "Act",
        "premblyd.features.pause.cli",
        "Start a paused action's hooks again.",
    ),
)
TROUBLES = (("paused", "a pause without an end has lasted a day"),)
