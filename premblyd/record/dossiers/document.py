"""What a message's body holds, value by value as people read it, with the photos in it."""

import base64
import binascii
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from premblyd import privacy
from premblyd.prembly import bodies
from premblyd.words import size

MOST_VALUES = 500  # of a message: its file has all
MOST_CHARACTERS = 1000  # of a text
MOST_NAME = 100  # characters of a key
SHORTEST = 64  # characters of a photo in base64
_KINDS = {
    b"\xff\xd8\xff": "jpg",
    b"\x89PNG\r\n\x1a\n": "png",
    b"GIF8": "gif",
    b"RIFF": "webp",
    b"%PDF-": "pdf",
}


@dataclass(frozen=True, slots=True)
class Value:
    """A value in a body: where it stands, as what it is shown, and, of a photo, the end of its
    file's name and what is in it, in base64."""

    name: str
    text: str
    kind: str = ""
    encoded: str = ""

    @property
    def photo(self) -> bytes:
        """Return what is in the file of a photo."""
        whole = _joined(self.encoded)
        return base64.b64decode(whole[: len(whole) // 4 * 4 or None])


def values(body: bytes) -> list[Value] | None:
    """Return the first MOST_VALUES values in a body; None when it is no JSON object, or nested too
    deeply."""
    document = bodies.parse(body)
    if document is None or privacy.is_deep(document):
        return None
    return list(_values(document, "", [MOST_VALUES]))


def _values(value: Any, name: str, left: list[int]) -> Iterator[Value]:
    if isinstance(value, dict | list) and value:
        inner = value.items() if isinstance(value, dict) else enumerate(value, 1)
        for key, each in inner:
            if left[0] <= 0:
                return
            shown = str(key)[:MOST_NAME]
            yield from _values(each, f"{name} › {shown}" if name else shown, left)
    else:
        left[0] -= 1
        yield _value(name, value)


def _value(name: str, value: Any) -> Value:
    match value:
        case None | "" | {} | []:
            return Value(name, "–")
        case bool():
            return Value(name, "yes" if value else "no")
        case str() if len(value) >= SHORTEST and (data := _base64(value)) is not None:
            kind = _kind(data)
            what = "a photo or a document" if kind else "encoded"
            return Value(name, f"[{what}, {size(len(data) * 3 // 4)}]", kind, data if kind else "")
        case str() if len(value) > MOST_CHARACTERS:
            return Value(name, f"{value[:MOST_CHARACTERS]}… [{len(value):,} characters]")
        case _:
            try:
                return Value(name, str(value)[:MOST_CHARACTERS])
            except ValueError:  # an integer of more than 4,300 digits
                return Value(name, "[a very long number]")


def _base64(text: str) -> str | None:
    """Return a photo, or a text that is too long to be shown, as it is encoded; None when it is
    none."""
    data = text.partition(",")[2] if text.startswith("data:") else text
    if not _head(data) or not (_kind(data) or len(data) > MOST_CHARACTERS):
        return None
    try:
        Value("", "", "x", data).photo  # noqa: B018 (whether it can be read)
    except (binascii.Error, ValueError):
        return None
    return data


def _kind(data: str) -> str:
    head = _head(data)
    return next((kind for mark, kind in _KINDS.items() if head.startswith(mark)), "")


def _head(data: str) -> bytes:
    """Return the first bytes of what is encoded; none: it is not."""
    beginning = _joined(data[: 2 * SHORTEST])[:SHORTEST]
    try:
        return base64.b64decode(beginning[: len(beginning) // 4 * 4].encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError, ValueError):
        return b""


def _joined(data: str) -> str:
    """Return what is encoded in lines as one: not in words, which are a text."""
    return data.replace("\r", "").replace("\n", "")
