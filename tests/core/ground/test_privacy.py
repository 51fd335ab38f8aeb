"""What is shown of an event without --reveal, and of a reference in the log: what is on a list, and
only in its shape."""

import re
import uuid
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from premblyd.ground.privacy import (
    MASK,
    Shape,
    is_deep,
    is_prembly_id,
    is_reference,
    mask,
    mask_code,
    mask_document,
    mask_error,
    mask_number,
    mask_reference,
    mask_sentence,
    mask_text,
    mask_word,
    safe_code,
    safe_id,
    safe_type,
    without_words_of,
)
from premblyd.prembly import events
from premblyd.store.columns import DIGEST, PERSONAL, PLAIN, SECRET, Kept, Text
from tests.support.rows import for_each

BVN = "22212345678"
NUMBERS = [
    *(BVN, "221:234:567:89", "2212 3456 789", "4111-1111-1111-1111"),
    *("+234 (803) 555-0101", "222.123.456.78", "٢٢٢١٢٣٤٥٦٧٨"),
]


@for_each("number", [*NUMBERS, "AMINA", "AMINA YUSUF", "amina@example.com"])
def test_a_person_in_a_place_of_something_else_is_masked(number: str) -> None:
    for shape in (Shape.CODE, Shape.WORD, Shape.REFERENCE, Shape.SENTENCE):
        assert MASK in mask(number, shape)
        assert not set(number.split()) & set(mask(number, shape).split())
    assert not is_reference(f"ref-{number}")
    names = "response_code status verification_status detail message reference event source"
    for name in names.split():
        assert mask_document({name: number}).document != {name: number}
    sentence = mask_sentence(f"The person {number} was not found")
    assert "was not found" in sentence
    assert number not in sentence


UUID = "00000000-0000-4000-8000-0000000a0001"


@for_each(
    ("mask", "texts"),
    [
        (mask_code, ["00", "7", "200", "E1"]),
        (mask_word, ["true", "VERIFIED", "NOT-VERIFIED", "Document Verification V2", "NO 123"]),
        (mask_word, ["verification.completed", "SDK", "NO", "nin"]),
        (mask_reference, [UUID, "sample-api-0001", "usr_000042", "ref-1", "2f1d3a"]),
        (mask_sentence, ["Insufficient wallet balance", "BVN is blocked/watch-listed"]),
        (mask_sentence, ['{"number":["This field is required."]}']),
        (mask_sentence, ["Verification can't be completed at this time. Kindly retry later"]),
    ],
)
def test_what_says_how_a_check_went_is_shown(mask: Callable[[str], str], texts: list[str]) -> None:
    assert [mask(text) for text in texts] == texts


def test_a_number_is_shown_where_a_confidence_belongs_and_has_its_size() -> None:
    assert (mask_number(97.123456789), mask_number(22212345678)) == (97.12, MASK)
    for name, value, shown in (
        *(("confidence", 97.5, 97.5), ("score", 97.5, MASK), ("age", 33, MASK)),
        *(("risk_score", 22212345678, MASK), ("response_code", 22212345678, MASK)),
        ("response_code", 1, 1),
    ):
        assert mask_document({name: value}).document == {name: shown}


def test_keys_are_shown_when_they_are_identifiers_without_a_long_number() -> None:
    document = {"nin_data": 1, "phone2": 2, BVN: 3, "AMINA YUSUF": 4, "a@b.c": 5, f"k{BVN}": 6}
    masked = mask_document({"data": [document]})
    shown = ["nin_data", "phone2", *(f"{MASK} {number}" for number in (3, 4, 5, 6))]
    assert list(masked.document["data"][0]) == shown
    assert {BVN, "AMINA YUSUF", "a@b.c"} <= set(masked.hidden)


def test_of_a_transaction_is_shown_how_the_screening_went_and_no_more() -> None:
    plain = {"transaction_id": "tx_12345", "risk_score": 75, "risk_level": "high"}
    private = {
        "severity": "high",
        "amount": "15000.00",
        "currency": "NGN",
        "searched_id": BVN,
        "account_number": "0123456789",
        "beneficiary": "AMINA YUSUF",
    }
    screening = {**plain, "status": "PENDING_REVIEW", **private, "rules": [{"name": "High Amount"}]}
    for event in ("transaction.escalated", "transaction.case.opened"):
        masked = mask_document({"data": {"event": event, "screening_result": screening}}).document
        hidden = {**dict.fromkeys(private, MASK), "rules": [{"name": MASK}]}
        shown = {**plain, "status": "PENDING_REVIEW", **hidden}
        assert masked["data"] == {"event": event, "screening_result": shown}
    for number in NUMBERS:
        odd = {"transaction_id": number, "risk_level": number, "verification_id": number}
        assert set(mask_document(odd).document.values()) == {MASK}


def test_a_type_is_shown_when_it_is_made_of_known_words() -> None:
    shown = {*events.MEANINGS, "sdk.session", "workflow.process.manual_review"}
    shown |= {"transaction.rule_triggered", "verification.completed"}
    for type_ in (*shown, "transaction.amina", "amina.yusuf", "credit.22212345678"):
        assert (mask(type_, Shape.TYPE) == type_) is (type_ in shown)
        assert (safe_type(type_) == type_) is (type_ in shown)
        masked = mask_document({"event": type_.upper()}).document
        assert (masked["event"] != MASK) is (type_ in shown)


def test_a_column_that_is_not_plain_is_masked() -> None:
    for holds in (PERSONAL, SECRET, DIGEST):
        shown = Text(holds, kept=Kept.IDENTITY).shown
        assert mask("x", shown) == MASK
        assert mask(None, shown) is None
        with pytest.raises(TypeError, match="how long it is kept"):
            Text(holds)
    assert mask("x", Text(PLAIN).shown) == "x"
    with pytest.raises(TypeError, match="holds"):
        Text()  # type: ignore[call-arg]


def test_depth_is_known_before_it_is_walked() -> None:
    deep: object = 1
    for _ in range(99):
        deep = [deep]
    assert not is_deep(deep)
    assert is_deep([[deep]])


def test_four_digits_may_be_a_pin() -> None:
    assert mask_text("PIN 1234, try 123") == f"PIN {MASK}, try 123"
    assert mask_sentence("the PIN is 1234") == f"the {MASK} is {MASK}"
    assert mask_word("NO 1234") == mask_word("NO 1 2 3 4") == MASK
    assert mask_document({"pin1234": 1, "pin123": 1}).document == {
        f"{MASK} 1": MASK,
        "pin123": MASK,
    }


@for_each("case", [str.lower, str.upper, str.title])
def test_a_name_of_the_body_is_masked_in_a_sentence_in_any_case(case: Callable[[str], str]) -> None:
    hidden = mask_document({"data": {"name": "Amina Yusuf", "photo": "x" * 5000}}).hidden
    shown = without_words_of(hidden, f"The person {case('amina')} was not found")
    assert shown == f"The person {MASK} was not found"


def test_the_beginning_of_a_name_at_the_end_of_a_sentence_is_masked() -> None:
    """A detail is cut after 500 characters."""
    assert without_words_of(["Amina Yusuf"], "not found: yus") == f"not found: {MASK}"
    assert without_words_of(["Amina Yusuf"], "yes, not found: amina") == f"yes, not found: {MASK}"


def test_an_error_is_shown_without_numbers_and_addresses() -> None:
    shown = mask_error(f"HTTP 502 for {BVN} of amina@example.com")
    assert shown == f"HTTP 502 for {MASK} of {MASK}"


@pytest.mark.large
@for_each("piece", ["A", "a@", "1", "a.b", "1-", "é", "Aa "])
def test_a_text_without_end_is_masked_without_delay(piece: str) -> None:
    """It would take minutes if its time grew with the square of its length."""
    text = piece * (500_000 // len(piece))
    assert len(mask_text(text)) <= len(text)
    assert mask_document({"detail": text}).document == {"detail": MASK}
    assert without_words_of([text], f"found: {text}")


def test_addresses_are_masked() -> None:
    assert mask_text("a@b.c") == MASK
    assert mask_text("to a@b.c, now <a@b.c>") == f"to {MASK} now <{MASK}>"
    assert mask_text("a@b@c @b a@") == f"{MASK}@c @b a@"


# References and codes that a sender chose: which are logged as they are.


@given(st.uuids(version=4))
def test_an_id_as_prembly_shows_them_is_logged_as_it_is_and_shown(made: uuid.UUID) -> None:
    for text in (str(made), str(made).replace("-", "_"), made.hex, f"ver_document_w_face_{made}"):
        assert safe_id(text) == (text if re.search("[a-f]", text[-36:]) else safe_id(text))
        assert is_prembly_id(text) or text.replace("-", "").isdigit()
        assert is_reference(text) or not is_prembly_id(text)


def test_other_shapes_of_premblys_ids_and_our_samples_are_logged() -> None:
    assert (safe_id(None), safe_id(""), safe_code(None), safe_code("")) == (None,) * 4
    for text in (UUID, UUID.upper(), "ver_document_w_face_8f3Kq1x9Zt", "sample-not-verified-0001"):
        assert safe_id(text) == text
    for code in ("00", "07", "99"):
        assert safe_code(code) == code
    for code in ("0", "000", BVN, "Ada", UUID, "٠٠", "00\n"):
        assert re.fullmatch("~[0-9a-f]{8}", str(safe_code(code)))


@for_each(
    "text",
    [
        *NUMBERS,
        *("0", "2212345-6789", "22123456-7890-1234-5678-901234567890", f"{BVN}{BVN}2212345678"),
        *("Ada-Lovelace", "lovelace", "ada.lovelace", "usr_42", "app_kyc_52", "r-1", "a b"),
        *(f"nin-{BVN}", f"ver_{BVN}", f"ver_bvn_{BVN}", "ver_bvn_2212-3456-789"),
        *("ver_nin_lovelace", "ver_bvn_221a234b567c89", "sdk_session_8f3Kq1x9Zt"),
        *("sess_demo_000012", f"sample-{BVN}", f"{UUID}\n", f" {UUID}", f"{UUID} {BVN}"),
        *(f"{UUID}{BVN}", "x" * 100_000, "ver_" * 9999, "\ud800"),
    ],
)
def test_anything_else_is_logged_as_a_digest(text: str) -> None:
    """That one that a sender made up stands for is another one."""
    digest = str(safe_id(text))
    assert re.fullmatch("~[0-9a-f]{8}", digest)
    assert digest == safe_id(text)
    assert digest != safe_id(f"{text}x")
    assert safe_id(digest) != digest
