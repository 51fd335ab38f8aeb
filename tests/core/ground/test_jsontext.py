"""What leaves as JSON is JSON by RFC 8259, whatever the value."""

import json
import math
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from premblyd.ground import jsontext
from tests.support.rows import for_each

odd = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats()
    | st.text(st.characters(exclude_categories=())),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)  # fmt: skip


def strict(text: bytes | str) -> Any:
    """Read as RFC 8259 says: neither NaN nor Infinity, and UTF-8."""

    def refuse(constant: str) -> None:
        raise ValueError(constant)

    return json.loads(text.encode() if isinstance(text, str) else text, parse_constant=refuse)


@settings(max_examples=20)
@given(odd)
def test_any_value_is_written_as_valid_json(value: Any) -> None:
    written = jsontext.dumps(value)
    written.decode()  # no half characters
    assert strict(written) == strict(
        jsontext.without_half_characters(jsontext.text(value, indent=2))
    )


def test_halves_of_characters_are_replaced_in_short_pieces_that_part_no_pair() -> None:
    """Each piece keeps the interpreter to itself, and so all other threads waiting."""
    for shift in range(2):
        halves = "\ud800" * (jsontext.PIECE_CHARS - shift)
        written = halves + "\ud83d\ude00" + "\udc00" + halves
        lone = "\ufffd" * len(halves)
        assert jsontext.without_half_characters(written) == lone + "\U0001f600\ufffd" + lone
        assert max(map(len, jsontext.pieces(written))) <= jsontext.PIECE_CHARS + 1


@settings(max_examples=20)
@given(odd, st.integers(1, 40))
def test_the_beginning_is_what_the_whole_begins_with(value: Any, length: int) -> None:
    whole = jsontext.text(value, separators=(",", ":"))
    assert jsontext.beginning(value, length) == whole[:length]


@for_each(
    ("value", "written"),
    [
        ([math.nan, math.inf, -math.inf, {"a": math.nan}], b'[null,null,null,{"a":null}]'),
        ([10**30, math.nan], b"[" + b"1" + b"0" * 30 + b",null]"),
        (["a\ud800b", math.inf], '["a\ufffdb",null]'.encode()),
        ({"\udfff": "😀"}, '{"\ufffd":"😀"}'.encode()),
    ],
)
def test_what_json_does_not_have_is_replaced(value: Any, written: bytes) -> None:
    assert jsontext.dumps(value) == written


def test_what_can_not_be_written_or_is_nested_too_deeply_is_a_value_error() -> None:
    deep: Any = []
    for _ in range(100_000):
        deep = [deep]
    for value in (object(), {"a": [object()]}, deep):
        with pytest.raises(ValueError, match="no JSON"):
            jsontext.dumps(value)
    with pytest.raises(ValueError, match="4300 digits"):
        jsontext.dumps(10**4300)
    assert jsontext.beginning(deep, 50) == "[" * 50


def test_the_weight_of_what_is_shared_without_end_is_found_at_once() -> None:
    value: Any = []
    for _ in range(200):
        value = [value, value]
    assert jsontext.weight(value, 1000) > 1000
    assert jsontext.weight({"a": ["x" * 640, 1]}, 1000) < 30
    assert orjson.loads(jsontext.dumps({"a": 1})) == {"a": 1}
