"""Reading Prembly's log of verifications from its first page to its last, while it grows.

New entries push older ones to later pages, so an entry may be read twice, and none is missed. Not
believed are the number of pages, the size of a page, and that the log begins and ends where it was
asked to: a log that never ends, and one that ignores what it is asked, end here all the same.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from itertools import pairwise

from premblyd import times
from premblyd.ask.logpages import LogEntry, LogPage
from premblyd.config.inquiries import LogsQuestion
from premblyd.errors import PremblydError

MAX_PAGES = 10_000
STALE_PAGES = 3  # one after the other with nothing new: the log says the same again


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """From when, and until before when, an entry is meant. Unix milliseconds."""

    since_ms: int
    until_ms: int

    def is_outside(self, entry: LogEntry) -> bool:
        """Return whether the entry is surely not meant; without a time it may be."""
        return entry.at_ms is not None and not self.since_ms <= entry.at_ms < self.until_ms


@dataclass(slots=True)
class Log:
    """What was read: each verification once, by its first id."""

    entries: dict[str, LogEntry] = field(default_factory=dict)
    pages: int = 0
    total_pages: int | None = None  # as the log says, which may be wrong
    without_id: int = 0
    outside: int = 0  # of another time than was asked for
    _seen: set[str] = field(default_factory=set)

    def add(self, page: LogPage, window: Window) -> bool:
        """Take a page. Return whether any id in it is new, also of what is not meant."""
        self.pages += 1
        self.total_pages = page.total_pages
        self.without_id += page.without_id
        is_new = False
        for entry in page.entries:
            name = entry.ids[0]
            is_new = is_new or name not in self._seen
            self._seen.add(name)
            if window.is_outside(entry):
                self.outside += 1
                continue
            before = self.entries.get(name)
            if before is None or (entry.at_ms or 0) > (before.at_ms or 0):
                self.entries[name] = entry
        return is_new


# Returns a page for these parameters; None if there is no such page.
Fetch = Callable[[dict[str, str]], Awaitable[LogPage | None]]


async def read_log(
    question: LogsQuestion,
    window: Window,
    fetch: Fetch,
    after_page: Callable[[Log], object] = lambda _: None,
) -> Log:
    """Return the log of this time; `after_page` is called after each page. Raise PremblydError
    when it has no end, or nothing by which its entries can be told apart."""
    log = Log()
    ending = _Ending(question, window)
    for number in range(1, MAX_PAGES + 1):
        page = await fetch(parameters(question, window, number))
        if page is None:  # past the last one: some answer that with 404
            return log
        if page.item_count and page.without_id == page.item_count:
            raise PremblydError(
                "The entries of Prembly's log have no id where `prembly.logs.reference` looks for"
                " one: say there where it is."
            )
        is_new = log.add(page, window)
        after_page(log)
        if ending.is_last(number, page, is_new=is_new):
            return log
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
    """Decides after which page the log ends."""

    def __init__(self, question: LogsQuestion, window: Window) -> None:
        self._since_ms = window.since_ms
        self._page_size = question.page_size
        self._largest = 0
        self._stale = 0
        self._order = _Order()

    def is_last(self, number: int, page: LogPage, *, is_new: bool) -> bool:
        """Return whether no page after this one has anything that is meant."""
        if page.item_count == 0:
            return True
        self._order.add(page)
        if self._order.is_falling and _is_all_before(page, self._since_ms):
            return True  # the API does not filter by time, and the rest is older still
        self._stale = 0 if is_new else self._stale + 1
        if self._stale >= STALE_PAGES:
            return True
        # The API may give fewer on a page than it was asked for: what it has given counts.
        self._largest = max(self._largest, page.item_count)
        is_full = page.item_count >= min(self._page_size, self._largest)
        total = page.total_pages
        return total is not None and number >= total and not is_full


class _Order:
    """Whether the log runs from new to old, as far as it was read."""

    def __init__(self) -> None:
        self._has_risen = False
        self._has_fallen = False
        self._lowest_ms: int | None = None  # of the page before

    def add(self, page: LogPage) -> None:
        stamps = [entry.at_ms for entry in page.entries if entry.at_ms is not None]
        if not stamps:
            return
        steps = list(pairwise(stamps))
        # Within a page, and from the oldest of one page to that of the next: what is new meanwhile
        # repeats some entries, which is no rise.
        if self._lowest_ms is not None:
            steps.append((self._lowest_ms, min(stamps)))
        self._has_risen = self._has_risen or any(after > before for before, after in steps)
        self._has_fallen = self._has_fallen or any(after < before for before, after in steps)
        self._lowest_ms = min(stamps)

    @property
    def is_falling(self) -> bool:
        return self._has_fallen and not self._has_risen


def _is_all_before(page: LogPage, ms: int) -> bool:
    return bool(page.entries) and all(
        entry.at_ms is not None and entry.at_ms < ms for entry in page.entries
    )
