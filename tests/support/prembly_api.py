"""A stand-in for Prembly's API, made from its pages: it answers for verifications, keeps its log of
them, and fails as it is told to.

Built from docs.prembly.com (verification status check; list verification logs; SDK back-end
webhooks; get verification status; response codes): paths, headers, parameters and envelopes are
the pages'. What stands in `data` is not documented: `Shape` has what the older pages and public
consumers read. No real API was ever asked.
"""

import contextlib
import json
import re
import threading
import time
import uuid
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from premblyd.config.secrets import SecretPlaces
from premblyd.features.asking import settings as config
from tests.support import http_server
from tests.support.http_server import at_work

KEY = "test_sk_premblyd_stand_in_0001"
ORGANISATION = "b7c9f1de-0000-4000-8000-organisation"
MAX_PAGE_SIZE = 100
HUGE_BYTES = 5 << 20
_STATUS = re.compile(r"/api/v1/verification/api/status/([^/]*)/")
_OLD_STATUS = re.compile(r"/verification/([^/]*)/status")
_SESSION = re.compile(r"/api/v1/checker-widget/sdk/sessions/([^/]*)/")
_LOGS = "/api/v1/verification/logs/"
_UUID = re.compile(r"[0-9a-f]{8}(?:[_-][0-9a-f]{4}){3}[_-][0-9a-f]{12}", re.IGNORECASE)
# The log's parameters and what else they may be called: the stored pages have lost the names.
_PARAMETERS = {"sort_by": "sort", "channel_code": "channel"} | {
    name: name
    for name in (
        *("page", "page_size", "start_date", "end_date", "sort", "search", "status"),
        *("response_code", "request_method", "channel", "was_charged"),
    )
}


class Shape(StrEnum):
    """What stands in the answer about one verification."""

    FLAT = "flat"  # `data` as on the older page of the status check
    WEBHOOK = "webhook"  # `data` has what the verification's webhook has
    BARE = "bare"  # the whole answer is as the webhook
    SESSION = "session"  # `response`, as of an SDK session


@dataclass(slots=True, kw_only=True)
class Verification:
    """What the API knows of one verification. `body`: its exact answer, instead of a made one."""

    reference: str
    code: str | None = "00"
    status: str | None = "VERIFIED"
    user_ref: str | None = None
    session_id: str | None = None
    face_match: bool | None = None
    created_at_s: float = field(default_factory=time.time)
    shape: Shape = Shape.FLAT
    run: str = "success"  # how the log says that the request itself ended
    body: bytes | None = None

    def answer(self) -> bytes:
        """Return the answer to the question about it."""
        return json.dumps(self._document()).encode() if self.body is None else self.body

    def log_item(self) -> dict[str, Any]:
        """Return its entry of the log. It has the number that was looked up, as Prembly's has."""
        return {
            "reference_id": self.reference,
            "searched_id": "22123456789",
            "transaction_id": None,
            "created_at": _iso(self.created_at_s),
            "amount_charged": "200.00",
            "gateway_response_time": 1.25,
            "response_code": self.code,
            "status": self.run,
            "request_method": "api",
        }

    def _document(self) -> dict[str, Any]:
        match self.shape:
            case Shape.FLAT:
                return _envelope(self._flat())
            case Shape.WEBHOOK:
                return _envelope(self._webhook())
            case Shape.BARE:
                return self._webhook()
        return {"status": True, "detail": "Session found", "response": self._session()}

    def _flat(self) -> dict[str, Any]:
        said = {
            "response_code": self.code,
            "verification_status": self.status,
            "user_ref": self.user_ref or None,
        }
        return {
            "reference": self.reference,
            "endpoint_name": "Document Verification",
            "billing_status": True,
            "source": "API",
            "created_at": _iso(self.created_at_s),
            "request_data": {"number": "22123456789"},
            **{name: value for name, value in said.items() if value is not None},
        }

    def _webhook(self) -> dict[str, Any]:
        document: dict[str, Any] = {
            "status": self.status in ("VERIFIED", None),
            "detail": "Verification completed",
            "response_code": self.code,
            "verification": {"reference": self.reference, "status": self.status},
            "data": {"bvn": "22123456789"},
        }
        if self.user_ref:
            document["widget_info"] = {"user_ref": self.user_ref}
        if self.face_match is not None:
            document["face_data"] = {"status": self.face_match, "confidence": 91.5}
        return document

    def _session(self) -> dict[str, Any]:
        return {
            "session_id": self.session_id,
            "verification_status": self.status,
            "user_ref": self.user_ref,
            "created_at": _iso(self.created_at_s),
            "confidence_score": 0.91,
            "metadata": {},
        }


@dataclass(frozen=True, slots=True)
class Question:
    """A request as it came in."""

    at_s: float  # on the monotonic clock
    method: str
    path: str  # as sent, percent-encoded
    query: dict[str, str]
    headers: dict[str, str]
    identifier: str | None  # of the verification that was asked for, decoded


Fault = Callable[["_Handler"], None]


def status(code: int, message: str = "Request failed", **headers: str) -> Fault:
    """Answer with a status code, as Prembly's errors do: without a response code."""

    def answer(handler: "_Handler") -> None:
        handler.reply({"status": False, "message": message}, code, **headers)

    return answer


def code_01(handler: "_Handler") -> None:
    """Answer as for an id that nobody knows, where that is no 404."""
    handler.reply({"status": True, "response_code": "01", "message": "Record not found"})


def too_many(retry_after: str = "2") -> Fault:
    """Answer 429, with a Retry-After."""
    return status(429, "Too many requests", Retry_After=retry_after)


def hang(handler: "_Handler") -> None:
    """Answer nothing until the stand-in is closed, or `release` is called."""
    handler.server.api.released.wait()
    handler.close_connection = True


def garbage(handler: "_Handler") -> None:
    """Answer with a page of a proxy."""
    handler.reply_bytes(b"<html><body>502 Bad Gateway \xff\xfe</body></html>")


def huge(handler: "_Handler") -> None:
    """Answer with the verification and 5 MB of a photo."""
    document = json.loads(handler.own_answer())
    document["photo"] = "x" * HUGE_BYTES
    handler.reply(document)


def endless(handler: "_Handler") -> None:
    """Answer with more than anybody keeps."""
    handler.send_response(200)
    handler.end_headers()
    handler.close_connection = True
    with contextlib.suppress(OSError):
        while True:
            handler.wfile.write(b" " * (1 << 20))


def redirect(handler: "_Handler") -> None:
    """Answer with a redirect to where a thief listens."""
    handler.reply({}, 302, Location=f"{handler.server.api.url}/stolen")


def cut(handler: "_Handler") -> None:
    """Break off in the middle of the answer."""
    handler.send_response(200)
    handler.send_header("Content-Length", "100000")
    handler.end_headers()
    handler.wfile.write(b'{"status": true, ')
    handler.close_connection = True


def wrong_reference(handler: "_Handler") -> None:
    """Answer for another verification."""
    handler.reply_bytes(Verification(reference=str(uuid.uuid4())).answer())


class PremblyApi:
    """The stand-in: what it knows, how it fails, and what it was asked."""

    def __init__(self) -> None:
        self.key = KEY
        self.organisation = ORGANISATION
        self.url = ""
        self.questions: list[Question] = []
        self.unknown_parameters: set[str] = set()
        self.released = threading.Event()
        self.before_log_page: Callable[[int], object] = lambda _: None  # told the page's number
        self.log_place: str | None = None  # None: `data` is the list; else `data` has it there
        self.verifications: dict[str, Verification] = {}
        self._by_id: dict[str, Verification] = {}
        self._faults: dict[str | None, deque[Fault]] = {}
        self._lasting: dict[str | None, Fault] = {}
        self._lock = threading.Lock()

    def settings(self, **keys: Any) -> config.PremblyApi:
        """Return the configuration with which the stand-in is asked."""
        data = {"url": self.url, "api_key": KEY, "rate": "1000", **keys}
        return config.PremblyApi.model_validate(data, context=SecretPlaces(Path("/"), {}))

    def know(self, reference: str | None = None, **fields: Any) -> Verification:
        """Know a verification, or know it otherwise from now on; it can be changed later too."""
        verification = Verification(reference=reference or str(uuid.uuid4()), **fields)
        self.verifications[verification.reference] = verification
        for name in filter(None, (verification.reference, verification.session_id)):
            self._by_id[_plain(name)] = verification
        return verification

    def fail(self, fault: Fault, identifier: str | None = None, times: int | None = None) -> None:
        """Fail so for an id, or for every request; as often as `times`, or until `mend`."""
        with self._lock:
            if times is None:
                self._lasting[identifier] = fault
            else:
                self._faults.setdefault(identifier, deque()).extend([fault] * times)

    def mend(self) -> None:
        """Fail no more."""
        with self._lock:
            self._lasting.clear()
            self._faults.clear()
        self.released.set()

    def asked(self, identifier: str | None = None) -> int:
        """Return how often an id was asked for; without one, how many requests came in all."""
        return sum(identifier in (None, question.identifier) for question in self.questions)

    def asked_by_id(self) -> Counter[str]:
        """Return how often each id was asked for."""
        return Counter(each.identifier for each in self.questions if each.identifier)

    def log_pages(self) -> int:
        """Return how many pages of the log were read."""
        return sum(question.path == _LOGS for question in self.questions)

    def find(self, identifier: str) -> Verification | None:
        """Return what is known of an id; of a UUID with hyphens as with underscores."""
        return self._by_id.get(_plain(identifier))

    def fault(self, identifier: str | None) -> Fault | None:
        """Return how to fail for this request, and count it; None: not at all."""
        with self._lock:
            for name in (identifier, None):
                if waiting := self._faults.get(name):
                    return waiting.popleft()
            return self._lasting.get(identifier) or self._lasting.get(None)

    def log_page(self, query: dict[str, str]) -> dict[str, Any]:
        """Return a page of the log. Newest first unless `sort` says otherwise, so that entries move
        to later pages while the log grows."""
        self.unknown_parameters |= query.keys() - _PARAMETERS.keys()
        asked = {_PARAMETERS.get(name, name): value for name, value in query.items()}
        number = int(asked.get("page", 1))
        self.before_log_page(number)
        size = min(int(asked.get("page_size", 50)), MAX_PAGE_SIZE)
        known = list(self.verifications.values())
        entries = [entry for entry in known if _is_asked(entry, asked)]
        is_rising = asked.get("sort") == "created_at"
        entries.sort(key=lambda entry: entry.created_at_s, reverse=not is_rising)
        items = [entry.log_item() for entry in entries[(number - 1) * size : number * size]]
        data = {self.log_place: items} if self.log_place else items
        pages = -(-len(entries) // size)
        return _envelope(data, (number, size, pages, len(entries)))


def _is_asked(entry: Verification, asked: dict[str, str]) -> bool:
    return (
        ("start_date" not in asked or entry.created_at_s >= _seconds(asked["start_date"]))
        and ("end_date" not in asked or entry.created_at_s <= _seconds(asked["end_date"]))
        and asked.get("response_code", entry.code) == entry.code
        and asked.get("status", entry.run) == entry.run
    )


class _Server(http_server.Server):
    api: PremblyApi


class _Handler(http_server.Handler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # head and body are two writes
    server: _Server
    identifier: str | None = None

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self._answer()

    def _answer(self) -> None:
        url = urlsplit(self.path)
        found = [path.fullmatch(url.path) for path in (_STATUS, _OLD_STATUS, _SESSION)]
        match = next(filter(None, found), None)
        self.identifier = unquote(match[1]) if match else None
        headers = {name.lower(): value for name, value in self.headers.items()}
        query = dict(parse_qsl(url.query, keep_blank_values=True))
        api = self.server.api
        question = Question(
            time.monotonic(), self.command, url.path, query, headers, self.identifier
        )
        api.questions.append(question)
        if fault := api.fault(self.identifier):
            fault(self)
        elif headers.get("x-api-key") != api.key:
            status(401, "Unauthorized: invalid API key")(self)
        elif found[1] and api.key.startswith("test_"):
            status(403, "Forbidden: live environment only")(self)
        elif found[2] and headers.get("x-organisation-id") != api.organisation:
            status(403, "Forbidden: invalid organisation")(self)
        elif match and (known := api.find(self.identifier or "")):
            self.reply_bytes(known.answer())
        elif match:
            status(404, "Verification not found")(self)
        elif url.path == _LOGS and self.command == "GET":
            self.reply(api.log_page(query))
        else:
            status(404, "Not found")(self)

    def own_answer(self) -> bytes:
        """Return what would be answered without a fault."""
        known = self.server.api.find(self.identifier or "")
        return known.answer() if known else b"{}"

    def reply(self, document: Any, code: int = 200, **headers: str) -> None:  # type: ignore[override]
        self.reply_bytes(json.dumps(document).encode(), code, **headers)

    def reply_bytes(self, body: bytes, code: int = 200, **headers: str) -> None:
        self.send_response(code)
        for name, value in {"Content_Type": "application/json", **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@contextlib.contextmanager
def prembly_api() -> Iterator[PremblyApi]:
    """Run the stand-in."""
    api = PremblyApi()
    with _Server(_Handler.do_POST, _Handler) as server:
        server.api = api
        api.url = f"http://127.0.0.1:{server.server_port}"
        with at_work(server, api.released):
            yield api


def _envelope(data: Any, pagination: tuple[int, ...] = (0, 0, 0, 0)) -> dict[str, Any]:
    names = ("page", "page_size", "total_pages", "total_items")
    return {
        "data": data,
        "status": True,
        "message": "Request successful.",
        "errors": {},
        "meta": {"timestamp": _iso(time.time()), "version": "v1", "request_id": str(uuid.uuid4())},
        "pagination": dict(zip(names, pagination, strict=True)),
    }


def _plain(identifier: str) -> str:
    return identifier.replace("_", "-") if _UUID.fullmatch(identifier) else identifier


def _iso(at_s: float) -> str:
    return datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
