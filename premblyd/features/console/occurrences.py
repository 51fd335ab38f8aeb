"""What can happen with the console: rows as ground/telemetry.py has them."""

OCCURRENCES = (
    """
console.not_opened        error    reason
console.signed_in         info     session remote_ip
console.sign_in_failed    warning  remote_ip
console.refused           warning  reason remote_ip
console.not_logged        warning  kind count
console.failed            error    cause
""",
)
