"""An answer as the bytes that go over the wire.

Tornado's `write_headers` builds and checks the same four headers for every answer, which costs
as much as recognising the webhook. Here the head is built once a second for each kind of answer.
"""

import functools
import time
from collections.abc import Mapping
from http import HTTPStatus

import orjson
from tornado.httputil import HTTPHeaders, RequestStartLine, format_timestamp

Extra = tuple[tuple[str, str], ...]


def render(
    status: int, content: Mapping[str, object], *, extra: Extra, connection: str, is_head: bool
) -> bytes:
    """Return the whole answer; to a HEAD request without the body. `connection` is the value of
    that header, or empty for none."""
    body = orjson.dumps(content)
    head = b"%s%d\r\n\r\n" % (_head(status, extra, connection, int(time.time())), len(body))
    return head if is_head else head + body


def connection_header(request: RequestStartLine, headers: HTTPHeaders) -> str:
    """Return what the client's wish about its connection is answered with: RFC 9112, 9.3."""
    wish = headers.get("Connection", "").lower()
    if request.version == "HTTP/1.0":
        return "Keep-Alive" if wish == "keep-alive" else ""
    return "close" if wish == "close" else ""


@functools.lru_cache(maxsize=16)
def _head(status: int, extra: Extra, connection: str, second: int) -> bytes:
    """Return the head up to the length, which comes last because it alone differs."""
    lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}"]
    lines += [f"{name}: {value}" for name, value in extra]
    lines += ["Content-Type: application/json", f"Date: {format_timestamp(second)}"]
    if connection:
        lines.append(f"Connection: {connection}")
    return "\r\n".join([*lines, "Content-Length: "]).encode("ascii")
