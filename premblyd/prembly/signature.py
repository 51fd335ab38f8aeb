"""Prembly's webhook signature.

Source: docs.prembly.com, "Authorization and security": `x-prembly-signature` is
base64(HMAC-SHA256(raw body, public key)). Earlier versions of the page, and Identitypass, sent
base64(public key) instead: the same constant for every body, hence opt-in.
"""

import binascii
import functools
import hashlib
import hmac
from collections.abc import Mapping
from enum import StrEnum

from premblyd.ground.errors import SignatureError

HEADER = "x-prembly-signature"
TOKEN_HEADER = "token"  # noqa: S105


class Scheme(StrEnum):
    """How an endpoint's signature header is made."""

    HMAC_SHA256 = "hmac-sha256"
    PUBLIC_KEY = "public-key"  # legacy: a constant, proves nothing about the body


def sign(body: bytes, key: str, scheme: Scheme = Scheme.HMAC_SHA256) -> str:
    """Return the signature header's value for `body`, as Prembly makes it."""
    return binascii.b2a_base64(_digest(body, key, scheme), newline=False).decode("ascii")


def verify(
    body: bytes, header: str | None, keys: Mapping[str, str], scheme: Scheme = Scheme.HMAC_SHA256
) -> str:
    """Return which key made `header` for `body`, as `scheme:name`.

    Raise SignatureError when none did. Every key is tried whatever matched before, and decoded
    digests of one fixed length are compared in constant time (CVE-2024-21491: a comparison up
    to the shorter length accepts a prefix). Their hashes are: values of different lengths take
    less time, which would reveal the length of a legacy key.
    """
    if not header:
        raise SignatureError("missing signature")
    received = hashlib.sha256(_decode(header)).digest()
    matched = None
    for name, key in keys.items():
        expected = hashlib.sha256(_digest(body, key, scheme)).digest()
        if hmac.compare_digest(expected, received):
            matched = matched or name
    if matched is None:
        raise SignatureError("wrong signature")
    return f"{scheme}:{matched}"


def _digest(body: bytes, key: str, scheme: Scheme) -> bytes:
    if scheme is Scheme.PUBLIC_KEY:
        return key.encode()
    keyed = _keyed(key).copy()
    keyed.update(body)
    return keyed.digest()


@functools.lru_cache(maxsize=16)
def _keyed(key: str) -> hmac.HMAC:
    """Return what has read the key. `hmac.digest` gives the interpreter away however short the body
    is, and the writer's thread takes it: 6 to 9 % of the processor's time for a webhook."""
    return hmac.new(key.encode(), digestmod="sha256")


def _decode(header: str) -> bytes:
    """Decode canonical base64. Raise SignatureError for anything else: another spelling of the
    right bytes (spaces, missing or loose padding bits) is not what Prembly sends."""
    try:
        decoded = binascii.a2b_base64(header)
    except ValueError:
        raise SignatureError("malformed signature") from None
    if binascii.b2a_base64(decoded, newline=False).decode("ascii") != header:
        raise SignatureError("malformed signature")
    return decoded
