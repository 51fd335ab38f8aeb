"""Encryption at rest: each event has a random key of its own, by which what it says of a person is
sealed (AES-256-GCM); and that key is stored wrapped, sealed itself by a data key, which is no part
of the database. So an event's key is destroyed with its row, and with it every copy of what was
sealed by it; and another data key needs the wrapped keys anew, and no body.

A sealed value is bound to its event's key (`event.key`, which outlasts a move) and to its column.
"""

import base64
import binascii
import copy
import functools
import hashlib
import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Self

from premblyd.errors import CannotStartError, PremblydError

KEY_BYTES = 32
NONCE_BYTES = 12  # random: a key seals a few values
TAG_BYTES = 16
WRAPPED_BYTES = NONCE_BYTES + KEY_BYTES + TAG_BYTES
ID_DIGITS = 16
TEXT_PREFIX = "premblyd-data-key-1:"
MARK = b"\x00premblyd-sealed-1\x00"  # before a sealed byte string
TEXT_MARK = "\x01premblyd-sealed-1:"  # before a sealed text
SEALED = "sealed"  # what people see in the place of a value that can't be opened


class LacksKeyError(PremblydError):
    """What is asked for is sealed, and the data key that opens it is not here."""

    lacks_rights = True

    def __init__(self, data_key: str) -> None:
        super().__init__(
            f"What that needs is sealed by the data key {data_key}, which `encryption` does not"
            " name, or which this user may not read."
        )
        self.data_key = data_key


class DamagedError(PremblydError):
    """What is sealed can't be opened by its own key: somebody changed it, or what it is bound to.
    Take it from a copy."""


@dataclass(frozen=True, slots=True)
class DataKey:
    """A key that wraps the events' keys. Its `id` tells which it is, and nothing of it."""

    id: str
    secret: bytes = field(repr=False)

    @classmethod
    def read(cls, text: str) -> Self:
        """Read what `generate` made. Raise ValueError for anything else."""
        encoded = text.removeprefix(TEXT_PREFIX)
        try:
            secret = base64.b64decode(encoded, validate=True)
        except (binascii.Error, ValueError):
            secret = b""
        if encoded == text or len(secret) != KEY_BYTES:
            raise ValueError("is no data key: `premblyd keygen FILE` makes one")
        digest = hashlib.sha256(b"premblyd data key 1 " + secret).hexdigest()
        return cls(digest[:ID_DIGITS], secret)


def generate() -> str:
    """Return a new data key, as one line of text."""
    return TEXT_PREFIX + base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode()


class Wrapped(NamedTuple):
    """A key as it is stored: by which data key it is wrapped, and itself so."""

    data_key: str
    wrapped: bytes


class Cipher:
    """Seals and opens what is stored of one event."""

    def __init__(self, event_key: str, secret: bytes) -> None:
        self._bound_to = f"{event_key} ".encode("utf-8", "surrogatepass")
        self._cipher = _aes()(secret)

    def seal(self, place: str, value: Any) -> Any:
        """Return a text or a byte string sealed for its `place`, such as event.body. None, which
        says nothing, is left as it is."""
        if isinstance(value, bytes):
            return MARK + self._encrypt(place, value)
        if isinstance(value, str):
            sealed = self._encrypt(place, value.encode("utf-8", "surrogatepass"))
            return TEXT_MARK + binascii.b2a_base64(sealed, newline=False).decode()
        return value

    def open(self, place: str, value: Any) -> Any:
        """Return what `seal` has sealed, or what was stored as it is, since it says nothing or was
        emptied. Raise DamagedError when somebody has changed it."""
        if isinstance(value, bytes) and value.startswith(MARK):
            return self._decrypt(place, memoryview(value)[len(MARK) :])
        if isinstance(value, str) and value.startswith(TEXT_MARK):
            try:
                sealed = base64.b64decode(value[len(TEXT_MARK) :], validate=True)
                return self._decrypt(place, sealed).decode("utf-8", "surrogatepass")
            except ValueError:
                raise DamagedError(_damaged(place)) from None
        return value

    def _encrypt(self, place: str, value: bytes) -> bytes:
        nonce = os.urandom(NONCE_BYTES)
        sealed: bytes = self._cipher.encrypt(nonce, value, self._bound_to + place.encode())
        return nonce + sealed

    def _decrypt(self, place: str, sealed: Any) -> bytes:
        return _decrypt(self._cipher, sealed, self._bound_to + place.encode(), place)


class Vault:
    """The data keys that a program has. `current`: by which it seals; None: it only opens.
    `seals_names`: references and user_refs are to be sealed too."""

    def __init__(
        self,
        current: DataKey | None,
        others: Sequence[DataKey] = (),
        *,
        seals_names: bool = False,
    ) -> None:
        """Raise CannotStartError when the library is not installed."""
        _require_library()
        self.seals_names = seals_names
        self._current = current
        keys = [*others] if current is None else [current, *others]
        self._ciphers = {key.id: _aes()(key.secret) for key in keys}
        self.names: Any = None  # of the one record that this is for: see pseudonyms.py
        self.is_of_command = False  # beneath it names may be sealed that were in clear

    def for_record(self, *, is_of_command: bool = False) -> "Vault":
        """Return the same for one record more."""
        own = copy.copy(self)
        own.names, own.is_of_command = None, is_of_command
        return own

    @property
    def seals_with(self) -> str | None:
        """The id of the data key by which this seals."""
        return self._current.id if self._current else None

    @property
    def opens(self) -> tuple[str, ...]:
        """The ids of all data keys that are here."""
        return tuple(self._ciphers)

    def new_cipher(self, event_key: str) -> tuple[Cipher, Wrapped]:
        """Make the key of an event. Raise LookupError when this only opens."""
        secret = secrets.token_bytes(KEY_BYTES)
        return Cipher(event_key, secret), self.wrap(event_key, secret)

    def cipher(self, event_key: str, data_key: Any, wrapped: Any) -> Cipher:
        """Return what opens an event, by the row of its key. Raise LacksKeyError, DamagedError."""
        return Cipher(event_key, self.secret(event_key, data_key, wrapped))

    def rewrap(self, event_key: str, data_key: Any, wrapped: Any) -> Wrapped:
        """Return an event's key wrapped by the data key by which this seals. Raise LacksKeyError,
        DamagedError."""
        return self.wrap(event_key, self.secret(event_key, data_key, wrapped))

    def secret(self, event_key: str, data_key: Any, wrapped: Any) -> bytes:
        """Return an event's key itself. Raise LacksKeyError, DamagedError."""
        cipher = self._ciphers.get(data_key)
        if cipher is None:
            raise LacksKeyError(str(data_key)[:ID_DIGITS])
        if not isinstance(wrapped, bytes):
            raise DamagedError(_damaged("event_key.wrapped"))
        return _decrypt(cipher, wrapped, _bound_to_wrapped(event_key), "event_key.wrapped")

    def wrap(self, event_key: str, secret: bytes) -> Wrapped:
        """Return an event's key wrapped by the data key by which this seals. Raise LookupError when
        this only opens."""
        if self._current is None:
            raise LookupError("there is no data key to seal with")
        nonce = os.urandom(NONCE_BYTES)
        cipher = self._ciphers[self._current.id]
        wrapped = cipher.encrypt(nonce, secret, _bound_to_wrapped(event_key))
        return Wrapped(self._current.id, nonce + wrapped)

    def seal_own(self, place: str, secret: bytes) -> bytes:
        """Return what is of the whole record, and of no event, sealed by the data key itself. Raise
        LookupError when this only opens."""
        if self._current is None:
            raise LookupError("there is no data key to seal with")
        nonce = os.urandom(NONCE_BYTES)
        sealed: bytes = self._ciphers[self._current.id].encrypt(nonce, secret, place.encode())
        return MARK + self._current.id.encode() + nonce + sealed

    def open_own(self, place: str, value: bytes) -> bytes:
        """Return what `seal_own` has sealed. Raise LacksKeyError, DamagedError."""
        data_key = data_key_of(value) or ""
        cipher = self._ciphers.get(data_key)
        if cipher is None:
            raise LacksKeyError(data_key)
        sealed = value[len(MARK) + ID_DIGITS :]
        return _decrypt(cipher, sealed, place.encode(), place)


def data_key_of(value: Any) -> str | None:
    """Return the id of the data key by which `seal_own` has sealed a value; None: it has not."""
    if not isinstance(value, bytes) or not value.startswith(MARK):
        return None
    return value[len(MARK) :][:ID_DIGITS].decode("ascii", "replace")


def _bound_to_wrapped(event_key: str) -> bytes:
    return f"event_key {event_key}".encode("utf-8", "surrogatepass")


def _decrypt(cipher: Any, sealed: Any, bound_to: bytes, place: str) -> bytes:
    from cryptography.exceptions import InvalidTag

    try:
        opened: bytes = cipher.decrypt(bytes(sealed[:NONCE_BYTES]), sealed[NONCE_BYTES:], bound_to)
    except (InvalidTag, ValueError):
        raise DamagedError(_damaged(place)) from None
    return opened


def _damaged(place: str) -> str:
    return f"{place} can't be opened by the key of its event: it was changed. A copy has it."


def _require_library() -> None:
    try:
        import cryptography.hazmat.primitives.ciphers.aead  # noqa: F401
    except ImportError:  # many do without it
        raise CannotStartError(
            "`encryption` needs the library cryptography: run install.sh --with seal; without"
            " systemd, pip install '.[seal]' in a checkout."
        ) from None


@functools.cache  # to import it anew for each event takes as long as to seal two values
def _aes() -> Any:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    return AESGCM
