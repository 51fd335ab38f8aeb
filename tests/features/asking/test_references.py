"""Lists of references: what is taken, and that what is wrong is said with its line, unquoted."""

import io

import pytest

from premblyd.features.asking.cli import ListError, read_references
from tests.support.rows import for_each

UUID = "0f8fad5b-d9cb-469f-a165-70867728950e"


@for_each(
    "text",
    [
        f"ver_a_1\n{UUID}\n",
        f"ver_a_1\r\n{UUID}",
        f"\ufeffver_a_1\n\n  {UUID}  \nver_a_1\n",
    ],
)
def test_references_stand_one_a_line(text: str) -> None:
    found = read_references(io.BytesIO(text.encode()))
    lines = [line.strip("\ufeff \r") for line in text.split("\n")]
    assert found == {name: lines.index(name) + 1 for name in ("ver_a_1", UUID)}


@for_each(
    ("data", "words"),
    [
        (b"", "has no reference"),
        (b"name,reference\nAmina,ver_a_1\n", "have not: 1, 2."),
        (b"ver_a_1\nAmina Bello\nver_a_2\n../x\n", "have not: 2, 4."),
        ("ver_a_1\n".encode("utf-16"), "have not: 1"),
        (b"ver_a_1\nver\0_a\nZo\xeb\n", "have not: 2, 3."),
        (b"x" * 200_000, "have not: 1."),
        (b"ver_a_1\n" + b"a b\n" * 25, ", 20, 21, …."),
    ],
)
def test_wrong_lines_are_said_all_at_once_and_without_what_stands_there(
    data: bytes, words: str
) -> None:
    with pytest.raises(ListError) as raised:
        read_references(io.BytesIO(data))
    assert words in str(raised.value)
    assert "Amina" not in str(raised.value)
    assert raised.value.exit_code == 2, "1 means that something is missing"
