"""Signatures: Prembly's own verify, and nothing else does."""

import base64
import csv
import hashlib
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from premblyd.ground.errors import SignatureError
from premblyd.prembly.signature import Scheme, sign, verify
from tests.support.rows import for_each

PAYLOADS = Path(__file__).parents[2] / "payloads"
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
    files = {path.name for path in PAYLOADS.iterdir() if path.is_file()} - {
        "expected.json",
        "headers.tsv",
    }
    assert {row["file"] for row in ROWS} == files


@for_each("scheme", Scheme)
def test_the_key_that_matched_is_named_and_of_two_names_for_one_key_the_first(
    scheme: Scheme,
) -> None:
    keys = {"live": "pk_live_1", "sandbox": "sandbox_pk_2", "old": "pk_live_é"}
    for name, key in keys.items():
        assert (
            verify(b"{}", sign(b"{}", key, scheme), keys | {"z": key}, scheme) == f"{scheme}:{name}"
        )


def test_the_legacy_scheme_is_one_constant_for_every_body() -> None:
    constant = base64.b64encode(KEY.encode()).decode()
    assert sign(b"one", KEY, Scheme.PUBLIC_KEY) == sign(b"two", KEY, Scheme.PUBLIC_KEY) == constant
    assert verify(b"three", constant, KEYS, Scheme.PUBLIC_KEY) == "public-key:live"


@for_each(("made", "asked"), [tuple(Scheme), tuple(Scheme)[::-1]])
def test_a_signature_of_one_scheme_is_none_of_the_other(made: Scheme, asked: Scheme) -> None:
    assert refusal(b"{}", sign(b"{}", KEY, made), asked) == "wrong signature"


def test_what_is_no_signature_is_told_from_a_wrong_one() -> None:
    right = sign(b"{}", KEY)
    assert refusal(b"{}", None) == refusal(b"{}", "") == "missing signature"
    assert refusal(b"{}", KEY, Scheme.PUBLIC_KEY) == "malformed signature"
    assert refusal(b"{}", right, keys={}) == "wrong signature"
    refusal(b"{}", base64.b64decode(right).hex())


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
def test_one_altered_byte_does_not_verify(body: bytes, scheme: Scheme, data: st.DataObject) -> None:
    digest = bytearray(base64.b64decode(sign(body, KEY, scheme)))
    digest[data.draw(st.integers(0, len(digest) - 1))] ^= data.draw(st.integers(1, 255))
    assert refusal(body, base64.b64encode(digest).decode(), scheme) == "wrong signature"


@given(bodies, schemes, st.binary(min_size=1, max_size=40), st.data())
def test_a_signature_that_is_cut_lengthened_or_of_another_case_does_not_verify(
    body: bytes, scheme: Scheme, more: bytes, data: st.DataObject
) -> None:
    right = sign(body, KEY, scheme)
    digest = base64.b64decode(right)
    part = digest[: data.draw(st.integers(0, len(digest) - 1))]
    for other in (part, digest + digest, digest + more, more + digest):
        refusal(body, base64.b64encode(other).decode(), scheme)
    headers = (right + right, right + base64.b64encode(more).decode(), right[: len(part)])
    for header in (*headers, right.lower(), right.upper(), right.swapcase()):
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
def test_what_is_not_base64_does_not_verify(
    body: bytes, character: str, data: st.DataObject
) -> None:
    right = sign(body, KEY)
    place = data.draw(st.integers(0, len(right)))
    assert refusal(body, right[:place] + character + right[place:]) == "malformed signature"


@given(bodies, st.text(min_size=1), schemes)
def test_no_text_verifies_or_raises_anything_else(body: bytes, text: str, scheme: Scheme) -> None:
    for header in (text, f"{sign(body, KEY)}é{text}", f"é{text}{sign(body, KEY)}"):
        refusal(body, header, scheme)
