"""Signatures: Prembly's own verify, and nothing else does."""

import base64
import csv
import hashlib
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from premblyd.errors import SignatureError
from premblyd.prembly.signature import Scheme, sign, verify
from tests.support.rows import for_each

PAYLOADS = Path(__file__).parent / "payloads"
KEY = "test_pk_premblyd_fixture_0001"
KEYS = {"live": KEY}

with (PAYLOADS / "headers.tsv").open(newline="") as table:
    ROWS = list(csv.DictReader(table, delimiter="\t"))

bodies = st.binary(max_size=200)
schemes = st.sampled_from(Scheme)


def refusal(
    body: bytes,
    header: str | None,
    scheme: Scheme = Scheme.HMAC_SHA256,
    keys: dict[str, str] = KEYS,
) -> str:
    with pytest.raises(SignatureError) as caught:
        verify(body, header, keys, scheme)
    return caught.value.reason


@for_each("row", ROWS)
def test_every_fixture_is_signed_by_its_header(row: dict[str, str]) -> None:
    body = (PAYLOADS / row["file"]).read_bytes()
    assert (len(body), hashlib.sha256(body).hexdigest()) == (int(row["bytes"]), row["sha256"])
    assert verify(body, row["x-prembly-signature"], KEYS) == "hmac-sha256:live"
    assert sign(body, KEY) == row["x-prembly-signature"]


def test_every_payload_has_a_row() -> None:
    files = {path.name for path in PAYLOADS.iterdir()} - {"expected.json", "headers.tsv"}
    assert {row["file"] for row in ROWS} == files


@for_each("name", ["live", "sandbox", "old"])
@for_each("scheme", Scheme)
def test_the_key_that_matched_is_named(name: str, scheme: Scheme) -> None:
    keys = {"live": "pk_live_1", "sandbox": "sandbox_pk_2", "old": "pk_live_é"}
    assert verify(b"{}", sign(b"{}", keys[name], scheme), keys, scheme) == f"{scheme}:{name}"


def test_of_two_names_for_one_key_the_first_is_named() -> None:
    assert verify(b"{}", sign(b"{}", "k"), {"a": "other", "b": "k", "c": "k"}) == "hmac-sha256:b"


def test_the_legacy_scheme_is_one_constant_for_every_body() -> None:
    constant = base64.b64encode(KEY.encode()).decode()
    assert sign(b"one", KEY, Scheme.PUBLIC_KEY) == sign(b"two", KEY, Scheme.PUBLIC_KEY) == constant
    assert verify(b"three", constant, KEYS, Scheme.PUBLIC_KEY) == "public-key:live"


@for_each(("made", "asked"), [tuple(Scheme), tuple(Scheme)[::-1]])
def test_a_signature_of_one_scheme_does_not_verify_under_the_other(
    made: Scheme, asked: Scheme
) -> None:
    assert refusal(b"{}", sign(b"{}", KEY, made), asked) == "wrong signature"


@for_each("header", [None, ""])
def test_no_signature_is_missing(header: str | None) -> None:
    assert refusal(b"{}", header) == "missing signature"


def test_the_key_itself_is_no_signature() -> None:
    assert refusal(b"{}", KEY, Scheme.PUBLIC_KEY) == "malformed signature"


def test_a_hexadecimal_digest_does_not_verify() -> None:
    refusal(b"{}", base64.b64decode(sign(b"{}", KEY)).hex())


def test_without_keys_nothing_verifies() -> None:
    assert refusal(b"{}", sign(b"{}", KEY), keys={}) == "wrong signature"


@given(bodies, st.text(min_size=1), schemes)
def test_what_a_key_signed_verifies(body: bytes, key: str, scheme: Scheme) -> None:
    assert verify(body, sign(body, key, scheme), {"k": key}, scheme) == f"{scheme}:k"


@given(bodies, bodies)
def test_another_body_does_not_verify(signed: bytes, sent: bytes) -> None:
    assume(signed != sent)
    assert refusal(sent, sign(signed, KEY)) == "wrong signature"


@given(bodies, st.text(min_size=1), schemes)
def test_another_key_does_not_verify(body: bytes, key: str, scheme: Scheme) -> None:
    assume(key != KEY)
    assert refusal(body, sign(body, key, scheme), scheme) == "wrong signature"


@given(bodies, schemes, st.data())
def test_a_signature_with_one_altered_byte_does_not_verify(
    body: bytes, scheme: Scheme, data: st.DataObject
) -> None:
    digest = bytearray(base64.b64decode(sign(body, KEY, scheme)))
    digest[data.draw(st.integers(0, len(digest) - 1))] ^= data.draw(st.integers(1, 255))
    assert refusal(body, base64.b64encode(digest).decode(), scheme) == "wrong signature"


@given(bodies, schemes, st.data())
def test_a_prefix_of_the_signature_does_not_verify(
    body: bytes, scheme: Scheme, data: st.DataObject
) -> None:
    right = sign(body, KEY, scheme)
    digest = base64.b64decode(right)
    refusal(body, right[: data.draw(st.integers(0, len(right) - 1))], scheme)
    shorter = digest[: data.draw(st.integers(0, len(digest) - 1))]
    refusal(body, base64.b64encode(shorter).decode(), scheme)


@given(bodies, schemes, st.binary(min_size=1, max_size=40))
def test_a_lengthened_signature_does_not_verify(body: bytes, scheme: Scheme, more: bytes) -> None:
    right = sign(body, KEY, scheme)
    digest = base64.b64decode(right)
    for header in (right + right, right + base64.b64encode(more).decode()):
        refusal(body, header, scheme)
    for longer in (digest + digest, digest + more, more + digest):
        refusal(body, base64.b64encode(longer).decode(), scheme)


@given(bodies, schemes)
def test_another_case_does_not_verify(body: bytes, scheme: Scheme) -> None:
    right = sign(body, KEY, scheme)
    for header in (right.lower(), right.upper(), right.swapcase()):
        refusal(body, header, scheme)


@given(bodies)
def test_another_padding_of_the_right_bytes_does_not_verify(body: bytes) -> None:
    right = sign(body, KEY)  # 32 bytes: one "=", and two loose bits before it
    loose = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    index = loose.index(right[-2])
    neighbours = [right[:-2] + loose[index ^ bits] + "=" for bits in (1, 2, 3)]
    for header in (right.rstrip("="), right + "=", right + "==", "=" + right, *neighbours):
        assert refusal(body, header) == "malformed signature"


@given(bodies, st.sampled_from(" \t\r\n\0\x0b\u00a0\u200b,;:\"'-_"), st.data())
def test_a_character_that_is_not_base64_anywhere_does_not_verify(
    body: bytes, character: str, data: st.DataObject
) -> None:
    right = sign(body, KEY)
    place = data.draw(st.integers(0, len(right)))
    assert refusal(body, right[:place] + character + right[place:]) == "malformed signature"


@given(bodies, st.text(st.characters(min_codepoint=128), min_size=1))
def test_text_that_is_not_ascii_does_not_verify(body: bytes, text: str) -> None:
    for header in (text, sign(body, KEY) + text, text + sign(body, KEY)):
        assert refusal(body, header) == "malformed signature"


@given(bodies, st.text(min_size=1), schemes)
def test_no_text_makes_verify_raise_anything_else(body: bytes, text: str, scheme: Scheme) -> None:
    refusal(body, text, scheme)
