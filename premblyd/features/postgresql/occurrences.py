"""What can happen with several daemons on one database: rows as ground/telemetry.py has them."""

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
