"""Keyed digests: they outlast deleted names, so that later webhooks of the same person or event are
recognised.

The key was made with the database, and never changes. Who has the database has it too, and can try
names one by one: so these digests are personal data still, of those who can be guessed.
"""

from hashlib import blake2b
from typing import Self

from premblyd.store.engine import Transaction

KEY_DIGITS = 32


class Digests:
    """Makes the digests of a database, by its key."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    @classmethod
    def of(cls, transaction: Transaction) -> Self:
        """Return those of the database that this transaction is of."""
        return cls(transaction.digest_key)

    def of_body(self, sha256: bytes) -> str:
        """Return what stands for a body, by its SHA-256: a body has a few digits that are unknown,
        and by that alone anybody could try them all."""
        return self._digest(b"body", end=sha256)

    def key(self, kind: bytes, *texts: str, end: bytes = b"") -> str:
        """Return KEY_DIGITS hex digits that texts of this kind are known by again."""
        return self._digest(kind, *texts, end=end)[:KEY_DIGITS]

    def _digest(self, kind: bytes, *texts: str, end: bytes = b"") -> str:
        """Each text stands after its own length, so that no other one can be read from it. By
        BLAKE2b, whose own key and kind cost a quarter of an HMAC."""
        for text in reversed(texts):
            encoded = text.encode("utf-8", "replace")
            end = len(encoded).to_bytes(4, "big") + encoded + end
        return blake2b(end, key=self._key, person=kind, digest_size=32).hexdigest()
