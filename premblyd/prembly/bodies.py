"""A body as JSON, read within bounds, and the places in it where each field is found.

A right signature does not make a body harmless: Prembly's public key is in browsers, so anybody may
sign 16 MiB of anything.

Sources of the places: docs.prembly.com (webhooks; response codes and verification status;
transaction monitoring) and what public consumers of both Prembly and Identitypass read.
"""

import json
from collections import Counter
from collections.abc import Collection
from typing import Any, Literal

import orjson

from premblyd.ground.privacy import MAX_DEPTH, is_deep

MAX_VALUES = 250_000  # a hundred times those of Prembly's largest; 16 MiB can hold 8 million
LARGE_BYTES = 128 << 10
MAX_LEVELS = MAX_DEPTH  # readers of JSON give up at 256 (jq), 512 (PHP) or about 1,000 (Python)
QUICK_HOLDERS = 1500  # objects and lists: 3 ms, of which facts.py searches for half
_MAX_DIGITS = 500  # of a number in a large body: reading takes time by the square of its digits


class Repeating(dict[str, Any]):
    """A JSON object with a key that is there more than once; the last one counts."""

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


def embedded(body: bytes) -> bytes | None:
    """Return the body's own JSON on one line. None when it is none, or one at which a reader may
    fail: with NaN, half characters, endless numbers or thousands of levels, which
    orjson refuses itself, or many levels."""
    if is_too_complex(body):
        return None
    try:
        value = orjson.loads(body)
    except ValueError:
        return None
    if body.count(b"[") + body.count(b"{") > MAX_LEVELS and is_deep(value):
        return None
    # Within a text a line's end is written as \n: those that are left stand between values.
    return body.replace(b"\n", b" ").replace(b"\r", b" ")


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


FieldName = Literal[
    "response_code",
    "status",
    "detail",
    "verification_status",
    "reference",
    "user_ref",
    "session_id",
    "face_match",
    "face_confidence",
    "risk_level",
    "risk_score",
]


# What a body says in the places of all fields, by the paths to these; the body itself by "". What
# is null is left out.
ByPath = dict[str, Any]
_PATHS: dict[str, dict[str, str]] = {}  # by the path of an object, and by a name in it: its path


def by_path(document: dict[str, Any]) -> ByPath:
    """Return what a body says in all `Places`: it is walked through once for all fields."""
    found = {"": document}
    holders = [("", document)]
    for holder, value in holders:  # to which those are added that are found in it
        paths = _PATHS[holder]
        for name in paths.keys() & value.keys():
            inner = value[name]
            if inner is not None:
                path = paths[name]
                found[path] = inner
                if path in _PATHS and isinstance(inner, dict):
                    holders.append((path, inner))
    return found


class Places:
    """The places of a field: dotted paths into the body; the first with a value wins. JMESPath, in
    which operators write their own places, takes 50 µs more per webhook."""

    __slots__ = ("_takes_false", "paths")

    def __init__(self, *paths: str, takes_false: bool = False) -> None:
        """Skip what JMESPath calls false (null, false, "", [], {}); with `takes_false`, skip null
        alone, since false says something about this field."""
        self.paths = paths
        self._takes_false = takes_false
        for path in paths:
            rest = path
            while rest:
                holder, _, name = rest.rpartition(".")
                _PATHS.setdefault(holder, {})[name] = rest
                rest = holder

    def find(self, body: ByPath) -> Any:
        """Return what a body says, or None."""
        for path in self.paths:
            if path in body and ((value := body[path]) or self._takes_false or _is_zero(value)):
                return value
        return None

    def values(self, body: ByPath) -> list[Any]:
        """Return what stands in each of the places, but for null and what is not there."""
        return [body[path] for path in self.paths if path in body]


def _is_zero(value: Any) -> bool:
    """Return whether a value that Python calls false is a number: to JMESPath, zero is true."""
    return isinstance(value, int | float) and value is not False


def _at(paths: str, *, takes_false: bool = False) -> Places:
    return Places(*paths.split(), takes_false=takes_false)


FIELDS: dict[FieldName, Places] = {
    "response_code": _at(
        "response_code responseCode data.response_code data.responseCode verification.response_code"
    ),
    "status": _at("status data.status", takes_false=True),
    "detail": _at("detail message data.detail data.message"),
    "verification_status": _at(
        "verification.status data.verification.status verification_status verificationStatus"
        " data.verification_status data.data.verification.status"
    ),
    "reference": _at(
        "verification.reference data.verification.reference reference data.reference"
        " referenceId data.verification_response.reference"
    ),
    "user_ref": _at(
        "widget_info.user_ref data.widget_info.user_ref data.data.widget_info.user_ref"
        " user_info.user_ref user_ref data.user_ref customer_reference data.customer_reference"
    ),
    "session_id": _at(
        "session_id data.session_id data.widget_info.session_id"
        " data.data.widget_info.session_id widget_info.session_id"
    ),
    "face_match": _at(
        "face_data.Status face_data.status data.face_data.Status data.face_data.status"
        " data.data.face_data.Status data.data.face_data.status",
        takes_false=True,
    ),
    "face_confidence": _at(
        "face_data.confidence data.face_data.confidence data.biometric_results.average_confidence",
        takes_false=True,
    ),
    "risk_level": _at(
        "data.screening_result.risk_level screening_result.risk_level data.risk_level risk_level"
    ),
    "risk_score": _at(
        "data.screening_result.risk_score screening_result.risk_score data.risk_score risk_score",
        takes_false=True,
    ),
}
# Objects about a face. What they say of it must agree (see facts.py).
FACE_DATA = Places("face_data", "data.face_data", "data.data.face_data")
