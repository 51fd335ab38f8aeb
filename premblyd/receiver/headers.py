"""What is read from a webhook's headers, and which are stored."""

import orjson
from tornado.httputil import HTTPHeaders

# A list of what may not be kept would miss the next x-jwt. Who sent it, by which way, and what
# the body is; no place where a credential or a person's data is put.
KEPT_HEADERS = frozenset(
    "accept accept-encoding accept-language content-encoding content-language content-length"
    " content-type date forwarded host traceparent transfer-encoding user-agent via"
    " x-correlation-id x-forwarded-for x-forwarded-host x-forwarded-proto x-real-ip"
    " x-request-id".split()
)


def kept_headers(headers: HTTPHeaders, signature_header: str) -> str:
    """Return the headers to store, as JSON."""
    unwanted = signature_header.lower()
    kept = [
        pair
        for pair in headers.get_all()
        if (name := pair[0].lower()) in KEPT_HEADERS and name != unwanted
    ]
    return orjson.dumps(kept).decode()


def declared_bytes(headers: HTTPHeaders) -> int | None:
    """Return the size of the body as the head tells it; of an absurd one the first digits."""
    declared = headers.get("Content-Length", "")
    return int(declared[:15]) if declared.isdecimal() else None
