"""Masking personal data for people who look at an event without needing the person.

What is shown is a list, not what is hidden: a field that Prembly adds tomorrow is hidden.
"""

import re
from typing import Any

MASK = "•••"
_SHOWN = frozenset(
    "status success response_code responsecode detail message reference referenceid source event"
    " verification_status verificationstatus confidence average_confidence billing_status"
    " endpoint_name verification_type document_type watchlisted".split()
)
_DIGITS = re.compile(r"\d{7,}")
_EMAIL = re.compile(r"[^\s@<>\"']+@[^\s@<>\"']+")


def mask_document(value: Any, key: str = "") -> Any:
    """Return `value` with every text and number masked that is not plainly about the check."""
    match value:
        case dict():
            return {name: mask_document(one, name) for name, one in value.items()}
        case list():
            return [mask_document(one, key) for one in value]
        case None | bool() | "":
            return value
        case str() if key.lower() in _SHOWN:
            return mask_text(value)
        case int() | float() if key.lower() in _SHOWN:
            return value
        case _:
            return MASK


def mask_text(text: str) -> str:
    """Return free text with long numbers and addresses masked."""
    return _EMAIL.sub(MASK, _DIGITS.sub(MASK, text))
