"""A page of Prembly's log: its shapes, and that nothing hostile in it is shown."""

import json
from typing import Any

import pytest

from premblyd.features.asking.log import LogPageError, read_page
from premblyd.features.asking.settings import LogsQuestion
from premblyd.prembly.bodies import MAX_VALUES
from tests.support.rows import for_each

DEFAULTS = LogsQuestion()
AT_MS = 1_700_000_000_000
ITEM = {
    "reference_id": "ver_document_w_face_jba9xnk8r1",
    "searched_id": "22123456789",
    "created_at": "2023-11-14T22:13:20Z",
    "response_code": "00",
    "status": "success",
}
ESCAPES = "\x1b]0;owned\x07\x1b[2J"


def page(*items: Any, **around: Any) -> bytes:
    return json.dumps({"data": list(items), **around}).encode()


def only(item: Any, **settings: Any) -> Any:
    """Return the one entry of a page with `item`; None if it has none."""
    entries = read_page(page(item), LogsQuestion.model_validate(settings)).entries
    return entries[0] if entries else None


def test_an_entry_says_which_verification_it_is_and_what_came_of_it() -> None:
    (entry,) = read_page(page(ITEM), DEFAULTS).entries
    assert (entry.ids, entry.at_ms) == (("ver_document_w_face_jba9xnk8r1",), AT_MS)
    assert (entry.code, entry.status, entry.is_open) == ("00", "success", False)


@for_each(
    "document",
    [
        {"data": [ITEM]},
        {"data": {"results": [ITEM]}},
        {"data": {"data": [ITEM], "pagination": {}}},
        {"items": [ITEM]},
    ],
)
def test_the_list_is_found_wherever_it_may_be(document: Any) -> None:
    assert len(read_page(json.dumps(document).encode(), DEFAULTS).entries) == 1


def test_every_place_can_be_configured() -> None:
    item = {"wo": {"ist": "r-123456"}, "when": "2023-11-14T22:13:20", "c": 1, "s": "failed"}
    body = json.dumps({"liste": [item]}).encode()
    settings = {"items": "liste", "reference": "wo.ist"}
    settings |= {"time": '"when"', "code": "c", "status": "s"}
    found = read_page(body, LogsQuestion.model_validate(settings))
    (entry,) = found.entries
    assert (entry.ids, entry.at_ms) == (("r-123456",), AT_MS)
    assert (entry.code, entry.status) == ("01", "failed")


def test_only_entries_are_expected_for_which_when_is_true_or_fails() -> None:
    settings = {"when": "response_code == '00'"}
    assert only(ITEM, **settings).is_expected
    assert not only(ITEM | {"response_code": "01"}, **settings).is_expected
    assert only(ITEM, when="abs(status) > `0`").is_expected
    for status in ("pending", "PENDING", "processing", "in progress"):
        assert only(ITEM | {"status": status}).is_open


@for_each(
    ("value", "expected"),
    [
        ("2023-11-14T22:13:20.000000Z", AT_MS),
        ("2023-11-14T22:13:20", AT_MS),
        (1_700_000_000, None),
        ("yesterday", None),
        (True, None),
        (float("nan"), None),
        ("9" * 65, None),
        (["2023"], None),
    ],
)
def test_a_time_is_read_or_unknown(value: Any, expected: int | None) -> None:
    assert only(ITEM | {"created_at": value}).at_ms == expected


def test_the_number_that_was_looked_up_is_no_id_even_where_an_id_is_looked_for() -> None:
    assert only(ITEM | {"reference_id": "22123456789"}) is None
    assert only(ITEM, reference="searched_id") is None
    assert "22123456789" not in repr(read_page(page(ITEM), DEFAULTS))


def test_every_id_of_an_entry_is_known_and_the_first_is_asked_for() -> None:
    item = ITEM | {"session_id": "sdk_session_6c8e3f94", "id": 17, "transaction_id": "tx_12345"}
    assert only(item).ids == (ITEM["reference_id"], "sdk_session_6c8e3f94", "tx_12345")


def test_what_is_not_shaped_as_it_should_be_is_not_kept() -> None:
    entry = only(ITEM | {"response_code": f"00{ESCAPES}", "status": f"success{ESCAPES}"})
    assert (entry.code, entry.status) == (None, None)
    assert only(ITEM | {"reference_id": f"r-{ESCAPES}"}) is None
    assert only(ITEM | {"reference_id": "r" * 5_000_000}) is None


@for_each("item", [None, 17, "text", [], {}, {"reference_id": None}, [[[]]]])
def test_an_entry_without_an_id_is_counted(item: Any) -> None:
    found = read_page(page(item, ITEM), DEFAULTS)
    assert (len(found.entries), found.item_count) == (1, 2)


@for_each(
    ("body", "why"),
    [
        (b"", "no JSON"),
        (b"<html>502 Bad Gateway</html>", "no JSON"),
        (b'{"data": [', "no JSON"),
        (b"[" * 100_000, "no JSON"),
        (b'{"data": {"results": {"a": 1}}}', "no list"),
        (b'{"status": true}', "no list"),
        (b'{"data":[' + b"0," * MAX_VALUES + b"0]}", "page_size"),
    ],
)
def test_what_is_no_page_is_said_to_be_none(body: bytes, why: str) -> None:
    with pytest.raises(LogPageError, match=why):
        read_page(body, DEFAULTS)
