"""The SQLite file encrypted, by SQLCipher."""

from premblyd.feature import Command

COMMANDS = (
    Command(
        "record encrypt",
        "Keep",
        "premblyd.features.encryption.cli",
        "Encrypt the SQLite file, or change its key.",
        interrupted="The record is whole. Run the same command again.",
    ),
)
TROUBLES = (("key", "a change of the database's key was interrupted"),)
