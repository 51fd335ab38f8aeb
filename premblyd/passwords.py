"""Passwords as hashes that are slow to guess: scrypt (RFC 7914), as a line of text."""

import base64
import binascii
import hashlib
import hmac
import os
import re
from dataclasses import dataclass

# OWASP's Password Storage Cheat Sheet: 2^15, 8, 3 is as strong as its first choice and takes 32 MB
# instead of 128.
COST, BLOCK, LANES = 1 << 15, 8, 3
MAX_BYTES = 256 << 20  # of memory: a hash that asks for more is refused
MAX_LANES = 16
MIN_CHARACTERS = 12
_SHAPE = re.compile(r"scrypt:(\d{1,7}):(\d{1,3}):(\d{1,3}):([A-Za-z0-9+/=]+):([A-Za-z0-9+/=]+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class PasswordHash:
    """A hash as it is written down: what it costs to try a password, the salt and the result."""

    cost: int
    block: int
    lanes: int
    salt: bytes
    digest: bytes

    def fits(self, password: str) -> bool:
        """Return whether `password` is the right one. It takes a tenth of a second and `cost` times
        `block` times 128 bytes: not on the loop."""
        return hmac.compare_digest(self._digest(password), self.digest)

    def __str__(self) -> str:
        salt, digest = (base64.b64encode(part).decode() for part in (self.salt, self.digest))
        return f"scrypt:{self.cost}:{self.block}:{self.lanes}:{salt}:{digest}"

    def _digest(self, password: str) -> bytes:
        return _scrypt(password, self.salt, cost=self.cost, block=self.block, lanes=self.lanes)


def hashed(password: str, cost: int = COST) -> PasswordHash:
    """Return a hash of `password` with a salt of its own. Raise ValueError when it is too short."""
    if len(password) < MIN_CHARACTERS:
        raise ValueError(f"should have at least {MIN_CHARACTERS} characters")
    salt = os.urandom(16)
    digest = _scrypt(password, salt, cost=cost, block=BLOCK, lanes=LANES)
    return PasswordHash(cost=cost, block=BLOCK, lanes=LANES, salt=salt, digest=digest)


def read(text: str) -> PasswordHash:
    """Read a hash as `str` writes it. Raise ValueError when it is none, or asks for too much."""
    if not (found := _SHAPE.fullmatch(text)):
        raise ValueError("should be a line that `premblyd console --hash-password` prints")
    cost, block, lanes = (int(number) for number in found.groups()[:3])
    try:
        salt, digest = (base64.b64decode(part, validate=True) for part in found.groups()[3:])
    except binascii.Error:
        raise ValueError(
            "is cut off: make it anew with `premblyd console --hash-password`"
        ) from None
    is_sound = cost > 1 and cost & (cost - 1) == 0 and block and 1 <= lanes <= MAX_LANES
    if not is_sound or len(digest) < 16 or 128 * cost * block > MAX_BYTES:
        raise ValueError("asks for more or less than can be computed: make it anew")
    return PasswordHash(cost=cost, block=block, lanes=lanes, salt=salt, digest=digest)


def _scrypt(password: str, salt: bytes, *, cost: int, block: int, lanes: int) -> bytes:
    return hashlib.scrypt(
        password.encode("utf-8", "replace"),
        salt=salt,
        n=cost,
        r=block,
        p=lanes,
        maxmem=2 * MAX_BYTES,
        dklen=32,
    )
