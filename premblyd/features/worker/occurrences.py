"""What can happen with worker processes: rows as ground/telemetry.py has them."""

OCCURRENCES = (
    """
worker.not_started        warning  action reason again_s?
worker.ended              warning  action reason
worker.halted             error    action reason
worker.resumed            info     action
""",
)
