"""Keyed digests: what outlasts a name that was erased, so that what comes of it later is known.

The key was made with the database, and never changes. Who has the database has it too, and can try
names one by one: so these digests are personal data still, of those who can be guessed. With
`encryption` the key is sealed by the data key from the first daemon on that seals.
"""

import hmac
from typing import Any

from premblyd.engines.engine import Statement, Transaction, param
from premblyd.model.keeptables import DigestKey
from premblyd.prembly.payload import plain_id
from premblyd.vault import LacksKeyError, Vault, data_key_of

KEYED_DIGITS = 64  # of such a digest; those that anybody can make have 32
PSEUDONYM = "sealed-"  # before the digest that stands for a name in a column: see pseudonyms.py
_PSEUDONYM_LENGTH = len(PSEUDONYM) + KEYED_DIGITS


class Digests:
    """Makes the digests of a database."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    @classmethod
    def of(cls, transaction: Transaction) -> "Digests":
        """Read the key of the database. Raise LookupError when somebody has deleted it,
        LacksKeyError when it is sealed by a data key that is not here."""
        row = transaction.row(KEY)
        return cls.by(row[0] if row else None, transaction.vault)

    @classmethod
    def by(cls, key: Any, vault: Vault | None = None) -> "Digests":
        """Make digests by a key that was read. Raise as `of`."""
        if key is None:
            raise LookupError("the database has no digest key")
        return cls(opened_key(bytes(key), vault))

    def of_reference(self, reference: str) -> str:
        """Return what stands for a reference, in all of its spellings, or is named by its
        pseudonym."""
        return _digest_in(reference) or self._digest("reference", plain_id(reference))

    def pseudonym_of_reference(self, reference: str) -> str:
        """Return its pseudonym. Whatever it looks like, it is a name: a sender may have chosen
        it."""
        return PSEUDONYM + self._digest("reference", plain_id(reference))

    def of_session(self, session_id: str) -> str:
        """Return what stands for the id of a session, in all of its spellings."""
        return self._digest("session", plain_id(session_id))

    def of_user(self, user_ref: str) -> str:
        """Return what stands for a person's `user_ref`, or is named by its pseudonym."""
        return _digest_in(user_ref) or self._digest("user", user_ref)

    def pseudonym_of_user(self, user_ref: str) -> str:
        """Return its pseudonym, as of a reference."""
        return PSEUDONYM + self._digest("user", user_ref)

    def of_event(self, event_id: int) -> str:
        """Return what stands for one event that somebody named."""
        return self._digest("event", str(event_id))

    def of_key(self, key: str) -> str:
        """Return what stands for a digest that anybody could make, such as a `once_key`."""
        return self._digest("key", key)

    def key_for_certificates(self) -> bytes:
        """Return the key of the digests in certificates of completeness: who has that one can't
        make any of the others."""
        return hmac.digest(self._key, b"premblyd certificates 1", "sha256")

    def _digest(self, kind: str, text: str) -> str:
        data = f"{kind} {text}".encode("utf-8", "replace")
        return hmac.digest(self._key, data, "sha256").hex()  # half the time of hmac.new


def _digest_in(name: str) -> str | None:
    """Return the digest in a pseudonym; None for what is none."""
    if len(name) != _PSEUDONYM_LENGTH or not name.startswith(PSEUDONYM):
        return None
    digest = name[len(PSEUDONYM) :]
    return digest if set(digest) <= set("0123456789abcdef") else None


def opened_key(key: bytes, vault: Vault | None) -> bytes:
    """Return the key itself. Raise LacksKeyError, DamagedError."""
    sealed_by = data_key_of(key)
    if sealed_by is None:
        return key
    if vault is None:
        raise LacksKeyError(sealed_by)
    return vault.open_own(PLACE, key)


def sealed_key(key: bytes, vault: Vault | None) -> bytes:
    """Return the key as it is to be stored: sealed, where something seals."""
    return key if vault is None or vault.seals_with is None else vault.seal_own(PLACE, key)


def seal_key(transaction: Transaction) -> None:
    """Have the key sealed by the data key that seals now."""
    row, vault = transaction.row(KEY), transaction.vault
    if row is None or vault is None or data_key_of(bytes(row[0])) == vault.seals_with:
        return
    key = opened_key(bytes(row[0]), vault)
    transaction.change(SET_KEY, key=sealed_key(key, vault))


PLACE = DigestKey.key.place
SET_KEY = Statement(DigestKey.update(key=param("key")))
KEY = Statement(DigestKey.select(DigestKey.key).order_by(DigestKey.id).limit(1))
