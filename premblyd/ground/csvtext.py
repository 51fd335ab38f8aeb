"""Tables as CSV that a spreadsheet shows, but never runs as formulas."""

import codecs
import csv
import io
from collections.abc import Iterable, Sequence
from typing import Any

from premblyd.ground.words import visible

# A cell that begins so is a formula to a spreadsheet (OWASP, CSV Injection).
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")


def head(columns: Sequence[str]) -> bytes:
    """Return a table's first line, in UTF-8 with a mark that spreadsheets know it by."""
    return codecs.BOM_UTF8 + lines([columns])


def lines(rows: Iterable[Iterable[Any]]) -> bytes:
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
