"""Numbers, sizes, and foreign texts, made readable for people; and tables as CSV that a
spreadsheet shows, but never runs as formulas."""

import codecs
import csv
import io
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any


def number(count: Any) -> str:
    """Return a count with its thousands apart."""
    return f"{count:,}"


def counted(count: Any, singular: str, plural: str = "") -> str:
    """Return `1 delivery` or `2,000 deliveries`; without `plural`, it is `singular` with an s."""
    return f"{number(count)} {singular if count == 1 else plural or f'{singular}s'}"


def listed(words: Iterable[str]) -> str:
    """Return `shell, command and http`."""
    *others, last = words
    return f"{', '.join(others)} and {last}" if others else last


def size(count: Any) -> str:
    """Return a number of bytes: 312 B, 4.2 KiB, 1.5 MiB."""
    if count is None:
        return "?"
    if count < 1024:
        return f"{count} B"
    unit = min((count.bit_length() - 1) // 10, 4)
    return f"{count / (1 << 10 * unit):.1f} {('', 'KiB', 'MiB', 'GiB', 'TiB')[unit]}"


def visible(value: Any) -> str:
    """Return a value as text in which nothing hides: control characters and marks that change the
    direction of text stand as their number."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    text = str(value)
    return text if text.isascii() and text.isprintable() else "".join(map(_visible, text))


def _visible(letter: str) -> str:
    if letter in "\n\t" or unicodedata.category(letter) not in {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}:
        return letter
    return f"[U+{ord(letter):04X}]"


# A cell that begins so is a formula to a spreadsheet (OWASP, CSV Injection).
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")


def csv_head(columns: Sequence[str]) -> bytes:
    """Return a table's first line, in UTF-8 with a mark that spreadsheets know it by."""
    return codecs.BOM_UTF8 + csv_lines([columns])


def csv_lines(rows: Iterable[Iterable[Any]]) -> bytes:
    """Return rows of a table."""
    text = io.StringIO()
    writer = csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="\r\n")
    writer.writerows([_cell(value) for value in row] for row in rows)
    return text.getvalue().encode("utf-8", "replace")


def _cell(value: Any) -> str:
    """Return a cell; a text that would be a formula gets a quote before it."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    text = visible(value)
    return f"'{text}" if text.lstrip(" ").startswith(_FORMULA) else text
