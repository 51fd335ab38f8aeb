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


_FACE_NAMES = ("Status", "status", "response_code")
_PLACES: dict[FieldName, Places] = {
    "verification_status": FIELDS["verification_status"],
    "response_code": FIELDS["response_code"],
    "status": Places("status", "data.status", "success", "data.success"),
    "face_match": FACE_DATA,
}
_VERIFIED = "verified"
_NO_SUCCESS = (
    *("false", "failed", "error", "no", "unsuccessful", "rejected"),
    *("not-verified", "pending"),
)
_MATCHES = ("1", "true", "yes", "match", "matched", "success", "successful", "verified", "00")
_MAX_WORD_CHARS = 32


class Facts:
    """What a body states of whether a person is verified. `placed`: the values of the fields whose
    place an operator says, which replace all places of that fact; `overrides`: how he says it."""

    __slots__ = (
        *("_document", "_found", "_overrides", "_plain_words", "_repeats"),
        *("face_match", "says_verified", "words"),
    )

    def __init__(
        self,
        document: dict[str, Any],
        placed: Mapping[FieldName, Any],
        overrides: Mapping[FieldName, Expression],
    ) -> None:
        self._document = document
        self._overrides = overrides
        self._found: _Found = {name: [] for name in _PLACES}
        own = tuple(name for name in _PLACES if name not in placed) if placed else _ALL
        self._repeats = _gather(document, _tree(own), self._found)
        for name in _PLACES.keys() & placed.keys():
            self._found[name] = [placed[name]]
        # The status words that speak, in the order of their places, and whether one says VERIFIED,
        # whatever else is said.
        words = self._found["verification_status"]
        if len(words) > 1:
            words = _PLACES["verification_status"].values(document)
        self.words = [word for word in words if _speaks(word)]
        self._plain_words = [plain_word(word) for word in self.words]
        self.says_verified = _VERIFIED in self._plain_words
        # True when each place that speaks is a clear yes, false when one says anything else, None
        # when none speaks.
        self.face_match: bool | None = None
        for face in self._found["face_match"]:
            for is_match in (says_match(face),) if "face_match" in placed else _faces(face):
                if is_match is not None:
                    self.face_match = is_match and self.face_match is not False

    def doubts(self) -> str:
        """Return what does not fit a VERIFIED in this body, as `doubt` has it; empty when all of it
        fits."""
        found = []
        if any(word != _VERIFIED for word in self._plain_words) or any(
            map(is_no_success, self._found["status"])
        ):
            found.append(Doubt.STATUS)
        if any(map(is_other_code, self._found["response_code"])):
            found.append(Doubt.CODE)
        if self.face_match is False:
            found.append(Doubt.FACE)
        if events.has_other_name(self._document):
            found.append(Doubt.TYPE)
        if self._repeats or (self._overrides and self._repeats_where_placed()):
            found.append(Doubt.KEY)
        return ",".join(found)

    def _repeats_where_placed(self) -> bool:
        """Return whether a key is given twice that stands in an expression by which an operator
        says where a fact is found: in any depth."""
        placed = (self._overrides[name] for name in _PLACES if name in self._overrides)
        names = {name for expression in placed for name in expression.names()}
        return bool(names) and bodies.repeats(self._document, names)


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
    if value is None or value in ("", {}):
        return None
    if isinstance(value, str):
        return value.strip().lower() in _MATCHES
    return isinstance(value, int | float) and value == 1


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


# What stands under a key: of which fact that is a place, and the keys within.
_Tree = dict[str, tuple[FieldName | None, "_Tree"]]
_Found = dict[FieldName, list[Any]]
_ALL = tuple(_PLACES)


@lru_cache
def _tree(fields: tuple[FieldName, ...]) -> _Tree:
    """Return the keys on the way to these facts and to an event's name, nested as in a body."""
    root: _Tree = {}
    for path in events.NAMES.paths:
        _plant(root, path, None)
    for name in fields:
        for path in _PLACES[name].paths:
            _plant(root, path, name)
    for place in FACE_DATA.paths if "face_match" in fields else ():
        for name_in_face in _FACE_NAMES:
            _plant(root, f"{place}.{name_in_face}", None)
    return root


def _plant(tree: _Tree, path: str, field: FieldName | None) -> None:
    *parents, last = path.split(".")
    for key in parents:
        tree = tree.setdefault(key, (None, {}))[1]
    tree[last] = (field, tree[last][1] if last in tree else {})


def _gather(value: dict[str, Any], tree: _Tree, found: _Found) -> bool:
    """Put what stands in the places of facts into `found`, in one walk (20 lookups one by one take
    three times as long). Return whether a key on the way is given twice."""
    repeats = isinstance(value, bodies.Repeating) and not value.repeated.isdisjoint(tree)
    for key, (field, inner_tree) in tree.items():
        if key in value and (inner := value[key]) is not None:
            if field:
                found[field].append(inner)
            if inner_tree and isinstance(inner, dict):
                repeats |= _gather(inner, inner_tree, found)
    return repeats
