"""Asking Prembly: what is still pending, what a hook needs confirmed, and what was missed."""

from premblyd.feature import Command

COMMANDS = (
    Command(
        "unsettled",
        "Look",
        "premblyd.features.asking.cli_unsettled",
        "List verifications that have no final result yet.",
    ),
    Command(
        "reconcile",
        "Keep",
        "premblyd.features.asking.cli_reconcile",
        "Find missed webhooks, and ask Prembly for them.",
    ),
)
OCCURRENCES = (
    """
inquiry.answered          warning  purpose result event_id delivery? stored_event_id? reference
                                   http_status error answer_bytes duration_ms
inquiry.refused           error    http_status pause_s remedy
inquiry.paused            warning  reason pause_s
inquiry.resumed           info
pending.begun             info     count
pending.settled           info     event_id settled_by reference
pending.given_up          warning  event_id reference ask_count error
pending.failed            error    cause
""",
)

# Of which answers nobody need look at the question.
EXPECTED = (("inquiry.answered", "result", ("confirmed", "settled", "unsettled")),)
