"""The console's pages of certificates: a record of its own, with some that were made."""

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
from tests.support.console import CONSOLE, Browser, opened, signed_in
from tests.support.daemon import Premblyd
from tests.support.database import changing

DAYS = 33
FIRST_MS = 20_454 * DAY_MS  # 2026-01-01
LAST = day(FIRST_MS + (DAYS - 1) * DAY_MS)
WIDTHS = (1280, 390)


@pytest.fixture(scope="module", name="daemon")
def run_daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Premblyd]:
    """A daemon: who may see the pages, and what they show, its console decides."""
    with Premblyd(tmp_path_factory.mktemp("certificates"), console=CONSOLE) as daemon:
        daemon.start()
        with closing(connect_operator(daemon.place)) as database:
            for number in range(DAYS):
                stored.store(database, summary(FIRST_MS + number * DAY_MS, missing=2), "ada")
            stored.store(database, summary(FIRST_MS + (DAYS - 1) * DAY_MS), "ada")
        yield daemon


def test_the_last_thirty_days_are_listed_each_by_its_last_certificate(own: Browser) -> None:
    listed = own.get("/certificates.json").json["certificates"]
    assert len(listed) == 30
    assert [listed[0]["day"], listed[-1]["day"]] == [LAST, day(FIRST_MS + 3 * DAY_MS)]
    assert [each["complete"] for each in listed] == [True] + [False] * 29
    assert [each["made_before"] for each in listed] == [1] + [0] * 29
    assert listed[1]["reasons"] == ["missing"]
    assert listed[1]["total"]["missing"] == 2


def test_a_day_shows_that_it_was_certified_again_and_when(own: Browser) -> None:
    shown = own.get(f"/certificates/{LAST}.json").json
    assert [each["number"] for each in shown["certificates"]] == [DAYS + 1, DAYS]
    assert shown["said"]["complete"]
    page = own.get(f"/certificates/{LAST}").text
    assert "1 certificate of this day was made before: this one counts." in page
    assert f"certificate {DAYS}, not certified (missing)" in page


def test_a_day_of_which_the_log_has_nothing_is_neither_complete_nor_not(fresh: Premblyd) -> None:
    own = opened(fresh)
    nothing = replace(summary(FIRST_MS), complete=False, total=Counts(), by_type={})
    with closing(connect_operator(fresh.place)) as database:
        stored.store(database, nothing, "ada")
    for path in ("/certificates", "/certificates/2026-01-01"):
        page = own.get(path).text
        assert "nothing to compare" in page
        assert "not certified" not in page


@pytest.mark.parametrize("name", ["2025-01-01", "2026-13-40", "2026-01-01T10"])
def test_a_day_without_one_is_not_there(own: Browser, name: str) -> None:
    assert own.get(f"/certificates/{name}").status == 404


def test_what_somebody_has_changed_by_hand_is_said_to_be_unreadable(daemon: Premblyd) -> None:
    with changing(daemon.place) as connection:
        connection.execute(f"UPDATE certificate SET said = '[]' WHERE day_ms = {FIRST_MS}")
    own = signed_in(daemon)
    page = own.get(f"/certificates/{day(FIRST_MS)}")
    assert (page.status, "somebody has changed it" in page.text) == (200, True)
    assert own.get("/certificates").status == 200


@needs_chromium
@pytest.mark.browser
def test_the_pages_are_readable_and_used_by_keyboard(chromium: Chromium) -> None:
    from playwright.sync_api import expect  # takes long: only where a page is opened

    with chromium.window(width=WIDTHS[0]) as page:
        page.goto("/")
        page.get_by_role("link", name="Certificates").focus()
        page.keyboard.press("Enter")
        link = page.get_by_role("link", name=LAST)
        expect(link).to_be_visible()
        wider = page.locator(".scroll").first.evaluate(
            "each => each.scrollWidth - each.clientWidth"
        )
        assert wider == 0
        link.focus()
        page.keyboard.press("Enter")
        expect(page.get_by_role("heading", level=1)).to_have_text(f"Certificate of {LAST}")
        for width in WIDTHS:
            for path in ("/certificates", f"/certificates/{LAST}"):
                chromium.resize(page, width, "dark" if width == WIDTHS[1] else "light")
                page.goto(path)
                expect(page.get_by_role("heading", level=1)).to_be_visible()
                chromium.picture(page, f"certificates-{path.count('/')}-{width}")
                assert overflow_px(page) == 0
                assert serious_faults(page) == []
