"""Masking personal data for people who look at an event without needing the person.

What is shown is a list, not what is hidden: a field that Prembly adds tomorrow is hidden. A field
on the list is shown only in the shape that it has when it says what it should: a sender may put a
person's number where a code belongs.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from premblyd.privacy import identifiers
from premblyd.privacy.fields import SHAPES, VOCABULARY, Shape

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
    return text if identifiers.is_type(text.lower()) else mask_word(text)


def mask_code(text: str) -> str:
    """Return a response code such as 00 when it is one, else the mask."""
    return text if identifiers.is_code(text) else MASK


def mask_reference(text: str) -> str:
    """Return a reference when it has the shape of one, else the mask."""
    return text if identifiers.is_reference(text) else MASK


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
