"""JSON as it leaves premblyd: always valid by RFC 8259, whatever the value.

A webhook's body is read more leniently than that: NaN, Infinity and half characters (lone
surrogates) come in, and an expression makes infinite numbers of finite ones.
"""

import itertools
import json
import math
import re
from collections.abc import Iterator
from dataclasses import asdict
from functools import partial
from typing import Any

import orjson

PIECE_CHARS = 1 << 16  # 20 ms at worst
_HALVES = re.compile("[\ud800-\udbff][\udc00-\udfff]")


def dumps(value: Any) -> bytes:
    """Return `value`, which may have dataclasses, as compact JSON in UTF-8. NaN and infinite
    numbers become null, and half a character U+FFFD. Raise ValueError when it can't be written:
    nested too deeply, an integer of more than 4,300 digits, or no JSON value at all."""
    try:
        return orjson.dumps(value)  # does so with NaN by itself, in a tenth of json's time
    except TypeError:  # half a character, an integer of more than 64 bits, more than 254 levels
        return without_half_characters(text(value, separators=(",", ":"))).encode()


def text(value: Any, **options: Any) -> str:
    """Return `value` as JSON text, by json.dumps's `options`. NaN and infinite numbers become null;
    half characters stay, for the caller to escape.
    Raise ValueError as `dumps` does."""
    try:
        return _text(value, **options)
    except (RecursionError, TypeError) as error:
        raise ValueError(f"no JSON: {type(error).__name__}") from None


def _text(value: Any, **options: Any) -> str:
    try:
        return _strict(value, **options)
    except ValueError:  # NaN, infinite, or too many digits
        return _strict(_finite(value), **options)


_strict = partial(json.dumps, ensure_ascii=False, allow_nan=False, default=asdict)


def beginning(value: Any, max_chars: int) -> str:
    """Return the first `max_chars` characters of `value` as compact JSON, without looking at
    much more than those. Half characters stay. Raise ValueError as `dumps` does."""
    try:
        cut = _cut(value, [max_chars], max_chars)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    return text(cut, separators=(",", ":"))[:max_chars]


def weight(value: Any, limit: int) -> int:
    """Return how much `value` would be to write: 1 for each value and for each 64 characters.
    Stop beyond `limit`: where parts are shared, an expression's result may be without end."""
    total = 1
    waiting = [value]
    while waiting and total <= limit:
        value = waiting.pop()
        if isinstance(value, str):
            total += len(value) >> 6
        elif isinstance(value, list | dict):
            total += len(value)
            if total <= limit:
                waiting.extend(value)  # the keys of an object, too
                waiting.extend(value.values() if isinstance(value, dict) else ())
        elif isinstance(value, int):
            total += value.bit_length() >> 6  # writing it takes time by the square of its digits
    return total


def without_half_characters(written: str) -> str:
    """Return `written` with every half character replaced: UTF-8 can't hold it."""
    if written.isascii():
        return written
    try:
        written.encode()
    except UnicodeEncodeError:
        return "".join(
            piece.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
            for piece in pieces(written)
        )
    return written


def pieces(written: str) -> Iterator[str]:
    """Yield `written` in pieces, none of which ends between the two halves of a character. As a
    whole, three million halves would keep every other thread waiting for 0.8 s."""
    start = 0
    while start < len(written):
        end = start + PIECE_CHARS
        if _HALVES.fullmatch(written, end - 1, end + 1):
            end += 1
        yield written[start:end]
        start = end


def _finite(value: Any) -> Any:
    match value:
        case dict():
            return {name: _finite(inner) for name, inner in value.items()}
        case list() | tuple():
            return [_finite(inner) for inner in value]
        case float() if not math.isfinite(value):
            return None
        case _:
            return value


def _cut(value: Any, left: list[int], max_chars: int) -> Any:
    """Copy as much of `value` as its first `max_chars` characters may show: each value takes at
    least one character, and `left` has the number of characters that are left."""
    left[0] -= 1
    match value:
        case str():
            return value[:max_chars]
        case dict():
            pairs = itertools.takewhile(lambda _: left[0] > 0, value.items())
            return {name[:max_chars]: _cut(inner, left, max_chars) for name, inner in pairs}
        case list():
            items = itertools.takewhile(lambda _: left[0] > 0, value)
            return [_cut(inner, left, max_chars) for inner in items]
        case _:
            return value
