"""The console: private pages for operators, on a listener of their own."""

from premblyd.feature import Command

COMMANDS = (
    Command(
        "console",
        "Keep",
        "premblyd.features.console.cli",
        "Print a link to sign in to the console.",
    ),
)
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
