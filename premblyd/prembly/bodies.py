"""Reading a body as JSON, within bounds. A right signature does not make a body harmless: Prembly's
public key is in browsers, so anybody may sign 16 MiB of anything."""

import json
from collections import Counter
from collections.abc import Collection
from typing import Any

MAX_VALUES = 250_000  # a hundred times those of Prembly's largest; 16 MiB can hold 8 million
LARGE_BYTES = 128 << 10
QUICK_HOLDERS = 1500  # objects and lists: 3 ms, of which facts.py searches for half
_MAX_DIGITS = 500  # of a number in a large body: reading takes time by the square of its digits


class Repeating(dict[str, Any]):
    """A JSON object that gives a key more than once, of which the last counts."""

    __slots__ = ("repeated",)
    repeated: frozenset[str]


Repeating.__name__ = "dict"  # by which JMESPath knows an object


def parse(body: bytes) -> dict[str, Any] | None:
    """Return the body's JSON object, or None if it is anything else or has too many values."""
    try:
        if len(body) <= LARGE_BYTES:
            document = _DECODER.decode(body.decode(json.detect_encoding(body), "surrogatepass"))
        elif is_too_complex(body):
            return None
        else:
            document = json.loads(
                body, parse_int=_integer, parse_float=_fraction, object_pairs_hook=_object
            )
    except (ValueError, RecursionError):  # not JSON, not text, 5,000 digits, 10,000 levels
        return None
    return document if isinstance(document, dict) else None


def is_quick(body: bytes) -> bool:
    """Return whether a body is read in a moment: one that is large, or may have many objects, is
    not read on the loop."""
    if len(body) > LARGE_BYTES:
        return False
    left = QUICK_HOLDERS
    for opening in (b"{", b"["):  # a photo has none: looking through it takes no time so
        at = body.find(opening)
        while at >= 0:
            left -= 1
            if left < 0:
                return False
            at = body.find(opening, at + 1)
    return True


def is_too_complex(body: bytes) -> bool:
    """Return whether `body` may have more values than MAX_VALUES: each begins with one of three
    characters, which also count within texts. Eight million take 1.5 s and 500 MB to read."""
    if len(body) <= MAX_VALUES:
        return False
    return len(body) - len(body.translate(None, b",[{")) > MAX_VALUES


def repeats(document: Any, names: Collection[str]) -> bool:
    """Return whether an object anywhere in `document` gives one of these keys more than once."""
    waiting = [document]
    while waiting:
        value = waiting.pop()
        if isinstance(value, Repeating) and not value.repeated.isdisjoint(names):
            return True
        if isinstance(value, dict | list):
            waiting.extend(value.values() if isinstance(value, dict) else value)
    return False


def without(document: dict[str, Any], names: Collection[str]) -> dict[str, Any]:
    """Return an object without these keys, which still knows the others that it gave twice."""
    kept = {name: value for name, value in document.items() if name not in names}
    if not isinstance(document, Repeating):
        return kept
    repeating = Repeating(kept)
    repeating.repeated = document.repeated
    return repeating


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make an object of its keys and values. Called for each: 1 to 2 µs for a body of Prembly's."""
    found = dict(pairs)
    if len(found) == len(pairs):
        return found
    repeating = Repeating(found)
    counts = Counter(name for name, _ in pairs)
    repeating.repeated = frozenset(name for name, count in counts.items() if count > 1)
    return repeating


def _integer(digits: str) -> int:
    """Read an integer of a large body. (Called for each, which lets other threads run too.)"""
    if len(digits) > _MAX_DIGITS:
        raise ValueError("too many digits")
    return int(digits)


def _fraction(digits: str) -> float:
    return float(digits)


_DECODER = json.JSONDecoder(object_pairs_hook=_object)
