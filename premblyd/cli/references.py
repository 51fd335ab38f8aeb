"""Lists of references, as `reconcile` reads them: one a line, or a column of a CSV file."""

import codecs
import csv
import io
from collections.abc import Iterator, Sequence
from typing import IO

from premblyd.errors import PremblydError
from premblyd.prembly.answers import is_askable

SHOWN = 5  # mistakes of one kind
_SEPARATORS = ",;\t|"
_TITLES = frozenset({"reference", "reference_id", "references", "id", "verification_id"})
_WHAT = "a reference of Prembly's: letters, digits and . _ : ~ -, at most 200"


class ListError(PremblydError):
    """The list can't be used. The text says which lines, and quotes none of them: in a wrong column
    there are people's numbers."""


def read_references(file: IO[bytes], name: str, column: str | None) -> list[str]:
    """Return the references in `file`, each once, in their order. `column`: it is a CSV file, and
    they are in the column of this name. Raise ListError when it can't be used."""
    text = _text(file.read(), name)
    found = _in_column(text, name, column) if column is not None else _one_a_line(text, name)
    references: dict[str, int] = {}
    wrong: list[int] = []
    for line, value in found:
        if is_askable(value):
            references.setdefault(value, line)
        else:
            wrong.append(line)
    if wrong:
        raise ListError(f"{name}, {_lines(wrong)}: this is not {_WHAT}.")
    if not references:
        raise ListError(f"{name} holds no reference.")
    return list(references)


def _text(data: bytes, name: str) -> str:
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise ListError(f"{name} is UTF-16: save it as UTF-8 (in Excel: CSV UTF-8).")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ListError(f"{name}, line {line}: this is not UTF-8 text.") from None


def _one_a_line(text: str, name: str) -> Iterator[tuple[int, str]]:
    lines = [line.strip() for line in text.split("\n")]
    for number, line in enumerate(lines, 1):
        if not line or line.startswith("#"):
            continue
        if any(separator in line for separator in _SEPARATORS):
            columns = ", ".join(_titles(line)) if number == 1 else "its name"
            raise ListError(
                f"{name}, line {number}: this has several columns. Say which one holds the"
                f" references: --column with {columns}."
            )
        if number == 1 and line.lower() in _TITLES:
            continue
        yield number, line


def _in_column(text: str, name: str, column: str) -> Iterator[tuple[int, str]]:
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=_separator(text))
    try:
        titles = next(rows, [])
        index = _index(titles, column, name)
        for row in rows:
            value = row[index].strip() if index < len(row) else ""
            if value:
                yield rows.line_num, value
    except csv.Error as error:
        raise ListError(f"{name}, line {rows.line_num}: this is no CSV: {error}.") from None


def _index(titles: Sequence[str], column: str, name: str) -> int:
    """Return which column is meant; upper and lower case count only where both are there."""
    plain = [title.strip() for title in titles]
    if column in plain:
        return plain.index(column)
    lower = [title.lower() for title in plain]
    if column.lower() in lower:
        return lower.index(column.lower())
    shown = ", ".join(_titles(_separator_free(titles))) or "none"
    raise ListError(f"{name} has no column {column!r}. Its columns: {shown}.")


def _separator_free(titles: Sequence[str]) -> str:
    return "\t".join(title.replace("\t", " ") for title in titles)


def _separator(text: str) -> str:
    first, _, _ = text.partition("\n")
    return max(_SEPARATORS, key=first.count)


def _titles(line: str) -> list[str]:
    """Return the titles in a first line, if they are titles: rows of a file without any may hold
    people's data."""
    titles = [title.strip().strip('"') for title in line.split(_separator(line))]
    are_titles = all(
        title.replace("_", " ").replace("-", " ").replace(" ", "").isalpha() and len(title) <= 40
        for title in titles
    )
    return titles if are_titles else ["its title (the first line has none)"]


def _lines(numbers: Sequence[int]) -> str:
    shown = ", ".join(str(number) for number in numbers[:SHOWN])
    more = len(numbers) - SHOWN
    word = "line" if len(numbers) == 1 else "lines"
    return f"{word} {shown}" + (f" and {more} more" if more > 0 else "")
