"""What can happen with what is deleted: rows as ground/telemetry.py has them."""

OCCURRENCES = (
    """
retention.removed         info     removed count freed_bytes
retention.failed          error    cause
erasure.lines_failed      error    cause
""",
)
