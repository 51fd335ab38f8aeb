"""What is around the daemon: people who are verified, senders of webhooks, Prembly's API, hooks.
All of it outlives a crash of the daemon, and none of it looks into the daemon or its database."""

import json
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any
from urllib.parse import unquote
from uuid import UUID

from tornado.http1connection import HTTP1Connection
from tornado.httputil import HTTPHeaders, RequestStartLine

from premblyd.ground.httpclient import Request, Response
from premblyd.prembly import signature
from premblyd.prembly.payload import plain_id
from premblyd.receive.server import Receiver
from tests.sim.virtual import Time
from tests.support.webhooks import KEY, PATH

CODES = {"VERIFIED": "00", "NOT-VERIFIED": "00", "PENDING": "02", "": "01"}
FINAL = ("VERIFIED", "NOT-VERIFIED")


@dataclass(eq=False)
class Person:
    """One verification of somebody. `words`: what Prembly says of it, since when."""

    number: int
    reference: str
    user_ref: str
    name: str
    words: list[tuple[float, str]]
    known_from_s: float  # when Prembly's API knows of it
    erased_s: float | None = None
    held: bool = False
    lied_about: bool = False  # by who gives a user_ref of his own: that is another's too

    def word(self, now_s: float) -> str:
        return [word for since_s, word in self.words if since_s <= now_s][-1]


@dataclass(eq=False)
class Post:
    """A webhook, sent as often as its sender likes. `false`: it is signed, and Prembly says
    otherwise. `events`: as which events it was acknowledged."""

    number: int
    person: Person
    word: str
    body: bytes
    signed: bool
    false: bool
    spelling: str
    user_ref: str
    tries: int = 0
    first_sent_s: float = 0.0
    events: list[tuple[int, bool]] = field(default_factory=list)
    first_ack_s: float | None = None
    received_s: float = 0.0  # what was acknowledged first
    at_a_jump: bool = False  # of the clock

    @property
    def code(self) -> str:
        return CODES[self.word]

    @property
    def name(self) -> str:
        return f"webhook {self.number}"


@dataclass(frozen=True)
class Given:
    """An answer that Prembly's API gave. `word`: None: it knew nothing."""

    at_s: float
    reference: str
    word: str | None
    user_ref: str


class Api:
    """Prembly's API. Has the methods of HttpClient."""

    def __init__(self, at: Time, rng: random.Random, tell: Callable[..., None]) -> None:
        self._time, self._rng, self._tell = at, rng, tell
        self.people: dict[str, Person] = {}
        self.mode = "well"
        self.given: list[Given] = []
        self.asked_s: list[float] = []
        self.sleep: Callable[[float], Any]

    async def send(self, request: Request, timeout_s: float, **_: Any) -> Response:
        reference = plain_id(unquote(request.url.split("/status/")[1].rstrip("/")))
        mode = self.mode if self.mode != "moody" else self._rng.choice(MOODS)
        self.asked_s.append(self._time.now_s)
        if mode == "silent":
            await self.sleep(timeout_s)
            return Response(0, b"", False, error="no answer in time", timed_out=True)
        await self.sleep(self._rng.choice((0.05, 0.4, 2.0)))
        if mode == "busy":
            return Response(429, b"{}", False, retry_after=str(self._rng.choice((1, 30, 120))))
        if mode == "broken":
            return Response(self._rng.choice((500, 502, 503)), b"", False)
        now_s = self._time.now_s
        person = self.people.get(reference)
        if person is None or now_s < person.known_from_s:
            self.given.append(Given(now_s, reference, None, ""))
            self._tell(f"Prembly knows nothing of {reference}", reference)
            return Response(404, b'{"status": false}', False)
        word = person.word(now_s)
        self.given.append(Given(now_s, reference, word, person.user_ref))
        self._tell(f"Prembly says {word or 'code 01'} of {reference}", reference)
        data = {
            "reference": person.reference,
            "response_code": CODES[word],
            "user_ref": person.user_ref,
        }
        data |= {"verification_status": word} if word else {}
        document = {"status": True, "detail": "Fetched", "response_code": "00", "data": data}
        return Response(200, json.dumps(document).encode(), False)

    def close(self) -> None: ...


MOODS = ("well", "well", "well", "silent", "busy", "broken")


class Connection(HTTP1Connection):
    """A sender's connection, without a socket."""

    def __init__(self, ended: Callable[[bytes], None]) -> None:
        self._answer, self._ended, self._open = b"", ended, True
        own: Any = SimpleNamespace(address=("192.0.2.7", 4711), closed=lambda: not self._open)
        own.send_now, own.fault = self._take, None
        self.context = self.stream = own

    def _take(self, answer: bytes) -> bytes:
        self._answer = answer
        return b""

    def finish(self) -> None:
        self._end(self._answer)

    def close(self) -> None:
        self._end(self._answer)

    def _end(self, answer: bytes) -> None:
        if self._open:
            self._open = False
            self._ended(answer)


def make_person(number: int, rng: random.Random, now_s: float) -> Person:
    """Return somebody whose verification goes as it may."""
    is_uuid = rng.random() < 0.6
    reference = str(UUID(int=rng.getrandbits(128))) if is_uuid else f"ref-{number}-{rng.random()}"
    words = [(0.0, rng.choice(("VERIFIED", "VERIFIED", "NOT-VERIFIED", "")))]
    if rng.random() < 0.45:
        words = [(0.0, "PENDING")]
        if rng.random() < 0.85:
            words.append((now_s + rng.uniform(5, 5000), rng.choice(FINAL)))
    late_s = rng.choice((0, 0, 0, 30, 400))
    return Person(
        number=number,
        reference=reference,
        user_ref=f"usr-{number}-{rng.getrandbits(32):08x}",
        name=f"Name{rng.getrandbits(48):012x}",
        words=words,
        known_from_s=now_s + late_s,
    )


def make_post(number: int, person: Person, word: str, rng: random.Random, **what: Any) -> Post:
    """Return what is sent about somebody."""
    user_ref = what.get("user_ref", person.user_ref)
    spelling = person.reference
    if len(spelling) == 36 and rng.random() < 0.4:
        spelling = rng.choice((spelling.replace("-", "_"), spelling.upper()))
    document = {
        "status": word != "NOT-VERIFIED",
        "detail": f"Verification {number}",
        "response_code": CODES[word],
        "data": {"firstname": person.name, "number": number},
        "widget_info": {"user_ref": user_ref},
        "verification": {"reference": spelling} | ({"status": word} if word else {}),
    }
    if word == "NOT-VERIFIED":
        document["status"] = True
    body = json.dumps(document).encode()
    return Post(
        number=number, person=person, word=word, body=body, spelling=spelling,
        user_ref=user_ref, signed=what.get("signed", True), false=what.get("false", False),
    )  # fmt: skip


def send(receiver: Receiver, post: Post, ended: Callable[[bytes], None], token: str) -> None:
    """Send a webhook to the daemon; `ended` gets the answer, or nothing."""

    def over(answer: bytes) -> None:
        receiver.on_close(connection)
        ended(answer)

    connection = Connection(over)
    key = KEY if post.signed else "a-guessed-key"
    headers = HTTPHeaders(
        {
            "Content-Type": "application/json",
            "Content-Length": str(len(post.body)),
            signature.HEADER: signature.sign(post.body, key),
            signature.TOKEN_HEADER: token,
        }
    )
    exchange = receiver.start_request(connection, connection)
    exchange.headers_received(RequestStartLine("POST", PATH, "HTTP/1.1"), headers)
    half = len(post.body) // 2
    exchange.data_received(post.body[:half])
    exchange.data_received(post.body[half:])
    exchange.finish()
