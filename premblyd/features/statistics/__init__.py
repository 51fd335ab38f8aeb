"""Counts by the hour."""

from premblyd.feature import Command

COMMANDS = (
    Command(
        "stats",
        "Look",
        "premblyd.features.statistics.cli",
        "Show statistics of events, rejections and actions.",
    ),
)
TROUBLES = (
    ("wallet", "your Prembly wallet is empty (code 03)"),
    ("new_code", "a response code that Prembly does not document came for the first time"),
    ("unmatched", "events matched no action"),
)
