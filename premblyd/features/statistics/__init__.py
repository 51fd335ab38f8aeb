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
TROUBLES = (("unmatched", "events matched no action"),)
