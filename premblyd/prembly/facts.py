"""A fact that is told twice and differently is no fact: what a body states, in all places, of
whether a person is verified.

A body is called verified only when every place that speaks of it fits. What does not is its doubt.
"""

from collections.abc import Mapping
from enum import StrEnum
from functools import lru_cache
from typing import Any

from premblyd.expressions import Expression
from premblyd.prembly import bodies, events
from premblyd.prembly.places import FACE_DATA, FIELDS, FieldName, Places


class Doubt(StrEnum):
    """What does not fit a VERIFIED, in the order in which `doubt` has them."""

    STATUS = "status"  # another status word, or a `status` or `success` that says no
    CODE = "code"  # a response code other than 00
    FACE = "face"  # a face that does not match
    TYPE = "type"  # an event name that Prembly does not document
    KEY = "key"  # a key on the way to one of these is given twice


_PLACES: dict[FieldName, Places] = {
    "verification_status": FIELDS["verification_status"],
    "response_code": FIELDS["response_code"],
    "status": Places("status", "data.status", "success", "data.success"),
    "face_match": Places(
        *(f"{place}.{name}" for place in FACE_DATA.paths for name in ("Status", "response_code")),
        *(f"{place}.status" for place in FACE_DATA.paths),
    ),
}
_VERIFIED = "verified"
_NO_SUCCESS = ("false", "failed", "error")
_MATCHES = ("1", "true", "yes", "match", "matched", "success", "successful", "verified", "00")
_MAX_WORD_CHARS = 32


class Facts:
    """What a body states of whether a person is verified. `placed`: the values of the fields whose
    place an operator says, which replace all places of that fact; `overrides`: how he says it."""

    __slots__ = ("_document", "_overrides", "_placed")

    def __init__(
        self,
        document: dict[str, Any],
        placed: Mapping[FieldName, Any],
        overrides: Mapping[FieldName, Expression],
    ) -> None:
        self._document = document
        self._placed = placed
        self._overrides = overrides

    def words(self) -> list[Any]:
        """Return the status words that speak, in the order of their places."""
        return [value for value in self._values("verification_status") if _speaks(value)]

    def face_match(self) -> bool | None:
        """Return whether the face matches: true when each place that speaks is a clear yes, false
        when one says anything else, None when none speaks."""
        if "face_match" in self._placed:
            return says_match(self._placed["face_match"])
        said = [found for place in FACE_DATA.values(self._document) for found in _faces(place)]
        return None if not any(found is not None for found in said) else False not in said

    def doubts(self) -> str:
        """Return what does not fit a VERIFIED in this body, as `doubt` has it; empty when all of it
        fits."""
        says_no = any(map(is_no_success, self._values("status")))
        found = {
            Doubt.STATUS: says_no or any(plain_word(word) != _VERIFIED for word in self.words()),
            Doubt.CODE: any(map(is_other_code, self._values("response_code"))),
            Doubt.FACE: self.face_match() is False,
            Doubt.TYPE: events.has_other_name(self._document),
            Doubt.KEY: self._repeats_a_key(),
        }
        return ",".join(doubt for doubt, is_there in found.items() if is_there)

    def _values(self, name: FieldName) -> list[Any]:
        if name in self._placed:
            return [self._placed[name]]
        return _PLACES[name].values(self._document)

    def _repeats_a_key(self) -> bool:
        """Return whether a key is given twice on the way to a fact. Where an operator says where it
        is found, his expression's names count instead, in any depth."""
        names = {
            name
            for field in _PLACES
            if field in self._overrides
            for name in self._overrides[field].names()
        }
        if names and bodies.repeats(self._document, names):
            return True
        return _repeats(self._document, _tree(tuple(set(_PLACES) - set(self._overrides))))


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
    return value is False or (isinstance(value, str) and value.strip().lower() in _NO_SUCCESS)


def says_match(value: Any) -> bool | None:
    """Return whether a value in the place of a face's result is a clear yes; None: it is silent."""
    if value is None or value in ("", {}):
        return None
    if isinstance(value, str):
        return value.strip().lower() in _MATCHES
    return isinstance(value, int | float) and value == 1


def says_verified(word: Any) -> bool:
    """Return whether a status word says VERIFIED."""
    return plain_word(word) == _VERIFIED


def _speaks(word: Any) -> bool:
    """Return whether a status word speaks: `true` acknowledges the request, and says nothing of the
    person."""
    return word is not None and word is not True and word != ""


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


_Tree = dict[str, "_Tree"]


@lru_cache
def _tree(fields: tuple[FieldName, ...]) -> _Tree:
    """Return the keys on the way to these facts and to an event's name, nested as in a body."""
    root: _Tree = {}
    for path in (*events.NAMES.paths, *(path for field in fields for path in _PLACES[field].paths)):
        place = root
        for key in path.split("."):
            place = place.setdefault(key, {})
    return root


def _repeats(value: Any, tree: _Tree) -> bool:
    if not isinstance(value, dict):
        return False
    if isinstance(value, bodies.Repeating) and not value.repeated.isdisjoint(tree):
        return True
    return any(_repeats(value.get(key), inner) for key, inner in tree.items() if inner)
