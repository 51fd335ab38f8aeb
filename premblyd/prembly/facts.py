"""A fact that is stated twice and differently is no fact: what a body states, in all places, of
whether a person is verified.

A body is called verified only when every place that speaks of it fits. What does not is its doubt.
Only the places in `FIELDS` can say yes. A no counts wherever it may plausibly stand: all of the
body is searched for it, by names in any spelling.
"""

import re
from collections.abc import Callable, Collection, Mapping
from enum import StrEnum
from typing import Any, NamedTuple

from premblyd.ground.expressions import Expression
from premblyd.prembly import bodies, events
from premblyd.prembly.bodies import FACE_DATA, FIELDS, ByPath, FieldName


class Doubt(StrEnum):
    """What does not fit a VERIFIED, in the order in which `doubt` has them."""

    STATUS = "status"  # another status word, or a `status`, `success` or the like that says no
    CODE = "code"  # a response code other than 00
    FACE = "face"  # a face that does not match
    TYPE = "type"  # an event name that Prembly does not document
    KEY = "key"  # a key on the way to one of these is given twice


_VERIFIED = "verified"
_NO_SUCCESS = frozenset(
    "false failed fail error no unsuccessful rejected declined denied not-verified notverified"
    " unverified pending mismatch mismatched unmatched no-match not-match not-matched closed"
    " expired suspended cancelled abandoned invalid incomplete processing manual-review".split()
)
_CLEAR_NO = _NO_SUCCESS | {"n", "none", "negative"}
_NOT_POSITIVE = re.compile(r"(?!00\Z)(0+\.?0*|\.0+)|-\.?\d.*")  # as text; 00 is a code
_MATCHES = ("1", "true", "yes", "match", "matched", "success", "successful", "verified", "00")
_MAX_WORD_CHARS = 32


class Facts:
    """What a body states of whether a person is verified. `placed`: the values of the fields whose
    place an operator says, which replace all places of that fact; `overrides`: how he says it."""

    __slots__ = ("_body", "_objections", "_overrides", "face_match", "says_verified", "words")

    def __init__(
        self,
        body: ByPath,
        placed: Mapping[FieldName, Any],
        overrides: Mapping[FieldName, Expression],
        *,
        is_answer: bool = False,
    ) -> None:
        """A no is searched for where anything says yes, and in all of an answer."""
        self._body = body
        self._overrides = overrides
        words = FIELDS["verification_status"].values(body)
        faces = [said for face in FACE_DATA.values(body) for said in _faces(face)]
        if placed:
            words = [placed["verification_status"]] if "verification_status" in placed else words
            faces = [says_match(placed["face_match"])] if "face_match" in placed else faces
        # The status words that speak, in the order of their places, and whether one says VERIFIED,
        # whatever else is said.
        self.words = [word for word in words if _speaks(word)]
        self.says_verified = _VERIFIED in map(plain_word, self.words)
        # True when each place that speaks is a clear yes, false when anything says no, None when
        # none speaks.
        is_match = (True in faces or None) if faces else None
        self.face_match: bool | None = False if False in faces else is_match
        self._objections: set[Doubt] = set()
        if self.says_verified or self.face_match or is_answer:
            self._objections = _objections(body[""], placed)
            if self._objections and Doubt.FACE in self._objections:
                self.face_match = False

    def doubts(self) -> set[Doubt]:
        """Return what does not fit a VERIFIED in this body."""
        found = set(self._objections)
        if self.face_match is False:
            found.add(Doubt.FACE)
        if events.has_other_name(self._body):
            found.add(Doubt.TYPE)
        if self._overrides and _repeats_where_placed(self._body[""], self._overrides):
            found.add(Doubt.KEY)
        return found


def in_words(doubts: Collection[Doubt]) -> str:
    """Return doubts as `doubt` has them; empty when there are none."""
    return ",".join(doubt for doubt in Doubt if doubt in doubts) if doubts else ""


def _repeats_where_placed(
    document: dict[str, Any], overrides: Mapping[FieldName, Expression]
) -> bool:
    """Return whether a key is given twice that stands in an expression by which an operator says
    where a fact is found: in any depth."""
    names = {name for field in _PLACED if field in overrides for name in overrides[field].names()}
    return bool(names) and bodies.repeats(document, names)


def plain_word(value: Any) -> str | None:
    """Return a status word as it is compared: the whole of it, in whatever case, with a hyphen for
    `_` and space; None when it is too long for one, or no text."""
    # isascii: with a dotless i, verified would fold to VERIFIED.
    if not isinstance(value, str) or len(value) > _MAX_WORD_CHARS or not value.isascii():
        return None
    return value.lower().replace("_", "-").replace(" ", "-")


def is_other_code(value: Any) -> bool:
    """Return whether a value in the place of a code says anything but 00."""
    if isinstance(value, str):
        return value.strip() not in ("", "00")
    return value is not None and (isinstance(value, bool | float) or value != 0)


def is_no_success(value: Any) -> bool:
    """Return whether a `status` or `success` says no."""
    if isinstance(value, str):
        return plain_word(value.strip()) in _NO_SUCCESS
    return value is False


def says_match(value: Any) -> bool | None:
    """Return whether a value in the place of a face's result is a clear yes; None: it is silent."""
    if isinstance(value, str):
        return value.strip().lower() in _MATCHES if value else None
    if value is None or value == {}:
        return None
    return isinstance(value, int | float) and value == 1


def _speaks(word: Any) -> bool:
    """Return whether a status word speaks: `true` acknowledges the request, and says nothing of the
    person."""
    return word is not None and word is not True and word != ""


def _is_other_word(value: Any) -> bool:
    return plain_word(value) != _VERIFIED and _speaks(value)


def _is_no_match(value: Any) -> bool:
    return says_match(value) is False


def _is_clear_no(value: Any) -> bool:
    """Return whether a value that may be anything, such as a score or a photo, says no."""
    if isinstance(value, str):
        word = plain_word(value.strip()) or ""
        return word in _CLEAR_NO or _NOT_POSITIVE.fullmatch(word) is not None
    return isinstance(value, int | float) and value <= 0


def _is_clear_yes(value: Any) -> bool:
    return says_match(value) is True


def _faces(face_data: Any) -> tuple[bool | None, ...]:
    """Return what an object about a face says in each of its places, or what stands for it."""
    if not isinstance(face_data, dict):
        return (says_match(face_data),)
    code = face_data.get("response_code")
    is_silent = code is None or (isinstance(code, str) and not code.strip())
    return (
        says_match(face_data.get("Status")),
        says_match(face_data.get("status")),
        None if is_silent else not is_other_code(code),
    )


# --- A no, wherever it stands ---------------------------------------------------------------


class _Name(NamedTuple):
    """What stands under a key: of which fact it may say a no, how it says it, and which names count
    within it, if it is an object or a list."""

    field: FieldName | None  # None: it leads to several
    doubt: Doubt
    objects: Callable[[Any], bool]
    within: "_Place"


_Names = dict[str, _Name]
_MAX_KEYS, _MAX_KEYS_CHARS, _MAX_KEPT = 64, 1000, 256  # 4 MB, whatever anybody sends


class _Place(dict[tuple[str, ...], _Names]):
    """Which names count in an object, by the keys that lead to it: has by all keys of an object
    those that count. Prembly's objects are alike, so some are kept: saves half of the walk."""

    def __init__(self) -> None:
        self.names: _Names = {}  # by keys as they are compared

    def __missing__(self, keys: tuple[str, ...]) -> _Names:
        found = {key: name for key in keys if (name := self.name_of(key))}
        if len(keys) <= _MAX_KEYS and sum(map(len, keys)) <= _MAX_KEYS_CHARS:
            if len(self) >= _MAX_KEPT:
                self.clear()
            self[keys] = found
        return found

    def name_of(self, key: str) -> _Name | None:
        """Return what a key means here, in whatever spelling: `responseCode`, `Response_Code` and
        `response-code` are the same. Of one with a line's end, what stands before that counts."""
        plain = key.replace("_", "").replace("-", "").replace(" ", "").lower()
        return self.names.get(plain.partition("\n")[0])


def _names(
    words: str,
    field: FieldName | None,
    doubt: Doubt,
    objects: Callable[[Any], bool],
    within: _Place | None = None,
) -> _Names:
    return dict.fromkeys(
        words.split(), _Name(field, doubt, objects, _ANYWHERE if within is None else within)
    )


# The names that count in an object, by the keys that lead to it. In what speaks of the verification
# as the root does; in its `verification`, whose `status` is the person's; in what is about a face;
# and in all else: a document, an address, another check, whose `status` is its own.
_IN_ENVELOPE, _IN_VERIFICATION, _IN_FACE, _ANYWHERE = _Place(), _Place(), _Place(), _Place()

_ANYWHERE.names |= _names(
    "facedata facematch facematched facestatus faceresult facematchstatus facematchresult"
    " faceverification facecomparison isfacematch isfacematched biometricresult biometricresults"
    " faceverified selfiematch",
    *("face_match", Doubt.FACE, _is_clear_no, _IN_FACE),
)
_IN_FACE.names |= {
    **_ANYWHERE.names,
    **_names("responsecode", "face_match", Doubt.FACE, is_other_code),
    **_names("status", "face_match", Doubt.FACE, _is_no_match),
    **_names(
        "success match matched ismatch ismatched verified isverified outcome verdict decision"
        " verificationstatus passed ispassed approved isapproved"
        " islive liveness",
        *("face_match", Doubt.FACE, _is_clear_no),
    ),
    **_names("rejected isrejected", "face_match", Doubt.FACE, _is_clear_yes),
    **_names("data response result", "face_match", Doubt.FACE, _is_clear_no, _IN_FACE),
}
_IN_ENVELOPE.names |= {
    **_ANYWHERE.names,
    **_names("responsecode", "response_code", Doubt.CODE, is_other_code),
    **_names("verificationstatus", "verification_status", Doubt.STATUS, _is_other_word),
    **_names("status success state finalstatus kycstatus", "status", Doubt.STATUS, is_no_success),
    **_names(
        "verified isverified match matched ismatch ismatched issuccess issuccessful outcome"
        " verdict decision verificationoutcome passed ispassed"
        " approved isapproved",
        *("status", Doubt.STATUS, _is_clear_no),
    ),
    **_names("rejected isrejected", "status", Doubt.STATUS, _is_clear_yes),
    **_names("islive liveness", "face_match", Doubt.FACE, _is_clear_no),
    **_names(
        "data response result results payload session verificationresponse verificationresult"
        " verificationdata verificationresponsedata",
        *(None, Doubt.STATUS, is_no_success, _IN_ENVELOPE),
    ),
    **_names("verification", None, Doubt.STATUS, is_no_success, _IN_VERIFICATION),
    **_names("event", None, Doubt.STATUS, lambda _: False),  # see Facts, and not twice
}
_IN_VERIFICATION.names |= {
    **_IN_ENVELOPE.names,
    **_names("status", "verification_status", Doubt.STATUS, _is_other_word),
}
_PLACED: dict[FieldName, tuple[Doubt, Callable[[Any], bool]]] = {
    "verification_status": (Doubt.STATUS, _is_other_word),
    "status": (Doubt.STATUS, is_no_success),
    "response_code": (Doubt.CODE, is_other_code),
    "face_match": (Doubt.FACE, _is_no_match),
}


def _objections(document: dict[str, Any], placed: Mapping[FieldName, Any]) -> set[Doubt]:
    """Return what anything in a body says no to, and whether a key that may say so is given twice.
    Of the facts that are `placed`, only their values speak. A body has as many values as `bodies`
    reads."""
    found = set()
    for field, value in placed.items():
        if field in _PLACED and _PLACED[field][1](value):
            found.add(_PLACED[field][0])
    waiting: list[tuple[Any, _Place]] = [(document, _IN_ENVELOPE)]
    while waiting:
        value, place = waiting.pop()
        if type(value) is not dict:
            if isinstance(value, list):
                waiting += [(item, place) for item in value if type(item) in _HOLDERS and item]
                continue
            if _repeats_one(value, place, placed):
                found.add(Doubt.KEY)
        named = place[tuple(value)]
        for key, name in named.items():
            inner = value[key]
            if inner is not None and name.field not in placed and name.objects(inner):
                found.add(name.doubt)
        if _HOLDERS.isdisjoint(map(type, value.values())):  # as in most objects
            continue
        for key, inner in value.items():
            if type(inner) in _HOLDERS and inner:
                waiting.append((inner, named[key].within if key in named else _ANYWHERE))
    return found


def _repeats_one(value: bodies.Repeating, place: _Place, placed: Collection[FieldName]) -> bool:
    """Return whether an object gives a key twice that counts here, but for those of facts that are
    `placed`. (It may know of one that it has no more: see bodies.without.)"""
    repeated = [name for key in value.repeated if (name := place.name_of(key))]
    return any(name.field is None or name.field not in placed for name in repeated)


_HOLDERS = frozenset((dict, list, bodies.Repeating))
