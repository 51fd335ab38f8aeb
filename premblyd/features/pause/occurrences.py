"""What can happen with paused actions: rows as ground/telemetry.py has them."""

OCCURRENCES = (
    """
action.paused             warning  action until?
action.resumed            info     action
""",
)
