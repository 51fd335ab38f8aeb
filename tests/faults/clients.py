"""Clients that misbehave: slow, cut short, oversize, ambiguous, garbled, and too many.

    python -m tests.faults.clients [--connections 500] [--rounds 20]

No 500, no traceback, no crash; webhooks are answered meanwhile; memory comes back.
"""

import contextlib
import re
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from tests.faults import campaigns
from tests.faults.daemon import Victim, folder, table
from tests.faults.sieges import Plan, Siege
from tests.support.needs import allow_open_files
from tests.support.processes import VISIBLE
from tests.support.requests import chunked
from tests.support.waiting import wait_until
from tests.support.webhooks import PATH, head, signed, webhook

MAX_GROWTH = 1.2
SILENCE_S = 0.4
ALLOWED = {400, 401, 413, 431}
GOOD = b'{"response_code": "00"}'
HIDDEN = b"GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n"  # answered with 200 if it is smuggled through
STATUS = re.compile(rb"HTTP/1\.[01] (\d{3}) ")


def _request(*lines: bytes, body: bytes = b"") -> bytes:
    return b"\r\n".join([b"POST " + PATH.encode() + b" HTTP/1.1", *lines, b"", body])


_SIGNED = b"x-prembly-signature: " + signed(GOOD)["x-prembly-signature"].encode()
_LENGTH = b"Content-Length: %d" % len(GOOD)
_CHUNKS = chunked(GOOD)
_TE = b"Transfer-Encoding: chunked"

# What must not be taken: two readers could see two different requests in it.
AMBIGUOUS = {
    "length and chunked": _request(b"Host: h", _SIGNED, _LENGTH, _TE, body=_CHUNKS + HIDDEN),
    "chunked and length": _request(b"Host: h", _SIGNED, _TE, _LENGTH, body=_CHUNKS + HIDDEN),
    "two lengths": _request(b"Host: h", _SIGNED, _LENGTH, b"Content-Length: 0", body=GOOD + HIDDEN),
    "a list of lengths": _request(b"Host: h", _SIGNED, b"Content-Length: 23, 0", body=GOOD),
    "a signed length": _request(b"Host: h", _SIGNED, b"Content-Length: +23", body=GOOD),
    "a length with a blank": _request(b"Host: h", _SIGNED, b"Content-Length : 23", body=GOOD),
    "a length in other digits": _request(
        b"Host: h", _SIGNED, "Content-Length: \u0662\u0663".encode(), body=GOOD
    ),
    "a negative length": _request(b"Host: h", _SIGNED, b"Content-Length: -1", body=GOOD),
    "a hexadecimal length": _request(b"Host: h", _SIGNED, b"Content-Length: 0x17", body=GOOD),
    "chunked twice": _request(b"Host: h", _SIGNED, _TE, _TE, body=_CHUNKS + HIDDEN),
    "identity and chunked": _request(
        b"Host: h", _SIGNED, b"Transfer-Encoding: identity, chunked", body=_CHUNKS + HIDDEN
    ),
    "unknown encoding": _request(b"Host: h", _SIGNED, b"Transfer-Encoding: xchunked", body=_CHUNKS),
    "chunk size with a sign": _request(b"Host: h", _SIGNED, _TE, body=b"+17\r\n" + GOOD),
    "chunk size with an underscore": _request(b"Host: h", _SIGNED, _TE, body=b"1_7\r\n" + GOOD),
    "chunk size of no number": _request(b"Host: h", _SIGNED, _TE, body=b"zz\r\n" + GOOD),
    "chunk that is longer": _request(
        b"Host: h", _SIGNED, _TE, body=b"5\r\n" + GOOD + b"\r\n0\r\n\r\n"
    ),
    "a folded header": _request(b"Host: h", _SIGNED, b"X-A: b", b" c", _LENGTH + b"\r", body=GOOD),
    "a bare CR": _request(b"Host: h", _SIGNED, b"X-A: b\rContent-Length: 0", body=GOOD),
    "a NUL in a header": _request(b"Host: h", _SIGNED, b"X-A: \0", b"Content-Length: -", body=GOOD),
    "a header without a colon": _request(b"Host: h", b"nonsense", _LENGTH, body=GOOD),
    "a name with a blank": _request(b"Host: h", b"X A: b", _LENGTH, body=GOOD),
    "no host, twice": _request(b"Host: a", b"Host: b", _LENGTH, body=GOOD),
}
GARBLED = {
    "HTTP/2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(30),
    "TLS hello": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500),
    "NULs": bytes(5000),
    "no version": b"POST " + PATH.encode() + b"\r\n\r\n",
    "a version of tomorrow": b"POST " + PATH.encode() + b" HTTP/9.9\r\nHost: h\r\n\r\n",
    "a path of 100 KB": b"POST /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: h\r\n\r\n",
    "a path of no URL": b"POST http://[ HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n",
    "10,000 headers": _request(b"Host: h", *[b"X-%d: y" % n for n in range(10_000)], _LENGTH),
    "a header line of 1 MB": _request(b"Host: h", b"X-A: " + b"a" * (1 << 20), _LENGTH),
    "a line without an end": b"POST " + b"a" * (1 << 20),
    "bytes that are no UTF-8": _request(
        b"Host: h", b"X-A: \xff\xfe", b"token: \xff", b"Content-Length: 0"
    ),
    "a method of no name": b"\xff\xff / HTTP/1.1\r\nHost: h\r\n\r\n",
    "CONNECT": b"CONNECT h:443 HTTP/1.1\r\nHost: h\r\n\r\n",
    "an upgrade": _request(b"Host: h", b"Connection: Upgrade", b"Upgrade: websocket", _LENGTH),
    "declares 10 GB": _request(b"Host: h", _SIGNED, b"Content-Length: 10737418240", body=GOOD),
    "declares 10^4000": _request(b"Host: h", _SIGNED, b"Content-Length: 1" + b"0" * 4000),
    "an expectation": _request(b"Host: h", b"Expect: 100-continue", _LENGTH),
}
# Authentic bodies, however odd: each must be stored exactly as it came.
BODIES = {
    "10,000 levels of lists": b"[" * 10_000 + b"]" * 10_000,
    "10,000 levels of objects": b'{"data":' * 10_000 + b"1" + b"}" * 10_000,
    "900 levels": b'{"data":' * 900 + b"{}" + b"}" * 900,
    "a number of 100,000 digits": b'{"response_code":' + b"9" * 100_000 + b"}",
    "a float of 100,000 digits": b'{"face_data":{"confidence":0.' + b"9" * 100_000 + b"}}",
    "an exponent": b'{"face_data":{"confidence":1e999999999}}',
    "keys given twice": b'{"response_code":"00","response_code":"01","data":{"a":1,"a":2}}',
    "NaN": b'{"response_code":NaN,"face_data":{"confidence":-Infinity}}',
    "lone surrogates": b'{"response_code":"\\ud800","verification":{"reference":"\\udfff"}}',
    "a surrogate as a key": b'{"\\ud800":"\\ud800","widget_info":{"user_ref":"\\ud83d"}}',
    "NULs in JSON": b'{"response_code":"\\u0000","reference":"a\\u0000b"}',
    "raw NULs": b'{"response_code":"\0"}',
    "no UTF-8": b'{"response_code":"\xff\xfe"}',
    "UTF-16": '{"response_code":"00"}'.encode("utf-16"),
    "a BOM": b"\xef\xbb\xbf" + GOOD,
    "nothing": b"",
    "no object": b'"text"',
    "200,000 keys": b"{" + b",".join(b'"k%d":0' % n for n in range(200_000)) + b"}",
}

# Against the bounds that are the default, and bodies of up to 8 MiB.
PLANS = (
    Plan("heads of one address", connections=1200, addresses=1),
    Plan("heads of many addresses", connections=1200, addresses=100),
    Plan("large bodies of one address", connections=8, addresses=1, body_bytes=(8 << 20) - 1),
    Plan("large bodies of many addresses", connections=64, addresses=64, body_bytes=1 << 20),
)
STILL_S = 1.0  # no number of slow clients keeps a webhook waiting for longer


@dataclass
class Endured:
    slowest_s: float = 0.0  # answer among slow clients, by the clock: a busy machine's too
    figures: dict[str, object] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def talk(address: str, data: bytes, answers: int | None = None) -> list[int]:
    """Send `data` and return the statuses of the answers: until there are so many, or the server
    ends the connection; where nobody knows how many, until it falls silent."""
    host, _, port = address.rpartition(":")
    answer = b""
    with contextlib.suppress(OSError), socket.create_connection((host, int(port))) as client:
        with contextlib.suppress(OSError):
            client.sendall(data)
        client.settimeout(SILENCE_S if answers is None else None)
        while len(STATUS.findall(answer)) != answers and (chunk := client.recv(65536)):
            answer += chunk
    return [int(status) for status in STATUS.findall(answer)]


def harass(victim: Victim) -> Iterator[str]:
    """Send everything that is wrong once; yield what is answered wrongly."""
    kinds = [(name, data, ALLOWED) for name, data in AMBIGUOUS.items()]
    kinds += [(name, data, ALLOWED | {100, 404, 405}) for name, data in GARBLED.items()]
    with ThreadPoolExecutor(16) as pool:
        answered = pool.map(lambda kind: talk(victim.address, kind[1]), kinds)
        for (name, _, allowed), statuses in zip(kinds, answered, strict=True):
            if set(statuses) - allowed:
                yield f"{name}: {statuses}"
    events = []
    for name, body in BODIES.items():
        answer = victim.try_to_send(body)
        if answer is None or answer.status != 200:
            yield f"{name}: {answer}"
        else:
            events.append((answer.json["event"], body))
    for event, body in events:
        if victim.rows("SELECT body FROM event WHERE id = ?", event) != [(body,)]:
            yield f"event {event} is not stored as it came"
    yield from _cut_short(victim)
    if (found := talk(victim.address, b"".join([webhook(GOOD)] * 50), 50)) != [200] * 50:
        yield f"pipelined: {found}"
    old = webhook(GOOD).replace(b"HTTP/1.1", b"HTTP/1.0")
    if (found := talk(victim.address, old, 1)) != [200]:
        yield f"HTTP/1.0: {found}"
    endless = head(signed(GOOD) | {"Transfer-Encoding": "chunked"}) + chunked(bytes(1 << 20)) * 20
    if set(found := talk(victim.address, endless)) - {413, 401, 431}:
        yield f"an oversize chunked body: {found}"


def _cut_short(victim: Victim) -> Iterator[str]:
    """Send half a body and go away."""
    before = victim.rows("SELECT count(*) FROM event")
    whole = webhook(b'{"fill": "%b"}' % bytes(100_000))
    for share in (0.1, 0.5, 0.99):
        if found := talk(victim.address, whole[: int(len(whole) * share)]):
            yield f"a body cut short: {found}"
    if victim.rows("SELECT count(*) FROM event") != before:
        yield "a body cut short became an event"


@contextlib.contextmanager
def dribbling(victim: Victim, connections: int) -> Iterator[list[socket.socket]]:
    """Hold connections whose heads and bodies come a byte at a time."""
    host, _, port = victim.address.rpartition(":")
    request = webhook(b'{"fill": "' + b"x" * 5000 + b'"}')
    body_at = request.index(b"\r\n\r\n") + 4
    with contextlib.ExitStack() as stack:
        clients = []
        for number in range(connections):
            client = stack.enter_context(socket.create_connection((host, int(port))))
            client.sendall(request[: body_at + 100 if number % 2 else 40])
            clients.append(client)
        yield clients


def slow(victim: Victim, connections: int, slowest_s: list[float]) -> Iterator[str]:
    """Answer webhooks while slow clients hold connections; yield what goes wrong, and add the
    slowest answer to `slowest_s`."""
    with dribbling(victim, connections) as clients:
        took_s = []
        for _ in range(20):
            for client in clients:
                with contextlib.suppress(OSError):  # it was ended meanwhile
                    client.send(b"x")
            start = time.monotonic()
            answer = victim.try_to_send(GOOD)
            took_s.append(time.monotonic() - start)
            if answer is None or answer.status != 200:
                yield f"with {connections} slow clients: {answer}"
        slowest_s.append(max(took_s))


def besieged(victim: Victim, webhooks: int, slowest_s: list[float]) -> Iterator[str]:
    """Send webhooks while others hold all that can be held without a key; yield those that are
    not received, and add the slowest answer of each siege to `slowest_s`."""
    for plan in PLANS:
        took_s = []
        with Siege(victim.address, plan):
            for number in range(webhooks):
                begun = time.monotonic()
                answer = victim.try_to_send(GOOD + b" " * (number % 3 * 50_000))
                took_s.append(time.monotonic() - begun)
                if answer is None or answer.status != 200:
                    yield f"{plan.name}: {answer}"
        slowest_s.append(max(took_s))


def endure(at: Path, *, connections: int, rounds: int, webhooks: int) -> Endured:
    """Harass a daemon in rounds, and compare its memory with that after the first. In each siege
    so many webhooks are sent."""
    endured = Endured()
    with Victim(at, max_body="8 MiB", request_timeout="2s") as victim:
        victim.start(VISIBLE)
        process = psutil.Process(victim.process.pid)
        descriptors = process.num_fds()
        first_kib = 0
        besieged_s: list[float] = []
        dribbled_s: list[float] = []
        endured.problems += besieged(victim, webhooks, besieged_s)
        for _ in range(rounds):
            endured.problems += harass(victim)
            endured.problems += slow(victim, connections, dribbled_s)
            first_kib = first_kib or victim.memory_kib()
        wait_until(lambda: process.num_fds() <= descriptors + 2)
        last_kib = victim.memory_kib()
        if last_kib > first_kib * MAX_GROWTH:
            endured.problems.append(f"memory grew from {first_kib} to {last_kib} KiB")
        endured.problems += victim.end()
        endured.slowest_s = max(dribbled_s)
        endured.figures = {
            "requests of different kinds": len(AMBIGUOUS) + len(GARBLED) + len(BODIES) + 6,
            "slow connections at once": connections,
            "slowest answer among them": f"{endured.slowest_s:.2f} s",
            "sieges without a key, webhooks in each": f"{len(PLANS)}, {webhooks}",
            "slowest answer in a siege": f"{max(besieged_s):.2f} s",
            "rounds": rounds,
            "memory after the first round": f"{first_kib} KiB",
            "memory at the end": f"{last_kib} KiB",
        }
    return endured


def main() -> None:
    arguments = campaigns.arguments(__doc__, connections=500, rounds=20, webhooks=30)
    allow_open_files()
    with folder() as at:
        endured = endure(at, **vars(arguments))
    table(endured.figures)
    if endured.slowest_s > STILL_S:
        endured.problems.append(f"among slow clients an answer took {endured.slowest_s:.1f} s")
    campaigns.end(endured.problems)


if __name__ == "__main__":
    main()
