"""Reading Prembly's log to its end: while it grows, in both orders, and though it lies."""

import asyncio
from dataclasses import dataclass, field

import pytest

from premblyd.features.asking import log as log_module
from premblyd.features.asking.log import Log, LogEntry, LogPage, Window, parameters, read_log
from premblyd.features.asking.settings import LogsQuestion
from premblyd.ground.errors import PremblydError
from tests.support.rows import for_each

NOW_MS = 1_700_000_000_000
MINUTE_MS = 60_000
DAY_MS = 24 * 60 * MINUTE_MS
WINDOW = Window(since_ms=NOW_MS - DAY_MS, until_ms=NOW_MS)


def entry(number: int, at_ms: int | None) -> LogEntry:
    return LogEntry(ids=(f"ver_test_{number:08}",), at_ms=at_ms, code="00", status="success")


@dataclass
class FakeLog:
    """A log of Prembly's, as it may be: with its order, its filter, its pages and its lies."""

    entries: list[LogEntry]  # oldest first
    is_rising: bool = False
    filters: bool = True
    largest_page: int = 100
    beyond: str = "empty"  # a page past the last: empty | missing | last
    grows_by: int = 0  # between two pages
    asked: list[dict[str, str]] = field(default_factory=list)

    async def fetch(self, asked: dict[str, str]) -> LogPage | None:
        self.asked.append(asked)
        for _ in range(self.grows_by):
            self.entries.append(entry(len(self.entries), NOW_MS + len(self.asked)))
        since_ms = WINDOW.since_ms if self.filters else 0
        found = [each for each in self.entries if each.at_ms is None or each.at_ms >= since_ms]
        if not self.is_rising:
            found.reverse()
        size = min(self.largest_page, int(asked["page_size"]))
        pages = -(-len(found) // size)
        number = int(asked["page"])
        if number > pages and self.beyond == "missing":
            return None
        if number > pages and self.beyond == "last":
            number = pages
        items = found[(number - 1) * size : number * size]
        return LogPage(entries=tuple(items), item_count=len(items))


def made(count: int, *, older: int = 0) -> list[LogEntry]:
    """Return `count` entries within the window, and as many `older` ones before it."""
    before = [entry(n, WINDOW.since_ms - (older - n) * MINUTE_MS) for n in range(older)]
    return before + [
        entry(older + n, WINDOW.since_ms + n * DAY_MS // max(count, 1)) for n in range(count)
    ]


def read(log: FakeLog, **settings: object) -> Log:
    return asyncio.run(read_log(LogsQuestion.model_validate(settings), WINDOW, log.fetch))


def expected(log: FakeLog) -> set[str]:
    return {each.ids[0] for each in log.entries if not WINDOW.is_outside(each)}


@for_each("beyond", ["empty", "missing", "last"])
@for_each("is_rising", [False, True])
@for_each("count", [0, 1, 100, 101, 350])
def test_every_entry_is_found_and_a_log_that_repeats_is_not_known_whole(
    count: int, is_rising: bool, beyond: str
) -> None:
    log = FakeLog(made(count), is_rising=is_rising, beyond=beyond)
    found = read(log)
    assert found.entries.keys() == expected(log)
    assert found.is_whole is (beyond != "last" or not count)
    assert len(log.asked) == -(-count // 100) + 1


@for_each("is_rising", [False, True])
@for_each("grows_by", [1, 60])
def test_a_log_that_grows_meanwhile_loses_and_doubles_nothing(
    is_rising: bool, grows_by: int
) -> None:
    log = FakeLog(made(1000), is_rising=is_rising, grows_by=grows_by)
    before = expected(log)
    assert read(log).entries.keys() == before


def test_a_log_that_filters_nothing_is_read_and_what_is_not_meant_is_counted() -> None:
    log = FakeLog(made(150, older=500), filters=False)
    found = read(log)
    assert ({*found.entries}, found.of_another_time) == (expected(log), 500)


def test_a_log_without_an_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_module, "MAX_PAGES", 50)
    endless = FakeLog(made(0), grows_by=300, is_rising=True, filters=False)
    endless.fetch = _always_new  # type: ignore[method-assign]
    with pytest.raises(PremblydError, match="does not end after 50 pages"):
        read(endless)


async def _always_new(asked: dict[str, str]) -> LogPage:
    first = int(asked["page"]) * 100
    entries = tuple(entry(first + n, None) for n in range(100))
    return LogPage(entries=entries, item_count=100)


def test_a_log_whose_entries_have_no_id_is_a_mistake_and_not_an_empty_log() -> None:
    async def fetch(_: dict[str, str]) -> LogPage:
        return LogPage(entries=(), item_count=7)

    with pytest.raises(PremblydError, match="`reference` looks for one"):
        asyncio.run(read_log(LogsQuestion(), WINDOW, fetch))


def test_the_parameters_are_called_as_configured_and_can_be_left_out() -> None:
    assert parameters(LogsQuestion(), WINDOW, 3) == {
        "page": "3",
        "page_size": "100",
        "start_date": "2023-11-13T22:13:20Z",
        "end_date": "2023-11-14T22:13:21Z",
    }
    names = {"page": "p", "page_size": "", "since": "from", "until": ""}
    question = LogsQuestion.model_validate({"parameters": names})
    assert parameters(question, WINDOW, 1) == {
        "p": "1",
        "from": "2023-11-13T22:13:20Z",
    }
