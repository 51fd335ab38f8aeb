"""Prembly's log of verifications, read from its first page to its last while it grows. Begin with
`read_log`; `read_page` says what one page has.

New entries push older ones to later pages, so an entry may be read twice. Not believed is that the
log ends, and that it has only what it was asked for.

Anything may stand in a page: nothing of it is shown but ids, times, codes and words in the shapes
that are checked here. The number that was looked up (`searched_id`: a BVN or NIN) is never kept.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from premblyd.config.routing import is_yes
from premblyd.features.asking.client import Answer, AnswerKind, Inquirer
from premblyd.features.asking.settings import LogParameters, LogsQuestion
from premblyd.features.asking.standing import OPEN_CODES
from premblyd.ground import times
from premblyd.ground.errors import PremblydError, TryAgainError
from premblyd.ground.expressions import EvaluationError, Expression
from premblyd.ground.privacy import is_code
from premblyd.prembly import bodies

TRIES = 4  # of one question, while Prembly can't answer
FIRST_WAIT_S = 1.0  # doubles
LONGEST_WAIT_S = 120.0  # for a pause that Prembly asks for, or that its failures demand
MAX_PAGES = 10_000
MAX_ID_CHARS = 200
# Words by which the log says that a verification has not ended: nothing of it can have come yet.
OPEN_WORDS = frozenset({"pending", "processing", "in-progress"})
_LEAST_ID_CHARS = 6  # a row's number, such as 17, is no verification's id
_SEARCHED = ("searched_id", "searchedId")
_WORD = re.compile(r"[A-Za-z][A-Za-z _-]{0,31}")
_NEAR_MS = 2000  # the log is asked by the second, and for one more than is meant


class NoAnswerError(TryAgainError):
    """Prembly can't be reached, or does not answer in a way that can be used. Try again later:
    after `retry_after_s`, by Prembly's wish or because it has failed too often."""

    def __init__(self, reason: str, retry_after_s: int = 0) -> None:
        when = (
            f"Ask no earlier than in {retry_after_s:,} s." if retry_after_s else "Try again later."
        )
        super().__init__(
            f"Prembly could not be asked: {reason}. {when} If it stays so, look at"
            " `prembly: {url: …}`."
        )


class NotAllowedToAskError(PremblydError):
    """Prembly refuses the API key, or there is none. Mend `prembly: {api_key: …}`."""

    exit_code = 78

    def __init__(self, http_status: int | None) -> None:
        what = (
            "there is none" if http_status is None else f"Prembly refuses it (HTTP {http_status})"
        )
        super().__init__(
            f"Check `prembly: {{api_key: …}}`: {what}. It is the account's secret key, of the"
            " environment (sandbox or live) that is asked."
        )


class LogPageError(PremblydError):
    """Prembly's log can't be read where and as `prembly: {logs: …}` says: mend that."""

    def __init__(self, why: str) -> None:
        super().__init__(f"Prembly's log can't be read: {why}. See `prembly: {{logs: …}}`.")


@dataclass(frozen=True, slots=True, kw_only=True)
class LogEntry:
    """One verification in the log. `ids`: all its ids; the first is the one that it is asked for
    by. None where the log says nothing, or nothing that may be shown."""

    ids: tuple[str, ...] = field(repr=False)
    at_ms: int | None
    code: str | None
    status: str | None
    is_expected: bool = True  # as an event, by `prembly.logs.when`

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
        if entry.at_ms is None:
            return False
        is_earlier = entry.at_ms < self.since_ms - _NEAR_MS
        is_later = entry.at_ms >= self.until_ms + _NEAR_MS
        return bool((names.since and is_earlier) or (names.until and is_later))


@dataclass(slots=True)
class Log:
    """What was read: each verification that is meant and expected once, by its first id."""

    entries: dict[str, LogEntry] = field(default_factory=dict)
    pages: int = 0
    without_id: int = 0
    not_expected: int = 0
    of_another_time: int = 0  # though the log was not asked for that
    is_whole: bool = False  # it was read to its end, as far as its pages tell
    _listed: set[str] = field(default_factory=set)

    def add(self, page: LogPage, window: Window, names: LogParameters) -> bool:
        """Take a page. Return whether any entry is new in it, also of what is not meant."""
        self.pages += 1
        self.without_id += page.item_count - len(page.entries)
        count = len(self._listed)
        for entry in page.entries:
            name, at_ms = entry.ids[0], entry.at_ms or 0
            if name not in self._listed:
                self.not_expected += not entry.is_expected
                self.of_another_time += window.was_not_asked_for(entry, names)
                self._listed.add(name)
            if entry.is_expected and not window.is_outside(entry):
                known = self.entries.get(name)
                if known is None or at_ms > (known.at_ms or 0):
                    self.entries[name] = entry
        return len(self._listed) > count


# Returns a page for these parameters; None if there is no such page.
Fetch = Callable[[dict[str, str]], Awaitable[LogPage | None]]


async def read_log(
    question: LogsQuestion,
    window: Window,
    fetch: Fetch,
    after_page: Callable[[Log], object] = lambda _: None,
) -> Log:
    """Return the log of this time; `after_page` is called after each page. Raise PremblydError when
    it has no end, or its entries have no ids."""
    log = Log()
    for number in range(1, MAX_PAGES + 1):
        page = await fetch(parameters(question, window, number))
        if page is None or not page.item_count:  # past the last one
            log.is_whole = True
            return log
        if not page.entries:
            raise LogPageError("its entries have no id where `reference` looks for one")
        is_new = log.add(page, window, question.parameters)
        after_page(log)
        if not is_new:
            return log  # it says the same again, and perhaps does not heed the page's number
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
    return {name: value for name, value in values.items() if name} | {names.page: str(number)}


def _utc(ms: int) -> str:
    """Return a time as the page of the log shows it: 2025-01-01T00:00:00Z."""
    return times.iso(ms // 1000 * 1000).replace("+00:00", "Z")


def fetching(inquirer: Inquirer, question: LogsQuestion) -> Fetch:
    """Return what fetches pages of Prembly's log. It raises NoAnswerError when Prembly can't be
    reached, NotAllowedToAskError when it refuses the key, PremblydError when it has no log."""

    async def fetch(parameters: dict[str, str]) -> LogPage | None:
        path = f"{question.path}?{urlencode(parameters)}"
        answer = await patiently(lambda: inquirer.fetch(path))
        if answer.kind is not AnswerKind.NOT_FOUND:
            return read_page(answer.body, question)
        if parameters[question.parameters.page] != "1":
            return None
        raise LogPageError(f"it is not at {question.path} ({answer.error})")

    return fetch


async def patiently(ask: Callable[[], Awaitable[Answer]]) -> Answer:
    """Return an answer that says something: ask a few times while Prembly can't."""
    for attempt in range(1, TRIES + 1):
        answer = await ask()
        if answer.kind is AnswerKind.REFUSED:
            raise NotAllowedToAskError(answer.http_status)
        if answer.kind is not AnswerKind.UNAVAILABLE:
            return answer
        pause_s = max(answer.retry_after_s, FIRST_WAIT_S * 2 ** (attempt - 1))
        if attempt == TRIES or pause_s > LONGEST_WAIT_S:
            break
        await asyncio.sleep(pause_s)
    raise NoAnswerError(answer.error or "", round(answer.retry_after_s))


def read_page(body: bytes, question: LogsQuestion) -> LogPage:
    """Return what a page says. Raise LogPageError when it can't be read."""
    document = bodies.parse(body)
    if document is None:
        raise LogPageError(
            "the answer is no JSON object, or has too many values: try a lower `page_size`"
        )
    items = _found(question.items, document)
    if not isinstance(items, list):
        raise LogPageError("the answer has no list where `items` looks for one")
    entries = [entry for item in items if (entry := _entry(item, question)) is not None]
    return LogPage(entries=tuple(entries), item_count=len(items))


def _is_expected(item: Any, when: Expression | None) -> bool:
    """Return whether an event is expected for this entry. One for which `when` fails is."""
    try:
        return when is None or is_yes(when.search(item))
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
        at_ms=_time_ms(_found(question.time, item)),
        code=_shaped(_found(question.code, item), is_code),
        status=_shaped(_found(question.status, item), _WORD.fullmatch),
        is_expected=_is_expected(item, question.when),
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
    try:
        return times.from_iso(value) if isinstance(value, str) and len(value) <= 64 else None
    except (ValueError, OverflowError):
        return None
