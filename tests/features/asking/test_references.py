"""Lists of references: what is taken, and that what is wrong is said with its line, unquoted."""

import io

import pytest

from premblyd.features.asking.cli_reconcile import ListError, read_references
from tests.support.rows import for_each

UUID = "0f8fad5b-d9cb-469f-a165-70867728950e"


def read(data: str | bytes, column: str | None = None) -> list[str]:
    body = data.encode() if isinstance(data, str) else data
    references = read_references(io.BytesIO(body), "list.csv", column)
    assert references.wrong_lines == []
    assert references.complaint is None
    return [*references.found]


@for_each(
    "text",
    [
        f"ver_a_1\n{UUID}\n",
        f"ver_a_1\r\n{UUID}",
        f"\ufeffver_a_1\n\n  {UUID}  \n# a note, with a comma\nver_a_1\n",
        f"Reference\nver_a_1\n{UUID}\n",
    ],
)
def test_references_stand_one_a_line(text: str) -> None:
    assert read(text) == ["ver_a_1", UUID]


@for_each("separator", [",", ";", "\t", "|"])
def test_a_column_of_a_csv_file_is_taken(separator: str) -> None:
    lines = [["name", "Reference", "bvn"], ["a", "ver_a_1", "22123456789"], ["b", "", ""], ["c"]]
    text = "\n".join(separator.join(line) for line in lines)
    assert read(text, "Reference") == ["ver_a_1"]
    assert read(text, "reference") == ["ver_a_1"]
    quoted = '\ufeff"note","reference"\r\n"a, ""b""\nc","ver_a_1"\r\n"d","ver_a_2"\r\n'
    assert read(quoted, "reference") == ["ver_a_1", "ver_a_2"]


@for_each(
    ("data", "column", "words"),
    [
        ("", None, "list.csv has no reference."),
        ("name,reference\n", "reference", "list.csv has no reference."),
        ("name,reference,bvn\na,b,c", None, "--column with name, reference, bvn."),
        ("Amina,ver_a_1,22123456789", None, "--column with its title (the first line has none)."),
        ("", "reference", "no column 'reference'. Its first line has no titles."),
        ("Amina Bello\n../x\n", None, "has no reference. In lines 1, 2: not a reference"),
        ("ver_a_1\n".encode("utf-16"), None, "UTF-16: save it as UTF-8"),
        (b"reference\nver\0_a\n", "reference", "line 2"),
        ("reference\n" + "x" * 200_000, "reference", "line 2: not a reference"),
        ("x" * 200_000, "reference", "line 1: not CSV: field larger"),
    ],
)
def test_a_mistake_is_said_with_its_place_and_without_what_stands_there(
    data: str | bytes, column: str | None, words: str
) -> None:
    with pytest.raises(ListError) as raised:
        read(data, column)
    text = str(raised.value)
    assert words in text
    assert raised.value.exit_code == 2, "1 means that something is missing"
    for private in ("Amina", "22123456789"):
        assert private not in text


@for_each(
    ("data", "column", "wrong"),
    [
        ("ver_a_1\nAmina Bello\nver_a_2\n../x\n", None, [2, 4]),
        ("ver_a_1\n" + "é\n" * 25 + "ver_a_2", None, [*range(2, 27)]),
        (b"reference,name\nver_a_1,Zo\xeb\nver\0a,b\nver_a_2,c\n", "reference", [3]),
        ("reference\nver_a_1\n" + "x" * 200_000 + "\nver_a_2\n", "reference", [3]),
        ("reference,a\nver_a_1,b\nAmina Bello,22123456789\nver_a_2,c\n", "reference", [3]),
    ],
)
def test_wrong_lines_leave_others(data: str | bytes, column: str | None, wrong: list[int]) -> None:
    body = data.encode() if isinstance(data, str) else data
    references = read_references(io.BytesIO(body), "list.csv", column)
    text = body.decode("latin-1").split("\n")
    lines = {
        name: [name in line for line in text].index(True) + 1 for name in ("ver_a_1", "ver_a_2")
    }
    assert references.found == lines
    assert references.wrong_lines == wrong
    shown = ", ".join(str(line) for line in wrong[:20]) + (" and 5 more" if wrong[20:] else "")
    assert f"{shown}: not a reference of Prembly" in (references.complaint or "")
    assert "Amina" not in repr(references) + str(references.complaint)
