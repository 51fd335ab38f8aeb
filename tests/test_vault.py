"""Data keys, the events' keys, and what is sealed by them. The values of others, and of other
places, are made here by the library itself."""

import base64
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from premblyd.vault import (
    MARK,
    TEXT_MARK,
    Cipher,
    DamagedError,
    DataKey,
    LacksKeyError,
    Vault,
    generate,
)
from tests.support.rows import for_each

NEW, OLD = DataKey.read(generate()), DataKey.read(generate())
KEY = "ab" * 16


def test_a_data_key_is_one_line_of_which_no_two_are_the_same() -> None:
    text = generate()
    assert text.startswith("premblyd-data-key-1:")
    assert text != generate()
    assert DataKey.read(text) == DataKey.read(text)
    assert (len(NEW.id), NEW.id != OLD.id) == (16, True)
    assert base64.b64encode(NEW.secret).decode() not in repr(NEW)


@for_each(
    "text",
    ["", "secret", "premblyd-data-key-1:", "premblyd-data-key-1:AAAA", generate()[20:], " " * 64],
)
def test_what_is_no_data_key_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="keygen"):
        DataKey.read(text)


@for_each("value", [b"", b"body", b"\x00" * 70_000, MARK + b"own", "", "text", "é\0", TEXT_MARK])
def test_what_was_sealed_is_opened_and_nothing_of_it_is_seen(value: Any) -> None:
    cipher, _ = Vault(NEW).new_cipher(KEY)
    sealed = cipher.seal("event.body", value)
    assert type(sealed) is type(value)
    assert sealed.startswith(MARK if isinstance(value, bytes) else TEXT_MARK)
    assert sealed != cipher.seal("event.body", value)
    assert len(value) < 4 or value not in sealed[len(MARK) :]
    assert cipher.open("event.body", sealed) == value


def test_what_says_nothing_is_left_as_it_is_and_what_is_not_sealed_too() -> None:
    cipher, _ = Vault(NEW).new_cipher(KEY)
    assert cipher.seal("event.token", None) is None
    assert [cipher.open("event.body", value) for value in (None, b"", "", 7)] == [None, b"", "", 7]


def test_a_sealed_value_is_bound_to_its_event_and_its_column() -> None:
    vault = Vault(NEW)
    cipher, wrapped = vault.new_cipher(KEY)
    sealed = cipher.seal("event.token", "hush")
    assert vault.cipher(KEY, *wrapped).open("event.token", sealed) == "hush"
    with pytest.raises(DamagedError):
        cipher.open("event.detail", sealed)
    with pytest.raises(DamagedError):
        vault.cipher("cd" * 16, *wrapped)
    secret = AESGCM(NEW.secret).decrypt(
        wrapped.wrapped[:12], wrapped.wrapped[12:], f"event_key {KEY}".encode()
    )
    with pytest.raises(DamagedError):
        Cipher("cd" * 16, secret).open("event.token", sealed)


@for_each("place", [0, 20, -1])
def test_a_changed_value_is_not_opened(place: int) -> None:
    cipher, wrapped = Vault(NEW).new_cipher(KEY)
    sealed = bytearray(cipher.seal("event.body", b"body"))
    sealed[len(MARK) + place if place >= 0 else place] ^= 1
    with pytest.raises(DamagedError):
        cipher.open("event.body", bytes(sealed))
    with pytest.raises(DamagedError):
        cipher.open("event.token", TEXT_MARK + "no base64")
    changed = bytearray(wrapped.wrapped)
    changed[place] ^= 1
    with pytest.raises(DamagedError):
        Vault(NEW).cipher(KEY, wrapped.data_key, bytes(changed))


def test_an_old_data_key_opens_and_a_new_one_wraps() -> None:
    cipher, wrapped = Vault(OLD).new_cipher(KEY)
    sealed = cipher.seal("event.body", b"body")
    both = Vault(NEW, [OLD])
    assert both.cipher(KEY, *wrapped).open("event.body", sealed) == b"body"
    anew = both.rewrap(KEY, *wrapped)
    assert (wrapped.data_key, anew.data_key) == (OLD.id, NEW.id)
    assert Vault(NEW).cipher(KEY, *anew).open("event.body", sealed) == b"body"
    with pytest.raises(LacksKeyError, match=OLD.id):
        Vault(NEW).cipher(KEY, *wrapped)


def test_a_vault_without_a_current_key_only_opens() -> None:
    _, wrapped = Vault(OLD).new_cipher(KEY)
    opens = Vault(None, [OLD])
    assert (opens.seals_with, opens.opens) == (None, (OLD.id,))
    opens.cipher(KEY, *wrapped)
    with pytest.raises(LookupError):
        opens.new_cipher(KEY)
    with pytest.raises(LookupError):
        opens.rewrap(KEY, *wrapped)
