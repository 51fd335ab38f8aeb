"""The webhooks that the benchmarks send: 1 KB of JSON each, signed for premblyd or for the peer."""

import hashlib
import hmac
import itertools
import json
import secrets
from collections.abc import Iterator
from pathlib import Path

from premblyd.prembly import signature
from tests.support.webhooks import KEY, PATH

BODY_BYTES = 1024
PEER_PATH = "/hooks/bench"
PEER_HEADER = "x-signature"


def body(reference: str, size_bytes: int = BODY_BYTES) -> bytes:
    """Return a body of exactly `size_bytes`, as Prembly's SDK sends it."""
    document = {
        "status": True,
        "response_code": "00",
        "detail": "Verification successful",
        "verification": {"status": "VERIFIED", "reference": reference},
        "widget_info": {"user_ref": f"user-{reference}"},
        "face_data": {"status": True, "confidence": 97.5},
        "data": {"padding": ""},
    }
    missing = size_bytes - len(json.dumps(document))
    document["data"] = {"padding": "x" * missing}
    return json.dumps(document).encode()


def bodies(prefix: str) -> Iterator[bytes]:
    """Yield bodies without end, each of another verification."""
    return (body(f"{prefix}-{number:08}") for number in itertools.count())


def ours(content: bytes, token: str = "") -> bytes:
    """Return the whole request that brings `content` to premblyd, by default with a token that
    no other content has."""
    token = token or hashlib.sha256(content).hexdigest()[:16]
    headers = {signature.HEADER: signature.sign(content, KEY), signature.TOKEN_HEADER: token}
    return _request(PATH, headers, content)


def theirs(content: bytes) -> bytes:
    """Return the whole request that brings `content` to adnanh/webhook, which reads hex."""
    digest = hmac.digest(KEY.encode(), content, "sha256").hex()
    return _request(PEER_PATH, {PEER_HEADER: digest}, content)


def _request(path: str, headers: dict[str, str], content: bytes) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: localhost", "Content-Type: application/json"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    lines += [f"Content-Length: {len(content)}", "", ""]
    return "\r\n".join(lines).encode() + content


def write_pool(path: Path, count: int) -> None:
    """Write `count` signatures and bodies for wrk, which can't sign: one of each a line, by
    turns. Each is of another verification, so that it is a new event."""
    with path.open("wb") as file:
        for content in itertools.islice(bodies(f"pool-{secrets.token_hex(4)}"), count):
            file.write(signature.sign(content, KEY).encode() + b"\n" + content + b"\n")
