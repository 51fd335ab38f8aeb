"""Lists of references for `premblyd reconcile`: one a line, or a column of a CSV file."""

import codecs
import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import IO

from premblyd.features.asking.answers import is_askable
from premblyd.ground.errors import PremblydError

SHOWN_LINES = 20  # that are named
_SEPARATORS = ",;\t|"
_TITLES = frozenset({"reference", "reference_id", "references", "id", "verification_id"})
_WRONG = "not a reference of Prembly, which has letters, digits and . _ : ~ -, at most 200"


class ListError(PremblydError):
    """Nothing of the list can be used. The text says why, and quotes no line: in a wrong column
    there are people's numbers."""

    exit_code = 2  # 1 means that something is missing


@dataclass(frozen=True, slots=True, kw_only=True)
class References:
    """The references of a list, each once, in their order, with the number of the line where it
    stands first; and the numbers of the lines that hold none, which are left out."""

    name: str
    found: Mapping[str, int]
    wrong_lines: Sequence[int]

    @property
    def complaint(self) -> str | None:
        """Which lines are wrong, and how; None: none is. It quotes no line."""
        return f"{self.name}, {_lines(self.wrong_lines)}: {_WRONG}." if self.wrong_lines else None


def read_references(file: IO[bytes], name: str, column: str | None) -> References:
    """Return the references in `file`. `column`: it is a CSV file, and they are in the column of
    this name. Raise ListError when there is none."""
    text = _text(file.read(), name)
    lines = _in_column(text, name, column) if column is not None else _one_a_line(text, name)
    found: dict[str, int] = {}
    wrong: list[int] = []
    for line, value in lines:
        if value is not None and is_askable(value):
            found.setdefault(value, line)
        else:
            wrong.append(line)
    if not found:
        why = f" In {_lines(wrong)}: {_WRONG}." if wrong else ""
        raise ListError(f"{name} has no reference." + why)
    return References(name=name, found=found, wrong_lines=wrong)


def _text(data: bytes, name: str) -> str:
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise ListError(f"{name} is UTF-16: save it as UTF-8 (in Excel: CSV UTF-8).")
    # What is no UTF-8 is wrong only where a reference should be: no half character is in one.
    return data.decode("utf-8-sig", "surrogateescape")


def _one_a_line(text: str, name: str) -> Iterator[tuple[int, str]]:
    lines = [line.strip() for line in text.split("\n")]
    for number, line in enumerate(lines, 1):
        if not line or line.startswith("#"):
            continue
        if number == 1 and any(separator in line for separator in _SEPARATORS):
            titles = ", ".join(_titles(line.split(_separator(line))))
            raise ListError(
                f"{name}, line 1: there are several columns. Say which one has the references:"
                f" --column with {titles or 'its title (the first line has none)'}."
            )
        if number == 1 and line.lower() in _TITLES:
            continue
        yield number, line


def _in_column(text: str, name: str, column: str) -> Iterator[tuple[int, str | None]]:
    """Yield the number of each row's last line, and what stands in the column; None for a row that
    is no CSV."""
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=_separator(text))
    try:
        titles = next(rows, [])
    except csv.Error as error:
        raise ListError(f"{name}, line 1: not CSV: {error}.") from None
    index = _index(titles, column, name)
    while True:
        try:
            row = next(rows)
        except StopIteration:
            return
        except csv.Error:
            yield rows.line_num, None
            continue
        value = row[index].strip() if index < len(row) else ""
        if value:
            yield rows.line_num, value


def _index(titles: Sequence[str], column: str, name: str) -> int:
    """Return which column is meant; upper and lower case count only where both are there."""
    plain = [title.strip() for title in titles]
    if column in plain:
        return plain.index(column)
    lower = [title.lower() for title in plain]
    if column.lower() in lower:
        return lower.index(column.lower())
    shown = _titles(titles)
    has = f"Its columns: {', '.join(shown)}." if shown else "Its first line has no titles."
    raise ListError(f"{name} has no column {column!r}. {has}")


def _separator(text: str) -> str:
    first, _, _ = text.partition("\n")
    return max(_SEPARATORS, key=first.count)


def _titles(cells: Sequence[str]) -> list[str]:
    """Return the titles in a first line; none if they are no titles: rows of a file without any may
    hold people's data."""
    titles = [title.strip().strip('"') for title in cells]
    are_titles = all(
        title.replace("_", " ").replace("-", " ").replace(" ", "").isalpha() and len(title) <= 40
        for title in titles
    )
    return titles if are_titles else []


def _lines(numbers: Sequence[int]) -> str:
    shown = ", ".join(str(number) for number in numbers[:SHOWN_LINES])
    more = len(numbers) - SHOWN_LINES
    word = "line" if len(numbers) == 1 else "lines"
    return f"{word} {shown}" + (f" and {more} more" if more > 0 else "")
