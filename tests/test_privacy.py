"""What is shown of an event without --reveal: a list, and each thing on it only in its shape."""

import ast
import base64
import binascii
import html
import json
import string
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import premblyd
from premblyd.prembly import events, samples
from premblyd.prembly.bodies import parse
from premblyd.privacy.documents import (
    MASK,
    is_deep,
    mask_code,
    mask_column,
    mask_document,
    mask_number,
    mask_reference,
    mask_sentence,
    mask_text,
    mask_word,
)
from premblyd.privacy.identifiers import safe_type
from premblyd.privacy.outputs import MAX_TEXT_CHARS, MAX_TEXTS, PART_CHARS, Hidden
from premblyd.privacy.vocabulary import VOCABULARY

BVN = "22212345678"
NUMBERS = [
    BVN,
    "221:234:567:89",
    "2212 3456 789",
    "4111-1111-1111-1111",
    "+234 (803) 555-0101",
    "222.123.456.78",
    "٢٢٢١٢٣٤٥٦٧٨",
]


@pytest.mark.parametrize("number", [*NUMBERS, "AMINA", "AMINA YUSUF", "amina@example.com"])
def test_a_person_in_a_place_of_something_else_is_masked(number: str) -> None:
    for mask in (mask_code, mask_word, mask_reference, mask_sentence):
        assert MASK in mask(number)
        assert not set(number.split()) & set(mask(number).split())
    names = "response_code status verification_status detail message reference event source"
    for name in names.split():
        assert mask_document({name: number}).document != {name: number}
        assert mask_column(name, number) != number
    sentence = mask_sentence(f"The person {number} was not found")
    assert "was not found" in sentence
    assert number not in sentence


@pytest.mark.parametrize(
    ("mask", "texts"),
    [
        (mask_code, ["00", "7", "200", "E1"]),
        (
            mask_word,
            ["true", "VERIFIED", "NOT-VERIFIED", "not_verified", "Document Verification V2"],
        ),
        (mask_word, ["verification.completed", "SDK", "NO", "nin"]),
        (mask_reference, ["00000000-0000-4000-8000-0000000a001f", "sample-api-0001", "usr_000042"]),
        (mask_reference, ["ref-1", "2f1d3a"]),
        (
            mask_sentence,
            ["Verification Successful", "Insufficient wallet balance", "Face Not Match"],
        ),
        (mask_sentence, ["BVN is blocked/watch-listed", '{"number":["This field is required."]}']),
        (mask_sentence, ["Verification can't be completed at this time. Kindly retry later"]),
    ],
)
def test_what_says_how_the_check_went_is_shown(
    mask: Callable[[str], str], texts: list[str]
) -> None:
    assert [mask(text) for text in texts] == texts


def test_a_number_is_shown_where_a_confidence_belongs_and_has_its_size() -> None:
    assert mask_number(97.123456789) == 97.12
    assert mask_number(22212345678) == MASK
    assert mask_document({"confidence": 97.5, "score": 97.5, "age": 33}).document == {
        "confidence": 97.5,
        "score": MASK,
        "age": MASK,
    }
    assert mask_document({"response_code": 22212345678}).document == {"response_code": MASK}
    assert mask_document({"response_code": 1}).document == {"response_code": 1}


def test_keys_are_shown_when_they_are_identifiers_without_a_long_number() -> None:
    document = {"nin_data": 1, "phone2": 2, BVN: 3, "AMINA YUSUF": 4, "a@b.c": 5, f"k{BVN}": 6}
    masked = mask_document({"data": [document]})
    assert list(masked.document["data"][0]) == [
        "nin_data",
        "phone2",
        *(f"{MASK} {number}" for number in (3, 4, 5, 6)),
    ]
    assert {BVN, "AMINA YUSUF", "a@b.c"} <= set(masked.hidden)


def test_every_sample_shows_how_the_check_went() -> None:
    for name in samples.NAMES:
        document = parse(samples.sample(name))
        assert document
        masked = mask_document(document).document
        for key in ("response_code", "status", "detail", "message", "verification"):
            assert masked.get(key) == document.get(key)


def test_of_a_transaction_is_shown_how_the_screening_went_and_no_more() -> None:
    screening = {
        "transaction_id": "tx_12345",
        "risk_score": 75,
        "risk_level": "high",
        "status": "PENDING_REVIEW",
        "severity": "high",
        "amount": "15000.00",
        "currency": "NGN",
        "account_number": "0123456789",
        "beneficiary": "AMINA YUSUF",
        "searched_id": BVN,
        "rules_triggered_details": [{"name": "High Amount Rule", "risk_score_weight": 60}],
    }
    for event in ("transaction.escalated", "transaction.case.opened"):
        masked = mask_document({"data": {"event": event, "screening_result": screening}}).document
        assert masked["data"]["event"] == event
    shown = masked["data"]["screening_result"]
    seen = ("transaction_id", "risk_score", "risk_level", "status")
    assert {name: shown[name] for name in seen} == {name: screening[name] for name in seen}
    hidden = [value for name, value in shown.items() if name not in seen]
    assert hidden == [MASK] * 6 + [[{"name": MASK, "risk_score_weight": MASK}]]
    for number in NUMBERS:
        odd = {"transaction_id": number, "risk_level": number, "verification_id": number}
        assert set(mask_document(odd).document.values()) == {MASK}
    assert mask_document({"risk_score": 22212345678}).document == {"risk_score": MASK}


@pytest.mark.parametrize(
    ("type_", "shown"),
    [
        ("sdk.session", True),
        ("workflow.process.manual_review", True),
        ("transaction.case.opened", True),
        ("transaction.rule_triggered", True),
        ("verification.completed", True),
        ("transaction.amina", False),
        ("amina.yusuf", False),
        ("credit.22212345678", False),
    ],
)
def test_a_type_is_shown_when_it_is_made_of_known_words(type_: str, shown: bool) -> None:
    assert (mask_column("type", type_) == type_) is shown
    assert (safe_type(type_) == type_) is shown
    assert (mask_document({"event": type_.upper()}).document["event"] != MASK) is shown


def test_every_documented_type_is_shown() -> None:
    for type_ in events.MEANINGS:
        assert mask_column("type", type_) == safe_type(type_) == type_


def test_a_column_that_is_new_is_masked() -> None:
    assert mask_column("a_new_column", "x") == MASK
    assert mask_column("a_new_column", None) is None
    assert mask_column("token", "t") == MASK


def test_depth_is_known_before_it_is_walked() -> None:
    deep: object = 1
    for _ in range(99):
        deep = [deep]
    assert not is_deep(deep)
    assert is_deep([[deep]])


def squeezed(text: str) -> str:
    return "".join(filter(str.isalnum, text.lower()))


SPELLINGS: dict[str, Callable[[str], str]] = {
    "plain": str,
    "upper": str.upper,
    "lower": str.lower,
    "inside a word": lambda text: f"user{text}x",
    "reversed": lambda text: text[::-1],
    "quoted": lambda text: quote(text, safe=""),
    "every byte quoted": lambda text: "".join(f"%{byte:02X}" for byte in text.encode()),
    "quoted twice": lambda text: quote("".join(f"%{byte:02x}" for byte in text.encode()), safe=""),
    "quoted-printable": lambda text: "".join(f"={byte:02X}" for byte in text.encode()),
    "base64": lambda text: base64.b64encode(text.encode()).decode(),
    "base64 url": lambda text: base64.urlsafe_b64encode(text.encode()).decode().rstrip("="),
    "base64 after a letter": lambda text: base64.b64encode(b"q" + text.encode()).decode(),
    "base64 in lines": lambda text: "\n".join(
        base64.b64encode(text.encode()).decode()[at : at + 7] for at in range(0, 60, 7)
    ),
    "base64 of more": lambda text: base64.b64encode(
        json.dumps({"some": "thing", "person": text}).encode()
    ).decode(),
    "base32": lambda text: base64.b32encode(text.encode()).decode(),
    "hex": lambda text: text.encode().hex(),
    "hex with colons": lambda text: text.encode().hex(":"),
    "hex dump": lambda text: " ".join(f"0x{byte:02X}" for byte in text.encode()),
    "json": lambda text: "".join(f"\\u{ord(letter):04x}" for letter in text),
    "python": lambda text: "".join(f"\\x{byte:02x}" for byte in text.encode()),
    "octal": lambda text: "".join(f"\\{byte:03o}" for byte in text.encode()),
    "html": lambda text: "".join(f"&#{ord(letter)};" for letter in text),
    "html hex": lambda text: "".join(f"&#x{ord(letter):x};" for letter in html.unescape(text)),
    "spaced": " ".join,
    "dashed": "-".join,
    "in lines": "\n".join,
    "in pieces": lambda text: "\n".join(text[at : at + 3] for at in range(0, len(text), 3)),
    "uu": lambda text: binascii.hexlify(text.encode(), "-").decode(),
    "packed": lambda text: base64.b64encode(
        zlib.compress(f"{string.printable}{text}".encode())
    ).decode(),
}
NAMES = st.text(string.ascii_letters, min_size=6, max_size=12).filter(
    lambda name: name.lower() not in VOCABULARY and len(set(name.lower())) > 2
)
PEOPLE = st.one_of(
    st.from_regex(r"[1-9][0-9]{9,14}", fullmatch=True),
    NAMES,
    st.builds("{} {}".format, NAMES, NAMES),
)


@pytest.mark.parametrize("spell", SPELLINGS.values(), ids=SPELLINGS)
@settings(deadline=None, max_examples=25)  # of each spelling
@given(person=PEOPLE)
@example(person=BVN)
@example(person="AMINA YUSUF")
def test_a_hook_that_prints_a_person_in_any_spelling_shows_none(
    spell: Callable[[str], str], person: str
) -> None:
    spelled = spell(person)
    hidden = Hidden(mask_document({"data": {"person": person}}).hidden)
    shown = hidden.mask(f"can't store the customer: {spelled}\nexit")
    assert spelled not in shown
    assert squeezed(spelled) not in squeezed(shown)
    assert person.lower() not in shown.lower()


@settings(deadline=None)
@given(person=PEOPLE, kept=st.integers(3, 12))
def test_an_output_that_was_cut_within_a_text_shows_no_beginning_of_it(
    person: str, kept: int
) -> None:
    beginning = person[:kept]
    hidden = Hidden([person])
    shown = hidden.mask(f"the customer is {beginning}", (), True)
    assert not shown.endswith(beginning)


ERRORS = [
    "Traceback (most recent call last):\n"
    '  File "/usr/local/bin/activate", line 12, in <module>\n'
    "ConnectionRefusedError: [Errno 111] Connection refused\n",
    "curl: (7) Failed to connect to crm.example.com port 443 after 12 ms: Couldn't connect\n",
    "/bin/sh: 1: activate-customer: not found\n",
    "psycopg.errors.UniqueViolation: duplicate key value violates unique constraint"
    ' "customer_bvn_key"\n',
    '{"error": "validation_failed", "fields": ["phone"]}',
]


@pytest.mark.parametrize("text", ERRORS)
def test_the_error_of_a_hook_that_failed_is_shown(text: str) -> None:
    document = parse(samples.sample("sdk"))
    assert Hidden(mask_document(document).hidden).mask(text) == text


def test_a_reference_that_is_shown_elsewhere_is_shown_in_an_output() -> None:
    reference = "00000000-0000-4000-8000-0000000a001f"
    shown = Hidden([BVN]).mask(f"{reference}: {BVN} failed", (reference,))
    assert shown == f"{reference}: {MASK} failed"


def test_of_a_long_output_both_ends_are_shown() -> None:
    output = "first words\n" + "and so on\n" * 5000 + f"then {BVN} the error"
    shown = Hidden(["AMINA"]).mask(output)
    assert shown.startswith("first words\n")
    assert shown.endswith(f"then {MASK} the error")
    assert len(shown) < 3 * PART_CHARS
    assert "characters …" in shown


def test_where_the_hidden_texts_are_too_many_or_unknown_no_output_is_shown() -> None:
    assert Hidden(None).mask("anything") == MASK
    assert Hidden(f"word{number:x}g" for number in range(MAX_TEXTS + 1)).mask("a") == MASK
    assert Hidden(None).mask("") == ""


def test_a_piece_of_a_photo_is_masked() -> None:
    photo = base64.b64encode(bytes(range(256)) * 40).decode()
    assert len(photo) > MAX_TEXT_CHARS
    hidden = Hidden([photo])
    for piece in (photo[:64], photo[1000:1040], photo[5000:9000]):
        assert piece not in hidden.mask(f"image: {piece} is odd")


# Names that stand in a list of what is private, and nowhere else.
PRIVATE_NAMES = {"bvn", "nin", "authorization", "selfie", "account_number", "x-real-ip", "password"}


def texts_of(module: Path) -> Iterator[str]:
    """Yield the texts in a module's code; its docstrings are for people."""
    tree = ast.parse(module.read_text())
    docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and id(node) not in docstrings
        ):
            yield node.value


def test_only_the_room_of_what_is_private_lists_names_of_it() -> None:
    root = Path(premblyd.__file__).parent
    names = PRIVATE_NAMES - {"password"}  # the console has one
    listing = {
        str(module.relative_to(root))
        for module in root.rglob("*.py")
        if any(names & set(text.split()) for text in texts_of(module))
    }
    assert listing == {"privacy/fields.py", "privacy/vocabulary.py"}


@pytest.mark.parametrize("piece", ["A", "a@", "1", "a.b", "1-", "é", "Aa "])
def test_a_text_of_megabytes_is_masked_without_delay(piece: str) -> None:
    """It would take hours if its time grew with the square of its length."""
    text = piece * (3_000_000 // len(piece))
    masked = mask_text(text)
    assert len(masked) <= len(text)
    assert mask_document({"detail": text}).document == {"detail": MASK}
    Hidden([text]).mask("hello")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a@b.c", "•••"),
        ("to a@b.c, now", "to ••• now"),
        ("<a@b.c>", "<•••>"),
        ("a@b@c", "•••@c"),
        ("@b", "@b"),
        ("a@", "a@"),
    ],
)
def test_addresses_are_masked(text: str, shown: str) -> None:
    assert mask_text(text) == shown
