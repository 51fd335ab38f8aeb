"""Trying a configuration: what it would do, or would have done; a demo."""

from premblyd.feature import Command

COMMANDS = (
    Command(
        "demo",
        "Run",
        "premblyd.features.tryout.cli_demo",
        "See it work: a daemon on a temporary database, and sample webhooks.",
    ),
    Command(
        "explain",
        "Run",
        "premblyd.features.tryout.cli",
        "Dry run: show what would happen for a payload.",
    ),
    Command(
        "try",
        "Run",
        "premblyd.features.tryout.cli",
        "Run one hook once, for a payload.",
    ),
    Command(
        "rehearse",
        "Run",
        "premblyd.features.tryout.cli",
        "Dry run: what a new configuration would do with past events.",
    ),
)
