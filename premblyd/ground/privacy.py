"""What is private, and what may be seen: every list of names that says so, the shapes of references
and codes, and masking. No other module has such a list.

Most say what is shown, not what is hidden: a header, a column or a field that Prembly adds tomorrow
is hidden until it is put on a list here. And it is shown only in the shape that it has when it says
what it should: a sender may put a person's number where a code belongs.

A reference is chosen by its sender, and may be a person's number, a name or a whole document. A log
is kept and passed on, so it has a reference only in the shapes of Prembly's own ids, and otherwise
a digest of it. People who look at a single event also see other shapes that hold no person's
number.
"""

import hashlib
import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import Enum, auto
from functools import lru_cache
from typing import Any

VOCABULARY = frozenset(
    """
    a able about accepted account active additional address advance advanced again all already
    amount an and any api api_key are async at authentication authorization available back bad
    balance bank basic be been before biometric blocked body bvn by cac can can't card cards
    check checkout code company complete completed confidence connection contact could couldn't
    credit critical customer data date declined default denied detail details didn't disabled
    document does doesn't done driver drivers driving duplicate empty enabled endpoint enter
    entered error errors escalated event exist exists expired face facial fail failed failure
    false field fields file flagged for format found free from has have high http https id
    identity identitypass image images in inactive incomplete info information insufficient
    internal invalid ip is issue it its json kindly kyc later level licence license limit listed
    live liveness low match matched matching medium message method minimal missing name new nin
    no none not null number of ok on or paid parameter passed passport pay pending permanent
    phone photo please portal prembly premium process processed processing production provided
    query ready received record records reference rejected request required response result
    retrieved retry returned review sandbox screening sdk selfie server service services session
    sorry source started state status submitted success successful successfull successfully
    suspended system tax temporary test that the there this time timeout tin to token too
    transaction true try type unable unauthorized unavailable undefined unknown unpaid
    unsuccessful update url used user v valid value verification verifications verified verify
    verifying via virtual vnin voter voters wallet was watch watchlist watchlisted webhook were
    widget with workflow wrong yes you your
    """.split()
)
# More words that the names of event types are made of, and nobody's name there.
TYPE_WORDS = VOCABULARY | frozenset(
    """
    alert analysis asynchronous cancelled case closed created decision direct escalated flagged
    fraud identity manual monitoring opened other process raised released reported resolved
    retried retry rule scored screened sdk statement triggered unnamed updated
    """.split()
)


# --- What is stored -----------------------------------------------------------------------

# Headers of a webhook that are stored: who sent it, which way it came, what the body is; no place
# where a credential or a person's data is put.
KEPT_HEADERS = frozenset(
    "accept accept-encoding accept-language content-encoding content-language content-length"
    " content-type date forwarded host traceparent transfer-encoding user-agent via"
    " x-correlation-id x-forwarded-for x-forwarded-host x-forwarded-proto x-real-ip"
    " x-request-id".split()
)

# --- What expressions see, and a dry run shows --------------------------------------------

# Verdict fields that open something at Prembly: no expression sees them, and `explain` masks them.
SECRET_VERDICT_FIELDS = frozenset({"session_id"})

# --- What a list and `show` show ----------------------------------------------------------


class Shape(Enum):
    """In which shape a text that somebody else wrote is shown to people who may not see personal
    data. In another shape it is masked."""

    PLAIN = auto()  # whatever it is: no sender wrote it, or it is meant to be seen
    CODE = auto()
    WORD = auto()  # known words
    TYPE = auto()  # of an event
    REFERENCE = auto()
    NUMBER = auto()  # a confidence
    SENTENCE = auto()  # known words, and those without a capital
    ERROR = auto()  # our own words about what somebody else wrote
    MASKED = auto()  # in none


# Fields of a body. (Of columns, their tables say it.)
FIELDS = {
    Shape.CODE: "response_code responsecode",
    Shape.SENTENCE: "detail message",
    Shape.REFERENCE: "reference referenceid reference_id user_ref verification_id transaction_id",
    Shape.WORD: "status success verification_status verificationstatus billing_status watchlisted"
    " source document_type verification_type endpoint_name risk_level",
    Shape.TYPE: "type event",
    Shape.NUMBER: "confidence average_confidence face_confidence risk_score",
}
SHAPES = {name: shape for shape, names in FIELDS.items() for name in names.split()}

# --- What is logged -----------------------------------------------------------------------

# Keys of a log line whose value is dropped whatever it is (docs.prembly.com; fields that
# consumers redact).
DROPPED_LOG_KEYS = frozenset(
    "body token signature session_id key_text authorization secret password output photo image"
    " images base64image selfie bvn nin vnin number account_number address email phone"
    " telephoneno user_ref detail first_name last_name".split()
)
# Keys whose value premblyd made or an operator named: no person's number, whatever digits are in
# it. In all others long numbers are masked.
OWN_LOG_KEYS = frozenset(
    "key event_id delivery timestamp level endpoint action verified_by database listen version"
    " library where exception traceback duration_ms".split()
)

# --- References, codes and types ---------------------------------------------------------

# The ids that Prembly's pages show: a UUID (with hyphens, underscores or neither), and
# ver_document_w_face_… with one, or with a few digits among letters. And our samples' own, and the
# digest that stands for a session.
_UUID = r"(?=[0-9_-]*[a-f])[0-9a-f]{8}([_-]?)[0-9a-f]{4}\1[0-9a-f]{4}\1[0-9a-f]{4}\1[0-9a-f]{12}"
_FEW_DIGITS = r"(?!(?:[a-z]*\d){10})(?=(?:[a-z]*\d){3})(?!\w*\d{5})(?=\d*[a-z])[a-z0-9]{8,40}"
_PREMBLY_ID = re.compile(
    rf"(?:ver(?:_[a-z]{{1,20}}){{1,6}}_)?{_UUID}"
    rf"|ver(?:_[a-z]{{1,20}}){{1,6}}_{_FEW_DIGITS}"
    r"|session-(?=[0-9]*[a-f])[0-9a-f]{24}"
    r"|sample-[a-z-]{1,20}-\d{4}(?:-[a-z]{12})?",
    re.IGNORECASE | re.ASCII,
)
_PREMBLY_CODE = re.compile(r"[0-9]{2}")
_UUID_OF_DIGITS = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_ID = re.compile(r"(?=.*[A-Za-z])(?=.*[0-9])[A-Za-z0-9][A-Za-z0-9._:-]{3,63}")
_LONG_NUMBER = re.compile(r"\d(?:[._:-]?\d){6,}")
_TYPE = re.compile(r"[a-z]+(?:[._][a-z]+)*")
_CODE = re.compile(r"[0-9]{1,3}|[A-Za-z][0-9]{1,3}")
_DIGEST_KEY = os.urandom(32)


def is_prembly_id(text: str) -> bool:
    """Return whether `text` has the shape of one of Prembly's ids."""
    return _PREMBLY_ID.fullmatch(text) is not None


def is_reference(text: str) -> bool:
    """Return whether people who look at an event may see `text` as its reference: it is an id of
    Prembly's, a UUID, or letters and digits without a long
    number."""
    if is_prembly_id(text) or _UUID_OF_DIGITS.fullmatch(text):
        return True
    return _ID.fullmatch(text) is not None and not _LONG_NUMBER.search(text)


def is_code(text: str) -> bool:
    """Return whether people who look at an event may see `text` as its code: 00, 200 or E1."""
    return _CODE.fullmatch(text) is not None


def is_type(text: str) -> bool:
    """Return whether `text` is the name of a type of events, such as transaction.processed, made of
    known words alone: a sender may make up others."""
    return _TYPE.fullmatch(text) is not None and TYPE_WORDS.issuperset(re.split("[._]", text))


@lru_cache(maxsize=256)
def safe_type(text: str) -> str:
    """Return the name of a type of events, or a digest of one that has unknown words."""
    return text if is_type(text) else _digest(text)


def safe_id(text: str | None) -> str | None:
    """Return `text` if it has the shape of Prembly's ids, else a digest of it: a sender chose it,
    so it may be a person's number, a name or a whole document.

    Equal texts have equal digests until the process ends. The key is random: nobody can try all
    numbers until the digest fits.
    """
    if not text or is_prembly_id(text):
        return text or None
    return _digest(text)


def stand_in(text: str) -> str:
    """Return a digest of an id that has the shape of Prembly's: for a log that outlasts the person
    in the record. What stands for another text already stays as it is."""
    return _digest(text) if is_prembly_id(text) else text


def digest_of(text: str | None) -> str | None:
    """Return a digest of `text` such as `safe_id` makes, whatever shape it has."""
    return _digest(text) if text else None


def safe_code(text: str | None) -> str | None:
    """Return a response code if it is two digits, as Prembly's are, else a digest of it."""
    if not text or _PREMBLY_CODE.fullmatch(text):
        return text or None
    return _digest(text)


def _digest(text: str) -> str:
    data = text.encode("utf-8", "surrogatepass")
    return "~" + hashlib.blake2b(data, key=_DIGEST_KEY, digest_size=4).hexdigest()


# --- Masking -----------------------------------------------------------------------------

MASK = "•••"

MAX_DEPTH = 100  # a body nested deeper can't be walked: Python would run out of stack
MAX_SENTENCE = 4096
SHORTEST = 3  # letters of a word that may name somebody

_WORD = re.compile(r"[^\W\d_]+(?:'[a-z]{1,2})?")
# From the start of a run of such letters, and without giving any back: a text of megabytes takes
# hours otherwise.
_EMAIL = re.compile(r"(?<![^\s@<>\"'])[^\s@<>\"']++@[^\s@<>\"']+")
# Digits of one number may be grouped: 221:234:567:89, +234 (803) 555-0101.
NUMBER = re.compile(r"\d(?:[\s.:/_,()+-]{0,2}\d){6,}|\d{4,}")
_NAME = re.compile(r"[A-Za-z_$@][A-Za-z0-9_.$-]{0,47}")


def mask_text(text: str) -> str:
    """Return free text with numbers of four digits and more and e-mail addresses masked."""
    return NUMBER.sub(MASK, _EMAIL.sub(MASK, text))


def mask_sentence(text: str) -> str:
    """Return a sentence for people: numbers and addresses masked, and words that may be names,
    which is every word with a capital that is not known. A longer text is no sentence."""
    if len(text) > MAX_SENTENCE:
        return MASK
    return _WORD.sub(_known_word, mask_text(text))


def mask_error(text: str) -> str:
    """Return why something failed, in our own words, with numbers and addresses masked."""
    return mask_text(text[:MAX_SENTENCE])


def without_words_of(hidden: Iterable[str], sentence: str) -> str:
    """Return a sentence without the words of the `hidden` texts, whatever their case. It may have
    been cut, so its last word may be the beginning of one of theirs."""
    words = [word.lower() for word in _WORD.findall(sentence)]
    doubtful = {word for word in words if len(word) >= SHORTEST and word not in VOCABULARY}
    if not doubtful:
        return sentence
    private = {
        word
        for text in hidden
        if len(text) <= MAX_SENTENCE  # a longer one is a photo
        for word in _WORD.findall(text.lower())
    }
    found = doubtful & private
    if words[-1] in doubtful and any(word.startswith(words[-1]) for word in private):
        found.add(words[-1])
    return _WORD.sub(lambda word: MASK if word[0].lower() in found else word[0], sentence)


def _known_word(found: re.Match[str]) -> str:
    word = found[0]
    return word if word.islower() or word.lower() in VOCABULARY else MASK


def mask_word(text: str) -> str:
    """Return a status or a kind when it is made of known words, else the mask."""
    words = _WORD.findall(text)
    is_known = all(word.lower() in VOCABULARY for word in words)
    has_number = re.search(r"\d{4}|\d\D{0,3}\d\D{0,3}\d\D{0,3}\d", text)
    return text if is_known and not has_number and len(text) <= 64 else MASK


def mask_type(text: str) -> str:
    """Return the name of an event's type when it is made of known words, else the mask."""
    return text if is_type(text.lower()) else mask_word(text)


def mask_code(text: str) -> str:
    """Return a response code such as 00 when it is one, else the mask."""
    return text if is_code(text) else MASK


def mask_reference(text: str) -> str:
    """Return a reference when it has the shape of one, else the mask."""
    return text if is_reference(text) else MASK


def mask_number(value: float) -> float | str:
    """Return a confidence, to two decimals: more of them could hold a person's number."""
    return round(value, 2) if abs(value) < 1000 else MASK


_MASKS: dict[Shape, Callable[[str], str]] = {
    Shape.CODE: mask_code,
    Shape.SENTENCE: mask_sentence,
    Shape.REFERENCE: mask_reference,
    Shape.WORD: mask_word,
    Shape.TYPE: mask_type,
    Shape.ERROR: mask_error,
}


def mask(value: Any, shape: Shape) -> Any:
    """Return what is shown of a value that has, or should have, this shape."""
    match value:
        case None | bool() | "":
            return value
        case _ if shape is Shape.PLAIN:
            return value
        case str() if shape in _MASKS:
            return _MASKS[shape](value)
        case int() | float() if shape is Shape.NUMBER:
            return mask_number(value)
        case int() if shape in _MASKS and mask_code(str(value)) != MASK:
            return value
        case _:
            return MASK


@dataclass(frozen=True, slots=True, kw_only=True)
class Masked:
    """A document as it is shown, and the texts in it that are not."""

    document: Any
    hidden: tuple[str, ...]


def mask_document(document: Any) -> Masked:
    """Return `document` with everything masked that is not plainly about the check."""
    hidden: list[str] = []
    return Masked(document=_mask(document, "", hidden), hidden=tuple(hidden))


def _mask(value: Any, name: str, hidden: list[str]) -> Any:
    match value:
        case dict():
            keys = _mask_names(value, hidden)
            return {keys[key]: _mask(inner, key, hidden) for key, inner in value.items()}
        case list():
            return [_mask(inner, name, hidden) for inner in value]
        case _:
            shown = mask(value, SHAPES.get(name.lower(), Shape.MASKED))
            if shown != value:
                hidden.append(str(value))
            return shown


def _mask_names(mapping: dict[str, Any], hidden: list[str]) -> dict[str, str]:
    """Return each key as it is shown: an identifier without a long number, or a numbered mask."""
    keys = {}
    for key in mapping:
        if _NAME.fullmatch(key) and sum(map(str.isdigit, key)) < 4:
            keys[key] = key
        else:
            hidden.append(key)
            keys[key] = f"{MASK} {len(keys) + 1}"
    return keys


def is_deep(document: Any) -> bool:
    """Return whether `document` is nested too deeply to walk."""
    level: list[Any] = [document]
    for _ in range(MAX_DEPTH):
        level = [inner for value in level for inner in _children(value)]
        if not level:
            return False
    return True


def _children(value: Any) -> Iterator[Any]:
    inner = value.values() if isinstance(value, dict) else value
    if isinstance(value, dict | list):
        yield from (child for child in inner if isinstance(child, dict | list))
