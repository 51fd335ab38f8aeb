"""Watching the daemon: alerts, heartbeats to a service elsewhere, metrics."""

OCCURRENCES = (
    """
alert.sent                warning  alert kinds items
alert.failed              error    alert kinds outcome exit_code http_status error
alert.look_failed         error    cause
checkin.not_sent          warning  http_status error
checkin.withheld          warning  reason
checkin.resumed           info
checkin.failed            error    cause
""",
)
TROUBLES = (
    ("silent", "no event came for a duration: silent: 6h"),
    ("alert", "another alert could not be sent"),
)
