"""Prembly's webhook signature.

Source: docs.prembly.com, "Authorization and security": `x-prembly-signature` is
base64(HMAC-SHA256(raw body, public key)). Earlier versions of the page, and Identitypass, sent
base64(public key) instead: the same constant for every body, hence opt-in. Public handlers of
Prembly's webhooks expect other forms too: HMAC-SHA512, and either of them as hex.
"""

import binascii
import functools
import hashlib
import hmac
from collections.abc import Mapping, Sequence
from enum import StrEnum
from itertools import product
from typing import Literal, NamedTuple

from premblyd.ground.errors import SignatureError

HEADER = "x-prembly-signature"
TOKEN_HEADER = "token"  # noqa: S105


class Scheme(StrEnum):
    """Of what an endpoint's signature header is made."""

    HMAC_SHA256 = "hmac-sha256"
    HMAC_SHA512 = "hmac-sha512"
    PUBLIC_KEY = "public-key"  # legacy: a constant, proves nothing about the body


Encoding = Literal["base64", "hex"]
_ENCODINGS: tuple[Encoding, ...] = ("base64", "hex")


class Form(NamedTuple):
    """A form of signature: which header holds it, and how it is written there."""

    scheme: Scheme = Scheme.HMAC_SHA256
    encoding: Encoding = "base64"
    prefix: str = ""
    header: str = HEADER


GUIDE = Form()  # Prembly's guide's
_HMACS = (Scheme.HMAC_SHA256, Scheme.HMAC_SHA512)


def sign(body: bytes, key: str, form: Form = GUIDE) -> str:
    """Return the signature header's value for `body`, as Prembly makes it."""
    return form.prefix + _encode(_digest(body, key, form.scheme), form)


def verify(
    body: bytes,
    headers: Mapping[str, str],
    keys: Mapping[str, str],
    forms: Sequence[Form] = (GUIDE,),
) -> str:
    """Return which key signed `body` in one of these forms, as `scheme:name`.

    Raise SignatureError when none did. Every key is tried whatever matched before, and decoded
    digests of one fixed length are compared in constant time (CVE-2024-21491: a comparison up
    to the shorter length accepts a prefix). Their hashes are: values of different lengths take
    less time, which would reveal the length of a legacy key.
    """
    matched, reason = None, "missing signature"
    for form in forms:
        header = headers.get(form.header)
        if not header:
            continue
        received = _decode(header, form)
        if received is None:
            reason = "malformed signature" if reason == "missing signature" else reason
            continue
        reason, received = "wrong signature", hashlib.sha256(received).digest()
        for name, key in keys.items():
            expected = hashlib.sha256(_digest(body, key, form.scheme)).digest()
            if hmac.compare_digest(expected, received):
                matched = matched or f"{form.scheme}:{name}"
    if matched is None:
        raise SignatureError(reason)
    return matched


def right_form(
    body: bytes, headers: Mapping[str, str], keys: Mapping[str, str], forms: Sequence[Form]
) -> tuple[Form, str] | None:
    """Return in which other form than these, but in one of their headers, `body` is signed, and by
    which key; None: in none. The legacy one, which proves nothing, is never tried."""
    names = dict.fromkeys(form.header for form in forms)
    for header, scheme, encoding in product(names, _HMACS, _ENCODINGS):
        for prefix in ("", f"{scheme.removeprefix('hmac-')}="):
            form = Form(scheme, encoding, prefix, header)
            try:
                return form, verify(body, headers, keys, (form,)).partition(":")[2]
            except SignatureError:
                continue
    return None


def _digest(body: bytes, key: str, scheme: Scheme) -> bytes:
    if scheme is Scheme.PUBLIC_KEY:
        return key.encode()
    keyed = _keyed(key, scheme).copy()
    keyed.update(body)
    return keyed.digest()


@functools.lru_cache(maxsize=16)
def _keyed(key: str, scheme: Scheme) -> hmac.HMAC:
    """Return what has read the key. `hmac.digest` gives the interpreter away however short the body
    is, and the writer's thread takes it: 6 to 9 % of the processor's time for a webhook."""
    return hmac.new(key.encode(), digestmod=scheme.removeprefix("hmac-"))


def _encode(digest: bytes, form: Form) -> str:
    if form.encoding == "hex":
        return digest.hex()
    return binascii.b2a_base64(digest, newline=False).decode("ascii")


def _decode(header: str, form: Form) -> bytes | None:
    """Decode what this form writes; None for anything else: another spelling of the right bytes
    (spaces, capitals, missing or loose padding bits) is not what Prembly sends."""
    text = header.removeprefix(form.prefix)
    try:
        decoded = bytes.fromhex(text) if form.encoding == "hex" else binascii.a2b_base64(text)
    except ValueError:
        return None
    return decoded if form.prefix + _encode(decoded, form) == header else None
