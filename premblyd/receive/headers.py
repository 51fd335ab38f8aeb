"""A webhook's headers: which of them are stored, and what they declare."""

import orjson
from tornado.httputil import HTTPHeaders

from premblyd.privacy.fields import KEPT_HEADERS


def kept_headers(headers: HTTPHeaders, signature_header: str) -> str:
    """Return the headers to store, as JSON: the known harmless ones, never the signature."""
    signature_name = signature_header.lower()
    kept = [
        pair
        for pair in headers.get_all()
        if (name := pair[0].lower()) in KEPT_HEADERS and name != signature_name
    ]
    return orjson.dumps(kept).decode()


def declared_bytes(headers: HTTPHeaders) -> int | None:
    """Return the size of the body that the head declares, or None. Of an absurdly long number only
    the first digits are read, which are too large anyway."""
    declared = headers.get("Content-Length", "")
    return int(declared[:15]) if declared.isdecimal() else None
