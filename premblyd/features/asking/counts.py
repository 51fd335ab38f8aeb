"""What is counted of questions to Prembly."""

from itertools import product

from premblyd.record.families import Count
from premblyd.store.states import InquiryResult, Purpose

COUNTS = (
    Count(
        "premblyd_inquiries",
        "Questions to Prembly, by purpose and result.",
        "inquiry.answered",
        ("purpose", "result"),
        [(str(purpose), str(result)) for purpose, result in product(Purpose, InquiryResult)],
    ),
)
