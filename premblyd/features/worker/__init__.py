"""Hooks that stay running and read a line for each delivery."""

OCCURRENCES = (
    """
worker.ended              warning  action reason
""",
)
