"""References and codes that a sender chose: which are logged as they are."""

import re
import uuid

from hypothesis import given
from hypothesis import strategies as st

from premblyd.privacy import is_prembly_id, is_reference, safe_code, safe_id
from tests.support.rows import for_each

BVN = "22123456789"
UUID = "00000000-0000-4000-8000-0000000a0001"


@given(st.uuids(version=4))
def test_an_id_as_prembly_shows_them_is_logged_as_it_is(made: uuid.UUID) -> None:
    for text in (str(made), str(made).replace("-", "_"), made.hex, f"ver_document_w_face_{made}"):
        assert safe_id(text) == (text if re.search("[a-f]", text[-36:]) else safe_id(text))
        assert is_prembly_id(text) or text.replace("-", "").isdigit()


@for_each(
    "text", [UUID, UUID.upper(), "ver_document_w_face_8f3Kq1x9Zt", "sample-not-verified-0001"]
)
def test_other_shapes_of_premblys_ids_and_our_samples_are_logged(text: str) -> None:
    assert safe_id(text) == text


@for_each(
    "text",
    [
        *(BVN, f"{BVN}0", "4111111111111111", "4111-1111-1111-1111", "221:234:567:89", "0"),
        *("2212345-6789", "22123456-7890-1234-5678-901234567890", f"{BVN}{BVN}2212345678"),
        *(
            "Ada-Lovelace",
            "lovelace",
            "ada.lovelace",
            "usr_42",
            "app_kyc_52",
            "r-1",
            "a b",
            "\ud800",
        ),
        *(
            f"nin-{BVN}",
            f"ver_{BVN}",
            f"ver_bvn_{BVN}",
            "ver_bvn_2212-3456-789",
            "ver_nin_lovelace",
        ),
        *("ver_bvn_221a234b567c89", "sdk_session_8f3Kq1x9Zt", "sess_demo_000012", f"sample-{BVN}"),
        *(
            f"{UUID}\n",
            f" {UUID}",
            f"{UUID} {BVN}",
            f"{UUID}{BVN}",
            "x" * 100_000,
            "ver_" * 9999,
            "\ud800",
        ),
    ],
)
def test_anything_else_is_logged_as_a_digest(text: str) -> None:
    digest = safe_id(text)
    assert digest is not None
    assert re.fullmatch("~[0-9a-f]{8}", digest)
    assert digest == safe_id(text)
    assert digest != safe_id(f"{text}x")


def test_no_reference_stays_none() -> None:
    assert (safe_id(None), safe_id(""), safe_code(None), safe_code("")) == (None,) * 4


def test_a_digest_that_a_sender_made_up_is_none() -> None:
    digest = safe_id(BVN)
    assert safe_id(digest) != digest


@for_each("code", ["00", "07", "99"])
def test_two_digits_are_a_code(code: str) -> None:
    assert safe_code(code) == code


@for_each("code", ["0", "000", BVN, "Ada", UUID, "٠٠", "00\n"])
def test_anything_else_is_no_code(code: str) -> None:
    assert re.fullmatch("~[0-9a-f]{8}", str(safe_code(code)))


@given(st.one_of(st.uuids(version=4).map(str), st.from_regex(r"ver_face_[a-z0-9]{8,40}")))
def test_what_may_be_logged_may_be_shown_of_an_event(text: str) -> None:
    assert is_reference(text) or not is_prembly_id(text)


@for_each("text", [BVN, f"ref-{BVN}", "221:234:567:89", "Ada Lovelace", "lovelace"])
def test_a_person_is_no_reference(text: str) -> None:
    assert not is_reference(text)
