"""The commands."""

from premblyd.feature import Command

COMMANDS = (
    Command(
        "reconcile",
        "Keep",
        "premblyd.features.asking.cli_reconcile",
        "Find missed webhooks, and ask Prembly for them.",
    ),
)
