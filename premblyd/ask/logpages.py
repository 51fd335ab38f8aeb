"""Prembly's log of verifications: what a page of it says. Pure functions.

Anything may stand in a page: nothing of it is shown but ids, times, codes and words in the shapes
that are checked here. The number that was looked up (`searched_id`: a BVN or NIN) is never kept.
"""

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from premblyd import times
from premblyd.config.inquiries import LogsQuestion
from premblyd.errors import PremblydError
from premblyd.expressions import EvaluationError, Expression
from premblyd.prembly import bodies
from premblyd.prembly.payload import OPEN_CODES
from premblyd.privacy.identifiers import is_code

MAX_ID_CHARS = 200
# Words by which the log says that a verification has not ended: nothing of it can have come yet.
OPEN_WORDS = frozenset({"pending", "processing", "in-progress"})
_LEAST_ID_CHARS = 6  # a row's number, such as 17, is no verification's id
_SEARCHED = ("searched_id", "searchedId")
_WORD = re.compile(r"[A-Za-z][A-Za-z _-]{0,31}")
_LATEST_MS = 253_402_300_800_000  # the year 10,000
_MILLISECONDS_FROM = 100_000_000_000  # a larger number is no time in seconds


class LogPageError(PremblydError):
    """A page of the log can't be read: it is no JSON, or has no list where one is looked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogEntry:
    """One verification in the log. `ids`: all its ids; the first is the one that it is asked for
    by. None where the log says nothing, or nothing that may be shown."""

    ids: tuple[str, ...] = field(repr=False)
    at_ms: int | None
    code: str | None
    status: str | None

    @property
    def is_open(self) -> bool:
        """Whether the verification has not ended yet, as the log says."""
        return self._word in OPEN_WORDS

    @property
    def is_final(self) -> bool:
        """Whether the log says how the verification ended: not only that it could not be done."""
        if self.is_open or self.code in OPEN_CODES:
            return False
        return self.code is not None or self._word not in ("", "error")

    @property
    def _word(self) -> str:
        return (self.status or "").lower().replace("_", "-").replace(" ", "-")


@dataclass(frozen=True, slots=True, kw_only=True)
class LogPage:
    """What a page says. `item_count`: of all that is listed, also of what has no id."""

    entries: tuple[LogEntry, ...]
    item_count: int
    without_id: int
    total_pages: int | None


def read_page(body: bytes, question: LogsQuestion) -> LogPage:
    """Return what a page says. Raise LogPageError when it can't be read."""
    document = bodies.parse(body)
    if document is None and body.lstrip()[:1] == b"[":  # a list, without anything around it
        document = bodies.parse(b'{"items":' + body + b"}")
    if document is None:
        raise LogPageError(
            "the answer is no JSON object, or has too many values: try a lower `page_size`"
        )
    items = _found(question.items, document)
    if not isinstance(items, list):
        raise LogPageError("the answer has no list where `prembly.logs.items` looks for one")
    expected = [item for item in items if _is_expected(item, question.when)]
    entries = [_entry(item, question) for item in expected]
    return LogPage(
        entries=tuple(entry for entry in entries if entry is not None),
        item_count=len(items),
        without_id=entries.count(None),
        total_pages=_count(_found(question.total_pages, document)),
    )


def _is_expected(item: Any, when: Expression | None) -> bool:
    """Return whether an event is expected for this entry. One for which `when` fails is."""
    if when is None:
        return True
    try:
        found = when.search(item)
    except EvaluationError:
        return True
    return found is not None and found is not False and found not in ("", [], {})


def _entry(item: Any, question: LogsQuestion) -> LogEntry | None:
    """Return an entry; None if it has no id."""
    if not isinstance(item, dict):
        return None
    searched = {item.get(name) for name in _SEARCHED if isinstance(item.get(name), str)}
    ids = tuple(dict.fromkeys(_ids(_found(question.reference, item), searched)))
    if not ids:
        return None
    return LogEntry(
        ids=ids,
        at_ms=_time_ms(_found(question.time, item)),
        code=_shaped(_found(question.code, item), is_code),
        status=_shaped(_found(question.status, item), _WORD.fullmatch),
    )


def _ids(found: Any, searched: set[Any]) -> Iterator[str]:
    """Yield the texts in `found` that can be ids, without the number that was looked up."""
    for value in found if isinstance(found, list) else [found]:
        if not isinstance(value, str) or value in searched:
            continue
        if _LEAST_ID_CHARS <= len(value) <= MAX_ID_CHARS and value.isprintable():
            yield value


def _found(expression: Expression, value: Any) -> Any:
    try:
        return expression.search(value)
    except EvaluationError:
        return None


def _shaped(value: Any, may_be_shown: Callable[[str], object]) -> str | None:
    """Return a value as text if it may be shown."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        return None
    text = f"{value:02}" if isinstance(value, int) and 0 <= value < 1000 else str(value)[:100]
    return text if may_be_shown(text) else None


def _time_ms(value: Any) -> int | None:
    if isinstance(value, str) and len(value) <= 64:
        try:
            milliseconds = times.from_iso(value)
        except (ValueError, OverflowError):
            return None
    elif isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        milliseconds = round(value if abs(value) >= _MILLISECONDS_FROM else value * 1000)
    else:
        return None
    return milliseconds if 0 <= milliseconds < _LATEST_MS else None


def _count(value: Any) -> int | None:
    if isinstance(value, str) and re.fullmatch(r"\d{1,9}", value, re.ASCII):
        value = int(value)
    is_count = isinstance(value, int) and not isinstance(value, bool) and value >= 0
    return value if is_count else None
