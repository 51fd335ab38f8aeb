"""Keyed digests: what outlasts a name that was erased, so that what comes of it later is known.

The key was made with the database, and never changes. Who has the database has it too, and can try
names one by one: so these digests are personal data still, of those who can be guessed.
"""

import hmac
from typing import Any

from premblyd.engines.engine import Statement, Transaction
from premblyd.model.tables import Record
from premblyd.prembly.payload import plain_id

KEYED_DIGITS = 64  # of such a digest; those that anybody can make have 32


class Digests:
    """Makes the digests of a database."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    @classmethod
    def of(cls, transaction: Transaction) -> "Digests":
        """Read the key of the database. Raise LookupError when somebody has deleted it."""
        row = transaction.row(KEY)
        return cls.by(row[0] if row else None)

    @classmethod
    def by(cls, key: Any) -> "Digests":
        """Make digests by a key that was read. Raise as `of`."""
        if key is None:
            raise LookupError("the database has no digest key")
        return cls(bytes(key))

    def of_reference(self, reference: str) -> str:
        """Return what stands for a reference, in all of its spellings."""
        return self._digest("reference", plain_id(reference))

    def of_session(self, session_id: str) -> str:
        """Return what stands for the id of a session, in all of its spellings."""
        return self._digest("session", plain_id(session_id))

    def of_user(self, user_ref: str) -> str:
        """Return what stands for a person's `user_ref`."""
        return self._digest("user", user_ref)

    def of_event(self, event_id: int) -> str:
        """Return what stands for one event that somebody named."""
        return self._digest("event", str(event_id))

    def of_key(self, key: str) -> str:
        """Return what stands for a digest that anybody could make, such as a `once_key`."""
        return self._digest("key", key)

    def _digest(self, kind: str, text: str) -> str:
        data = f"{kind} {text}".encode("utf-8", "replace")
        return hmac.digest(self._key, data, "sha256").hex()  # half the time of hmac.new


KEY = Statement(Record.select(Record.digest_key).limit(1))
