"""Signatures: Prembly's own verify, and nothing else does."""

import base64
import csv
import hashlib
from itertools import permutations
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from premblyd.ground.errors import SignatureError
from premblyd.prembly.signature import GUIDE, HEADER, Form, Scheme, right_form, sign, verify
from tests.support.rows import for_each

PAYLOADS = Path(__file__).parents[2] / "payloads"
KEY = "test_pk_premblyd_fixture_0001"
KEYS = {"live": KEY}

with (PAYLOADS / "headers.tsv").open(newline="") as table:
    ROWS = list(csv.DictReader(table, delimiter="\t"))

PREFIXED = Form(Scheme.HMAC_SHA512, "hex", "sha512=", "X-Other")
FORMS = (
    GUIDE,
    Form(Scheme.HMAC_SHA512, "hex"),
    Form(Scheme.HMAC_SHA256, prefix="v="),
    PREFIXED,
    Form(Scheme.PUBLIC_KEY),
)
bodies = st.binary(max_size=200)
forms = st.sampled_from(FORMS)
in_base64 = st.sampled_from([Form(scheme) for scheme in Scheme])


def refusal(
    body: bytes,
    header: str | None,
    form: Form = GUIDE,
    keys: dict[str, str] = KEYS,
) -> str:
    with pytest.raises(SignatureError) as caught:
        verify(body, {} if header is None else {form.header: header}, keys, (form,))
    return caught.value.reason


@for_each("row", ROWS)
def test_every_fixture_is_signed_by_its_header(row: dict[str, str]) -> None:
    body = (PAYLOADS / row["file"]).read_bytes()
    assert (len(body), hashlib.sha256(body).hexdigest()) == (int(row["bytes"]), row["sha256"])
    assert verify(body, row, KEYS) == "hmac-sha256:live"
    assert sign(body, KEY) == row["x-prembly-signature"]


def test_every_payload_has_a_row() -> None:
    files = {path.name for path in PAYLOADS.iterdir() if path.is_file()} - {
        "expected.json",
        "headers.tsv",
    }
    assert {row["file"] for row in ROWS} == files


@for_each("form", FORMS)
def test_the_key_that_matched_is_named_and_of_two_names_for_one_key_the_first(form: Form) -> None:
    keys = {"live": "pk_live_1", "sandbox": "sandbox_pk_2", "old": "pk_live_é"}
    for name, key in keys.items():
        headers = {form.header: sign(b"{}", key, form)}
        assert verify(b"{}", headers, keys | {"z": key}, (form,)) == f"{form.scheme}:{name}"


def test_the_legacy_scheme_is_one_constant_for_every_body() -> None:
    legacy = Form(Scheme.PUBLIC_KEY)
    constant = base64.b64encode(KEY.encode()).decode()
    assert sign(b"one", KEY, legacy) == sign(b"two", KEY, legacy) == constant
    assert verify(b"three", {HEADER: constant}, KEYS, (legacy,)) == "public-key:live"


@for_each(("made", "asked"), list(permutations(FORMS, 2)))
def test_a_signature_of_one_form_is_none_of_another(made: Form, asked: Form) -> None:
    with pytest.raises(SignatureError):
        verify(b"{}", {asked.header: sign(b"{}", KEY, made)}, KEYS, (asked,))


@for_each("form", FORMS)
def test_of_several_forms_any_is_right_whatever_the_others_headers_hold(form: Form) -> None:
    for other in (sign(b"{}", KEY, form), "!", ""):
        headers = dict.fromkeys((each.header for each in FORMS), other)
        headers[form.header] = sign(b"{}", KEY, form)
        assert verify(b"{}", headers, KEYS, FORMS) == f"{form.scheme}:live"
    assert _reason({}) == "missing signature"
    assert _reason({HEADER: "!", PREFIXED.header: "!"}) == "malformed signature"
    assert _reason({HEADER: sign(b"", KEY), PREFIXED.header: "!"}) == "wrong signature"


def _reason(headers: dict[str, str]) -> str:
    with pytest.raises(SignatureError) as caught:
        verify(b"{}", headers, KEYS, FORMS)
    return caught.value.reason


def test_in_which_other_form_a_body_is_signed_is_found_but_never_the_legacy_one() -> None:
    for made in OTHERS:
        assert right_form(b"{}", {HEADER: sign(b"{}", KEY, made)}, KEYS, (GUIDE,)) == (made, "live")
        wrong = {HEADER: sign(b"{}", "another", made)}
        assert right_form(b"{}", wrong, KEYS, (GUIDE,)) is None
    for header in (sign(b"{}", KEY, Form(Scheme.PUBLIC_KEY)), "!", sign(b"", KEY)):
        assert right_form(b"{}", {HEADER: header}, KEYS, (GUIDE,)) is None
    elsewhere = {"x-other": sign(b"{}", KEY)}
    assert right_form(b"{}", elsewhere, KEYS, (GUIDE,)) is None, "no header of the endpoint"


OTHERS = (
    Form(Scheme.HMAC_SHA256, "hex", ""),
    Form(Scheme.HMAC_SHA256, "hex", "sha256="),
    Form(Scheme.HMAC_SHA256, "base64", "sha256="),
    Form(Scheme.HMAC_SHA512, "base64", ""),
    Form(Scheme.HMAC_SHA512, "hex", ""),
    Form(Scheme.HMAC_SHA512, "hex", "sha512="),
)


def test_what_is_no_signature_is_told_from_a_wrong_one() -> None:
    right = sign(b"{}", KEY)
    assert refusal(b"{}", None) == refusal(b"{}", "") == "missing signature"
    assert refusal(b"{}", KEY, Form(Scheme.PUBLIC_KEY)) == "malformed signature"
    assert refusal(b"{}", right, keys={}) == "wrong signature"
    refusal(b"{}", base64.b64decode(right).hex())


@given(bodies, st.text(min_size=1), forms)
def test_what_a_key_signed_verifies(body: bytes, key: str, form: Form) -> None:
    headers = {form.header: sign(body, key, form)}
    assert verify(body, headers, {"k": key}, (form,)) == f"{form.scheme}:k"


@given(bodies, bodies)
def test_another_body_does_not_verify(signed: bytes, sent: bytes) -> None:
    assume(signed != sent)
    assert refusal(sent, sign(signed, KEY)) == "wrong signature"


@given(bodies, st.text(min_size=1), forms)
def test_another_key_does_not_verify(body: bytes, key: str, form: Form) -> None:
    assume(key != KEY)
    assert refusal(body, sign(body, key, form), form) == "wrong signature"


@given(bodies, in_base64, st.data())
def test_one_altered_byte_does_not_verify(body: bytes, form: Form, data: st.DataObject) -> None:
    digest = bytearray(base64.b64decode(sign(body, KEY, form)))
    digest[data.draw(st.integers(0, len(digest) - 1))] ^= data.draw(st.integers(1, 255))
    assert refusal(body, base64.b64encode(digest).decode(), form) == "wrong signature"


@given(bodies, in_base64, st.binary(min_size=1, max_size=40), st.data())
def test_a_signature_that_is_cut_lengthened_or_of_another_case_does_not_verify(
    body: bytes, form: Form, more: bytes, data: st.DataObject
) -> None:
    right = sign(body, KEY, form)
    digest = base64.b64decode(right)
    part = digest[: data.draw(st.integers(0, len(digest) - 1))]
    for other in (part, digest + digest, digest + more, more + digest):
        refusal(body, base64.b64encode(other).decode(), form)
    headers = (right + right, right + base64.b64encode(more).decode(), right[: len(part)])
    for header in (*headers, right.lower(), right.upper(), right.swapcase()):
        refusal(body, header, form)


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


@given(bodies, st.text(min_size=1), forms)
def test_no_text_verifies_or_raises_anything_else(body: bytes, text: str, form: Form) -> None:
    for header in (text, f"{sign(body, KEY)}é{text}", f"é{text}{sign(body, KEY)}"):
        refusal(body, header, form)
