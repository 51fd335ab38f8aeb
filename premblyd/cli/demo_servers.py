"""The others in the demo: a CRM that takes customers, and Prembly's API, played by this machine."""

import asyncio
import contextlib
import json
import re
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from premblyd import times
from premblyd.prembly import payload
from premblyd.prembly.payload import Verdict

Answer = Callable[[str, bytes], bytes | None]  # of a path and a body; None: there is no such path
_STATUS = re.compile(r"/api/v1/verification/api/status/([^/]+)/")
_LOGS = "/api/v1/verification/logs/"
_RUN = "success"  # how the log says that a request ended
_AGE_MS = 600_000  # of all verifications


@contextlib.asynccontextmanager
async def serve(bound: socket.socket, answer: Answer) -> AsyncIterator[None]:
    """Answer requests on `bound` while this is entered."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            length = re.search(r"(?i)\r\ncontent-length: *(\d+)", head)
            body = await reader.readexactly(int(length[1]) if length else 0)
            answered = answer(head.split(" ", 2)[1], body)
            status = "404 Not Found" if answered is None else "200 OK"
            answered = answered or b""
            writer.write(
                f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nConnection: close\r\n"
                f"Content-Length: {len(answered)}\r\n\r\n".encode()
            )
            writer.write(answered)
            await writer.drain()
        writer.close()

    async with await asyncio.start_server(handle, sock=bound):
        yield


class Crm:
    """Takes every customer that it is told of."""

    def __init__(self) -> None:
        self.customers: list[bytes] = []

    def answer(self, _: str, body: bytes) -> bytes:
        self.customers.append(body)
        return b"{}"


class Prembly:
    """Knows verifications: what the bodies of their webhooks say, by reference."""

    def __init__(self, *bodies: bytes) -> None:
        verdicts = [payload.read(body) for body in bodies]
        self._known: Mapping[str | None, Verdict] = {
            verdict.reference: verdict for verdict in verdicts
        }

    def answer(self, path: str, _: bytes) -> bytes | None:
        url = urlsplit(path)
        if url.path == _LOGS:
            return self._log(dict(parse_qsl(url.query)))
        asked = _STATUS.fullmatch(path)
        verdict = self._known.get(unquote(asked[1])) if asked else None
        return None if verdict is None else _envelope(_entry("reference", verdict))

    def _log(self, filters: Mapping[str, str]) -> bytes:
        is_asked_for = filters.get("status", _RUN) == _RUN
        known = self._known.values() if is_asked_for else ()
        entries = [{**_entry("reference_id", verdict), "status": _RUN} for verdict in known]
        count = len(entries)
        pages = {"page": 1, "page_size": 100, "total_pages": 1, "total_items": count}
        return _envelope(entries, pagination=pages)


def _entry(reference: str, verdict: Verdict) -> dict[str, Any]:
    return {
        reference: verdict.reference,
        "response_code": verdict.response_code,
        "verification_status": verdict.verification_status,
        "created_at": times.iso(times.now_ms() - _AGE_MS),
    }


def _envelope(data: Any, **more: Any) -> bytes:
    answer = {"data": data, "status": True, "message": "Request successful.", "errors": {}, **more}
    return json.dumps(answer).encode()
