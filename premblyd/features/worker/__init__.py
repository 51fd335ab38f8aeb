"""Hooks that stay running and read a line for each delivery."""

OCCURRENCES = (
    """
worker.not_started        warning  action reason again_s?
worker.ended              warning  action reason
worker.halted             error    action reason
worker.resumed            info     action
""",
)
TROUBLES = (("halted", "an action's worker processes can't start, or have said abort"),)
