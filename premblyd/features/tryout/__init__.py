"""Trying a configuration: a test webhook, what it would do, or would have done; a demo."""

from premblyd.feature import Command

COMMANDS = (
    Command(
        "send",
        "Run",
        "premblyd.features.tryout.cli_send",
        "Sign and POST a payload as Prembly does.",
    ),
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
