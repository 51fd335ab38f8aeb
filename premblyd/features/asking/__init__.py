"""Asking Prembly: what is still pending, what a hook needs confirmed, and what was missed."""

from itertools import product

from premblyd.feature import Command, Count
from premblyd.features.asking.states import InquiryResult, Purpose

COMMANDS = (
    Command(
        "unsettled",
        "Look",
        "premblyd.features.asking.cli",
        "List verifications that have no final result yet.",
    ),
    Command(
        "reconcile",
        "Keep",
        "premblyd.features.asking.cli",
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
pending.given_up          warning  event_id reference ask_count error
pending.failed            error    cause
""",
)

# Of which answers nobody need look at the question.
EXPECTED = (("inquiry.answered", "result", ("confirmed", "settled", "unsettled")),)
COUNTS = (
    Count(
        "premblyd_inquiries",
        "Questions to Prembly, by purpose and result.",
        "inquiry.answered",
        ("purpose", "result"),
        [(str(purpose), str(result)) for purpose, result in product(Purpose, InquiryResult)],
    ),
)
TROUBLES = (
    ("contradicted", "Prembly contradicted events that it was asked to confirm"),
    ("prembly", "Prembly refuses the API key, or can't be reached"),
    ("doubted", "bodies said VERIFIED, but also something that does not fit"),
    ("differs", "Prembly confirmed VERIFIED for doubted events"),
    ("shared", "Prembly's answers give an id to two verifications"),
    ("given_up", "Prembly was asked for a week, and never answered"),
    ("downtime", "for more than an hour no webhook could be stored"),
)
