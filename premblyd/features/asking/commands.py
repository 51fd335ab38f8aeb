"""The commands."""

from premblyd.feature import Command

COMMANDS = (
    Command(
        "unsettled",
        "Look",
        "premblyd.features.asking.cli_unsettled",
        "List verifications that have no final result yet.",
    ),
    Command(
        "reconcile",
        "Keep",
        "premblyd.features.asking.cli_reconcile",
        "Find missed webhooks, and ask Prembly for them.",
    ),
)
