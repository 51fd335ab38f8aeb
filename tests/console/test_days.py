"""The console's page of days: a record of its own, with some that were compared."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace

import pytest

from premblyd.engines.connections import connect_operator
from premblyd.record.certificates import stored
from premblyd.record.certificates.summary import Counts
from premblyd.times import DAY_MS, day
from tests.support.certificates import summary
from tests.support.chromium import Chromium, needs_chromium, overflow_px, serious_faults
from tests.support.console import CONSOLE, Browser
from tests.support.daemon import Premblyd

DAYS = 33
FIRST_MS = 20_454 * DAY_MS  # 2026-01-01
LAST_MS = FIRST_MS + (DAYS - 1) * DAY_MS
WIDTHS = (1280, 390)


@pytest.fixture(scope="module", name="daemon")
def run_daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Premblyd]:
    """A daemon: who may see the page, and what it shows, its console decides."""
    with Premblyd(tmp_path_factory.mktemp("days"), console=CONSOLE) as daemon:
        daemon.start()
        with closing(connect_operator(daemon.place)) as database:
            for number in range(DAYS):
                stored.store(database, summary(FIRST_MS + number * DAY_MS, missing=2), "ada")
            stored.store(database, summary(LAST_MS), "ada")
            nothing = replace(summary(LAST_MS - DAY_MS), complete=False, total=Counts(), by_type={})
            stored.store(database, nothing, "ada")
        yield daemon


def test_the_last_thirty_days_are_listed_each_as_it_was_found_last(own: Browser) -> None:
    listed = own.get("/days.json").json["days"]
    assert [each["day"] for each in listed] == [day(LAST_MS - back * DAY_MS) for back in range(30)]
    assert [each["complete"] for each in listed] == [True] + [False] * 29
    why = [each["why"] for each in listed]
    assert why == [[], []] + [["2 verifications are missing."]] * 28
    page = own.get("/days").text
    assert page.count("2 verifications are missing.") == page.count("not complete") == 28
    assert page.count("nothing to compare") == 1


@needs_chromium
@pytest.mark.browser
def test_the_page_is_readable_and_reached_by_keyboard(chromium: Chromium) -> None:
    from playwright.sync_api import expect  # takes long: only where a page is opened

    with chromium.window(width=WIDTHS[0]) as page:
        page.goto("/")
        page.get_by_role("link", name="Days").focus()
        page.keyboard.press("Enter")
        expect(page.get_by_role("heading", level=1)).to_have_text("Days")
        for width in WIDTHS:
            chromium.resize(page, width, "dark" if width == WIDTHS[1] else "light")
            page.goto("/days")
            expect(page.get_by_role("rowheader", name=day(LAST_MS))).to_be_visible()
            chromium.picture(page, f"days-{width}")
            assert overflow_px(page) == 0
            assert serious_faults(page) == []
