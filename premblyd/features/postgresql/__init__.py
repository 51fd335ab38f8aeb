"""The record on a PostgreSQL server, which several hosts may share; and moving it there."""

from premblyd.feature import Command
from premblyd.ground.errors import TryAgainError

COMMANDS = (
    Command(
        "hosts",
        "Keep",
        "premblyd.features.postgresql.cli",
        "List the hosts that share a PostgreSQL database; remove one.",
    ),
    Command(
        "record move",
        "Keep",
        "premblyd.features.postgresql.cli",
        "Move the record from SQLite to PostgreSQL.",
        interrupted="Nothing was moved. Run the same command again.",
        exit_code=TryAgainError.exit_code,
    ),
)
OCCURRENCES = (
    """
host.joined               info     name worker others
host.seen                 info     name worker
host.lost                 error    name worker
host.taken_over           warning  deliveries
host.fenced               error    worker killed_processes
host.let_go               error    worker killed_processes
host.cut_off              warning  reason
host.in_touch             info
host.first                info     name
host.failed               error    cause
""",
)
TROUBLES = (("host", "another host that shares the database was lost, or deliveries wait for one"),)
