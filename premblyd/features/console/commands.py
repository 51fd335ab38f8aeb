"""The commands."""

from premblyd.feature import Command

COMMANDS = (
    Command(
        "console",
        "Keep",
        "premblyd.features.console.cli",
        "Print a link to sign in to the console.",
    ),
)
