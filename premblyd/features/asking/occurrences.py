"""What can happen with asking Prembly: rows as ground/telemetry.py has them."""

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
