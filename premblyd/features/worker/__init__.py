"""Hooks that stay running and read a line for each delivery."""

OCCURRENCES = (
    """
worker.not_started        warning  action reason again_s?
worker.ended              warning  action reason
worker.halted             error    action reason
worker.resumed            info     action
""",
)
