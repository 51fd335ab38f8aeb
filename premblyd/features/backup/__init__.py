"""Copies of the record: `record backup` makes them, `record restore` puts one back."""

from premblyd.feature import Command

COMMANDS = (
    Command(
        "record backup",
        "Keep",
        "premblyd.features.backup.copying",
        "Copy the record into a folder, while the daemon runs.",
        interrupted="No copy was made. Run the same command again.",
    ),
    Command(
        "record restore",
        "Keep",
        "premblyd.features.backup.restoring",
        "Put a copy in the place of the database.",
        interrupted="Run the same command again.",
    ),
)
TROUBLES = (("backup", "a backup failed, or a folder has had no new copy for three days"),)
