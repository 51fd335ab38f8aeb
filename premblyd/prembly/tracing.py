"""The trace that a request belongs to, as W3C Trace Context says (www.w3.org/TR/trace-context):
`traceparent`, of version 00 alone. premblyd makes no spans, so it passes the value on as it came.
"""

import json
import re

HEADER = "traceparent"
# Version, trace-id, parent-id and flags, in lower case; ids of zeros are none.
_VALID = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


def traceparent_in(headers: str) -> str | None:
    """Return the one valid traceparent among headers as they are stored, [[name, value], …]; None
    where there is none, or another one beside it."""
    if HEADER not in headers.lower():
        return None
    try:
        values = [str(value) for name, value in json.loads(headers) if str(name).lower() == HEADER]
    except (ValueError, TypeError):  # somebody has changed them, which is no hook's fault
        return None
    return values[0] if len(values) == 1 and _VALID.fullmatch(values[0]) else None


def trace_id_of(traceparent: str | None) -> str | None:
    """Return the id of its trace."""
    return traceparent[3:35] if traceparent else None
