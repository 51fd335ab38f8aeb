"""Prembly's log of verifications, read from its first page to its last while it grows. Begin with
`read_log`; `read_page` says what one page has.

New entries push older ones to later pages, so an entry may be read twice. One that changes may move
to a page that was read before: the log is read until two readings list the same. Not believed are
the number of pages, the size of a page, and that the log begins and ends where it was asked to: a
log that never ends, and one that ignores what it is asked, end here all the same.

Anything may stand in a page: nothing of it is shown but ids, times, codes and words in the shapes
that are checked here. The number that was looked up (`searched_id`: a BVN or NIN) is never kept.
"""

import asyncio
import math
import re
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import tzinfo
from itertools import pairwise
from typing import Any, TypeVar
from urllib.parse import urlencode

from premblyd.config.routing import is_yes
from premblyd.features.asking.client import Answer, AnswerKind, Inquirer
from premblyd.features.asking.settings import LogParameters, LogsQuestion
from premblyd.ground import times
from premblyd.ground.errors import (
    NoAnswerError,
    NotAllowedToAskError,
    PremblydError,
    UnreadableLogError,
)
from premblyd.ground.expressions import EvaluationError, Expression
from premblyd.ground.privacy import is_code
from premblyd.prembly import bodies
from premblyd.prembly.payload import OPEN_CODES

TRIES = 4  # of one question, while Prembly can't answer
FIRST_WAIT_S = 1.0  # doubles
LONGEST_WAIT_S = 120.0  # for a pause that Prembly asks for, or that its failures demand
MAX_PAGES = 10_000
MAX_READINGS = 5
STALE_PAGES = 3  # one after the other with nothing new: the log says the same again
MAX_ID_CHARS = 200
# Words by which the log says that a verification has not ended: nothing of it can have come yet.
OPEN_WORDS = frozenset({"pending", "processing", "in-progress"})
_LEAST_ID_CHARS = 6  # a row's number, such as 17, is no verification's id
_SEARCHED = ("searched_id", "searchedId")
_WORD = re.compile(r"[A-Za-z][A-Za-z _-]{0,31}")
_NEAR_MS = 2000  # the log is asked by the second, and for one more than is meant
_LATEST_MS = 253_402_300_800_000  # the year 10,000
_MILLISECONDS_FROM = 100_000_000_000  # a larger number is no time in seconds
T = TypeVar("T")


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
    """What a page says. `item_count`: of all that is listed, also of what has no id, and of what
    is not expected as an event."""

    entries: tuple[LogEntry, ...]
    item_count: int
    without_id: int
    total_pages: int | None
    not_expected: tuple[str, ...] = ()  # what is, by the first of its ids
    answered_at_ms: int | None = None  # by Prembly's clock


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """From when, and until before when, an entry is meant. Unix milliseconds."""

    since_ms: int
    until_ms: int

    def is_outside(self, entry: LogEntry) -> bool:
        """Return whether the entry is surely not meant; without a time it may be."""
        return entry.at_ms is not None and not self.since_ms <= entry.at_ms < self.until_ms

    def was_not_asked_for(self, entry: LogEntry, names: LogParameters) -> bool:
        """Return whether an entry is of a time that the parameters of these names rule out."""
        at_ms = entry.at_ms or 0
        is_earlier = at_ms < self.since_ms - _NEAR_MS
        is_later = at_ms >= self.until_ms + _NEAR_MS
        return bool((names.since and is_earlier) or (names.until and is_later))


@dataclass(slots=True)
class Log:
    """What was read: each verification once, by its first id. `pages`, `total_pages` and
    `without_id` are of the last reading."""

    entries: dict[str, LogEntry] = field(default_factory=dict)  # who takes some may remove them
    pages: int = 0
    total_pages: int | None = None  # as the log says, which may be wrong
    without_id: int = 0
    not_expected: int = 0  # as events, by `prembly.logs.when`
    outside: int = 0  # of another time than is meant
    not_asked_for: int = 0  # of these: though the log was not asked for that time
    is_whole: bool = False  # it was read to its end, as far as its pages tell
    has_moved: bool = False  # each reading listed something else
    answered_at_ms: int | None = None  # when Prembly answered first, by its own clock
    _at_ms: dict[str, int] = field(default_factory=dict)  # what is meant
    _others: set[str] = field(default_factory=set)
    _listed: set[str] = field(default_factory=set)  # in this reading

    def add(self, page: LogPage, window: Window, number: int, names: LogParameters) -> bool:
        """Take a page of a reading. Return whether any id is new in it, also of what is not
        meant."""
        if number == 1:
            self._listed, self.without_id = set(), 0
        if self.answered_at_ms is None:
            self.answered_at_ms = page.answered_at_ms
        self.pages, self.total_pages = number, page.total_pages
        self.without_id += page.without_id
        count = len(self._listed)
        self._listed |= {*page.not_expected, *(entry.ids[0] for entry in page.entries)}
        self.not_expected += len(set(page.not_expected) - self._others)
        self._others |= set(page.not_expected)
        for entry in page.entries:
            name, at_ms = entry.ids[0], entry.at_ms or 0
            if window.is_outside(entry):
                if name not in self._others and name not in self._at_ms:
                    self.outside += 1
                    self.not_asked_for += window.was_not_asked_for(entry, names)
                self._others.add(name)
            elif name not in self._at_ms or at_ms > self._at_ms[name]:
                self.entries[name], self._at_ms[name] = entry, at_ms
        return len(self._listed) > count

    def meant(self) -> set[str]:
        """Return the ids of what this reading has listed, and is meant."""
        return self._listed & self._at_ms.keys()


# Returns a page for these parameters; None if there is no such page.
Fetch = Callable[[dict[str, str]], Awaitable[LogPage | None]]


async def read_log(
    question: LogsQuestion,
    window: Window,
    fetch: Fetch,
    after_page: Callable[[Log], object] = lambda _: None,
) -> Log:
    """Return the log of this time, read until two readings list the same; `after_page` is called
    after each page. Raise PremblydError when it has no end, or its entries have no ids."""
    log = Log()
    before: set[str] | None = None
    for _ in range(MAX_READINGS):
        full_pages = await _read_once(log, question, window, fetch, after_page)
        meant = log.meant()
        if not log.is_whole or full_pages <= 1 or meant == before:
            return log  # of one page nothing moves to another
        before = meant
    log.is_whole, log.has_moved = False, True
    return log


async def _read_once(
    log: Log,
    question: LogsQuestion,
    window: Window,
    fetch: Fetch,
    after_page: Callable[[Log], object],
) -> int:
    """Read the log from its first page to its last. Return how many pages had entries."""
    log.is_whole = False
    full_pages = 0
    ending = _Ending(question, window)
    for number in range(1, MAX_PAGES + 1):
        page = await fetch(parameters(question, window, number))
        if page is None:  # past the last one: some answer that with 404
            log.is_whole = log.total_pages is None or number > log.total_pages
            return full_pages
        full_pages += page.item_count > 0
        if page.item_count and page.without_id == page.item_count:
            raise PremblydError(
                "The entries of Prembly's log have no id where `prembly.logs.reference` looks for"
                " one: say there where it is."
            )
        is_new = log.add(page, window, number, question.parameters)
        after_page(log)
        if ending.is_last(number, page, is_new=is_new):
            log.is_whole = ending.is_sure
            return full_pages
    raise PremblydError(
        f"Prembly's log does not end after {MAX_PAGES:,} pages: ask for a shorter time."
    )


def parameters(question: LogsQuestion, window: Window, number: int) -> dict[str, str]:
    """Return the parameters of the question for a page."""
    names = question.parameters
    values = {
        names.page_size: str(question.page_size),
        names.since: _utc(window.since_ms),
        # The API may mean "up to and including": what is too new is left out here.
        names.until: _utc(window.until_ms + 1000),
    }
    named = {name: value for name, value in values.items() if name}
    return {**question.query, **named, names.page: str(number)}


def _utc(ms: int) -> str:
    """Return a time as the page of the log shows it: 2025-01-01T00:00:00Z."""
    return times.iso(ms // 1000 * 1000).replace("+00:00", "Z")


class _Ending:
    """Decides after which page the log ends; and whether that `is_sure`, or the log only says the
    same again, or less than it has."""

    def __init__(self, question: LogsQuestion, window: Window) -> None:
        self._since_ms = window.since_ms
        self._page_size = question.page_size
        self._largest = 0
        self._stale = 0
        self._has_risen = self._has_fallen = False  # the times, as far as the log was read
        self._lowest_ms: int | None = None  # of the page before
        self.is_sure = False

    def is_last(self, number: int, page: LogPage, *, is_new: bool) -> bool:
        """Return whether no page after this one has anything that is meant."""
        total = page.total_pages
        if page.item_count == 0:
            self.is_sure = total is None or number >= total
            return True
        stamps = [entry.at_ms for entry in page.entries if entry.at_ms is not None]
        if stamps:
            self._note_order(stamps)
            is_falling = self._has_fallen and not self._has_risen
            if is_falling and len(stamps) == len(page.entries) and max(stamps) < self._since_ms:
                self.is_sure = True
                return True  # the API does not filter by time, and the rest is older still
        self._stale = 0 if is_new else self._stale + 1
        # The API may give fewer on a page than it was asked for: what it has given counts.
        self._largest = max(self._largest, page.item_count)
        is_full = page.item_count >= min(self._page_size, self._largest)
        # Past its end, or because it does not heed the page's number.
        if self._stale >= STALE_PAGES:
            read = number - self._stale
            self.is_sure = not is_full if total is None else read >= total
            return True
        self.is_sure = total is not None and number >= total and not is_full
        return self.is_sure

    def _note_order(self, stamps: list[int]) -> None:
        steps = list(pairwise(stamps))
        # Within a page, and from the oldest of one page to that of the next: what is new meanwhile
        # repeats some entries, which is no rise.
        if self._lowest_ms is not None:
            steps.append((self._lowest_ms, min(stamps)))
        self._has_risen = self._has_risen or any(after > before for before, after in steps)
        self._has_fallen = self._has_fallen or any(after < before for before, after in steps)
        self._lowest_ms = min(stamps)


def fetching(inquirer: Inquirer, question: LogsQuestion) -> Fetch:
    """Return what fetches pages of Prembly's log. It raises NoAnswerError when Prembly can't be
    reached, NotAllowedToAskError when it refuses the key, PremblydError when it has no log."""

    async def fetch(parameters: dict[str, str]) -> LogPage | None:
        path = f"{question.path}?{urlencode(parameters)}"

        def read(answer: Answer) -> LogPage | None:
            if answer.kind is not AnswerKind.NOT_FOUND:
                page = read_page(answer.body, question)
                return replace(page, answered_at_ms=answer.answered_at_ms)
            if parameters[question.parameters.page] != "1":
                return None
            raise PremblydError(
                f"Prembly has no log at {question.path} ({answer.error}): see"
                " `prembly: {logs: …}`."
            )

        return await patiently(lambda: inquirer.fetch(question.method, path), read)

    return fetch


async def patiently(ask: Callable[[], Awaitable[Answer]], read: Callable[[Answer], T]) -> T:
    """Ask until there is an answer that can be read, a few times."""
    attempt, wait_s = 0, FIRST_WAIT_S
    while True:
        attempt += 1
        answer = await ask()
        if answer.kind is AnswerKind.REFUSED:
            raise NotAllowedToAskError(answer.http_status)
        why, error = NoAnswerError, answer.error or ""
        if answer.kind is not AnswerKind.UNAVAILABLE:
            try:
                return read(answer)
            except LogPageError as failed:  # perhaps a proxy's page
                why, error = UnreadableLogError, str(failed)
        pause_s = max(answer.retry_after_s, wait_s)
        if attempt == TRIES or pause_s > LONGEST_WAIT_S:
            raise why(error, round(answer.retry_after_s))
        await asyncio.sleep(pause_s)
        wait_s *= 2


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
    entries: list[LogEntry | None] = []
    others: list[LogEntry | None] = []
    for item in items:
        (entries if _is_expected(item, question.when) else others).append(_entry(item, question))
    return LogPage(
        entries=tuple(entry for entry in entries if entry is not None),
        item_count=len(items),
        without_id=entries.count(None),
        not_expected=tuple(entry.ids[0] for entry in others if entry is not None),
        total_pages=_count(_found(question.total_pages, document)),
    )


def _is_expected(item: Any, when: Expression | None) -> bool:
    """Return whether an event is expected for this entry. One for which `when` fails is."""
    if when is None:
        return True
    try:
        return is_yes(when.search(item))
    except EvaluationError:
        return True


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
        at_ms=_time_ms(_found(question.time, item), question.time_zone),
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


def _time_ms(value: Any, zone: tzinfo) -> int | None:
    if isinstance(value, str) and len(value) <= 64:
        try:
            milliseconds = times.from_iso(value, zone)
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
