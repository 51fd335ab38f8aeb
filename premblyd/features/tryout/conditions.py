"""Checks a `when` or `select` for mistakes that are none to JMESPath itself.

In JMESPath things of different types are never equal, and to compare them is no error:
`face_match != 'false'` compares true and false with a text, so every face matches. Here it is
known which values each name can have, so such a comparison is refused before an event comes.
"""

import difflib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from premblyd.features.tryout.typenames import can_be, meant_by
from premblyd.ground.expressions import Expression, ExpressionError, outer_nodes
from premblyd.prembly import events
from premblyd.prembly.payload import WHEN_NAMES, Kind, Outcome
from premblyd.prembly.signature import Scheme

TEXT, NUMBER, BOOLEAN, NULL, OBJECT, LIST = "text", "number", "boolean", "null", "object", "list"
# Of a literal, which is JSON.
_TYPES = {
    type(None): NULL,
    bool: BOOLEAN,
    int: NUMBER,
    float: NUMBER,
    str: TEXT,
    dict: OBJECT,
    list: LIST,
}
Words = Mapping[str, tuple[str, ...]]
_OPERATORS = {"eq": "==", "ne": "!=", "lt": "<", "gt": ">", "lte": "<=", "gte": ">="}
_PARTS = ("contains", "starts_with", "ends_with")


@dataclass(frozen=True, slots=True)
class Values:
    """What something can be: its types, and its words where it can be nothing else."""

    types: frozenset[str]
    words: tuple[str, ...] = ()


def _one_of(*types: str, words: tuple[str, ...] = ()) -> Values:
    return Values(frozenset(types), words)


_NAMES = {
    **dict.fromkeys(WHEN_NAMES, _one_of(TEXT, NULL)),
    **dict.fromkeys(("endpoint", "verified_by", "type"), _one_of(TEXT)),
    **dict.fromkeys(("risk_score", "face_confidence"), _one_of(NUMBER, NULL)),
    "kind": _one_of(TEXT, words=tuple(Kind)),
    "outcome": _one_of(TEXT, words=tuple(Outcome)),
    "face_match": _one_of(BOOLEAN, NULL),
    "body": _one_of(OBJECT, NULL),
}
_RESULTS = {
    **dict.fromkeys(("length", "abs", "ceil", "floor", "sum"), _one_of(NUMBER)),
    **dict.fromkeys(_PARTS, _one_of(BOOLEAN)),
    **dict.fromkeys(("to_string", "join", "type"), _one_of(TEXT)),
    "to_number": _one_of(NUMBER, NULL),
}


def check(expression: Expression, words: Words | None = None) -> None:
    """Raise ExpressionError when a comparison has the same answer for every event, or holds for
    the opposite of what it names. `words` are what the configuration alone knows: what
    `endpoint` and `verified_by` can be. With them, a type that may be misspelt is refused too."""
    for node in outer_nodes(expression.tree):
        match node["type"], node["children"]:
            case "comparator", [left, right]:
                _check_comparison(node["value"], left, right, words or {})
            case "function_expression", [first, second] if node["value"] == "contains":
                _check_part("contains", first, second)
                for item in _items(first):
                    _check_comparison("eq", second, item, words or {})
            case "function_expression", [first, second] if node["value"] in _PARTS:
                _check_part(node["value"], first, second)
            case "and_expression", _:
                _check_verified(node)
            case "or_expression", [{"type": "comparator"} as left, {"type": "literal"} as right]:
                _check_alternative(left, right)


def _check_comparison(operator: str, left: Any, right: Any, words: Words) -> None:
    named, other = (left, right) if left["type"] != "literal" else (right, left)
    values, others = _values(named, words), _values(other, words)
    if named == {"type": "field", "value": "type", "children": []} and others is not None:
        _check_types(operator, left, right, others.words, is_doubtful=bool(words))
    if named["type"] == "literal" or values is None or others is None:
        return
    if operator in ("eq", "ne"):
        fits = bool(values.types & others.types) and _share_words(named, values, others)
    else:
        fits = bool(values.types & others.types & {TEXT, NUMBER})
    if fits:
        return
    text = f"{_spell(left)} {_OPERATORS[operator]} {_spell(right)}"
    always = "always" if operator == "ne" else "never"
    if named.get("value") == "verified_by" and others.words and not values.words:
        key = f"{Scheme.HMAC_SHA256}:{others.words[0]}"
        raise ExpressionError(f"{text} is {always} true: a key has its scheme before it, '{key}'")
    raise ExpressionError(
        f"{text} is {always} true: {_spell(named)} is {_describe(values)}{_advise(values, other)}"
    )


def _check_types(
    operator: str, left: Any, right: Any, names: tuple[str, ...], *, is_doubtful: bool
) -> None:
    """Refuse to compare `type` with a name that no event has; with `is_doubtful`, also with one
    that is nearly a documented one."""
    for name in names if operator in ("eq", "ne") else ():
        meant = meant_by(name)
        advice = f"; did you mean '{meant}'?" if meant else ""
        text = f"{_spell(left)} {_OPERATORS[operator]} {_spell(right)}"
        if not can_be(name):
            always = "always" if operator == "ne" else "never"
            raise ExpressionError(f"{text} is {always} true: no event has such a type{advice}")
        if meant and is_doubtful:
            raise ExpressionError(f"{text}: Prembly documents no type '{name}'{advice}")


def _share_words(named: Any, values: Values, others: Values) -> bool:
    if named.get("value") == "verified_by" and not values.words:
        schemes = tuple(f"{scheme}:" for scheme in Scheme)
        return all(word.startswith((*schemes, events.STORED_BY)) for word in others.words)
    if not values.words or not others.words or TEXT not in values.types & others.types:
        return True
    return not set(values.words).isdisjoint(others.words)


def _check_part(function: str, whole: Any, part: Any) -> None:
    """Refuse to look for a part of a word: 'verified' is in 'not_verified'."""
    values = _values(whole, {}) if whole["type"] == "field" else None
    if values is None:
        return
    text = f"{function}({_spell(whole)}, {_spell(part)})"
    if TEXT not in values.types:
        raise ExpressionError(f"{text} always fails: {_spell(whole)} is {_describe(values)}")
    word = part.get("value") if part["type"] == "literal" else None
    if isinstance(word, str) and values.words:
        found = [possible for possible in values.words if word in possible]
        others = [possible for possible in found if possible != word]
        if word in values.words and others and function != "starts_with":
            raise ExpressionError(
                f"{text} is true for '{others[0]}' too; write {_spell(whole)} == {_spell(part)}"
            )
        if not found:
            raise ExpressionError(
                f"{text} is never true: {_spell(whole)} is {_describe(values)}"
                f"{_advise(values, part)}"
            )


def _check_alternative(comparison: Any, literal: Any) -> None:
    if isinstance(literal["value"], str) and literal["value"]:
        left, _ = comparison["children"]
        operator = _OPERATORS[comparison["value"]]
        raise ExpressionError(
            f"… || {_spell(literal)} is always true;"
            f" write … || {_spell(left)} {operator} {_spell(literal)}"
        )


def _check_verified(node: Any) -> None:
    """Refuse to want `verified` together with what makes an event's outcome unknown."""
    wanted = dict(_equalities(node))
    if wanted.get("outcome") != "verified":
        return
    for name, why in _NEVER_VERIFIED.items():
        literal = wanted.get(name)
        if literal is False or (isinstance(literal, str) and literal not in ("", "00")):
            spelt = _spell({"type": "literal", "value": literal})
            raise ExpressionError(
                f"outcome == 'verified' && {name} == {spelt} is never true: {why}, so the outcome"
                f" is unknown; write verification_status == 'VERIFIED' && {name} == {spelt} for"
                " what Prembly sent"
            )


def _equalities(node: Any) -> Iterator[tuple[str, Any]]:
    """Yield the names that must all equal a literal where this node is true."""
    match node["type"], node["children"]:
        case "and_expression", [left, right]:
            yield from _equalities(left)
            yield from _equalities(right)
        case "comparator", [first, second] if node["value"] == "eq":
            for named, other in ((first, second), (second, first)):
                if named["type"] == "field" and other["type"] == "literal":
                    yield str(named["value"]), other["value"]


_NEVER_VERIFIED = {
    "face_match": "a face that does not match verifies nobody",
    "response_code": "another code than 00 verifies nobody",
    "doubt": "a body with a doubt verifies nobody",
}


def _items(node: Any) -> list[Any]:
    """Return the items of a list that is spelled out, as nodes."""
    if node["type"] == "literal" and isinstance(node["value"], list):
        return [{"type": "literal", "value": item, "children": []} for item in node["value"]]
    children: list[Any] = node["children"] if node["type"] == "multi_select_list" else []
    return children


def _values(node: Any, words: Words) -> Values | None:
    """Return what `node` can be; None where that is not known."""
    match node["type"]:
        case "field" if node["value"] in _NAMES:
            known = _NAMES[node["value"]]
            return Values(known.types, words.get(node["value"], known.words))
        case "function_expression":
            return _RESULTS.get(node["value"])
        case "literal":
            value = node["value"]
            return Values(
                frozenset({_TYPES[type(value)]}), (value,) if isinstance(value, str) else ()
            )
        case "comparator" | "not_expression":
            return _one_of(BOOLEAN, NULL)
        case _:
            return None


def _spell(node: Any) -> str:
    """Return how an operator writes `node`."""
    match node["type"]:
        case "literal" if isinstance(node["value"], str):
            return f"'{node['value']}'"
        case "literal":
            return f"`{json.dumps(node['value'])}`"
        case "field":
            return str(node["value"])
        case "function_expression":
            return f"{node['value']}(…)"
        case _:
            return "(…)"


def _describe(values: Values) -> str:
    if values.words:
        return "one of " + ", ".join(f"'{word}'" for word in values.words)
    if BOOLEAN in values.types:
        return "`true`, `false` or `null`" if NULL in values.types else "`true` or `false`"
    kind = {TEXT: "text", NUMBER: "a number", OBJECT: "an object"}
    named = [words for name, words in kind.items() if name in values.types]
    return " or ".join([*named, *(["`null`"] if NULL in values.types else [])])


def _advise(values: Values, other: Any) -> str:
    """Return how the other side is meant to be written, where that can be told."""
    if other["type"] != "literal" or isinstance(other["value"], dict | list):
        return ""
    literal = other["value"]
    text = literal if isinstance(literal, str) else json.dumps(literal)
    if values.words:
        word = text.lower().replace("-", "_").replace(" ", "_")
        close = difflib.get_close_matches(word, values.words, n=1)
        return f"; write '{close[0]}'" if close else ""
    if TEXT in values.types:
        if isinstance(literal, int) and not isinstance(literal, bool):
            text = text.zfill(2)  # a response code
        return "" if isinstance(literal, str) or literal is None else f"; write '{text}'"
    if BOOLEAN in values.types and text.lower() in ("true", "false", "null"):
        return f"; write `{text.lower()}`"
    if NUMBER in values.types and text.replace(".", "", 1).isdecimal():
        return f"; write `{text}`"
    return ""
