"""The commands."""

from premblyd.feature import Command
from premblyd.ground.errors import TryAgainError

COMMANDS = (
    Command(
        "hosts",
        "Keep",
        "premblyd.features.postgresql.cli_hosts",
        "List the hosts that share a PostgreSQL database; remove one.",
    ),
    Command(
        "record move",
        "Keep",
        "premblyd.features.postgresql.cli_move",
        "Move the record from SQLite to PostgreSQL.",
        interrupted="Nothing was moved. Run the same command again.",
        exit_code=TryAgainError.exit_code,
    ),
)
