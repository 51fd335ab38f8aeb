"""The console in a real browser: what people do there, and how it looks."""

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import expect

from tests.support.chromium import (
    PHONE,
    SCREENS,
    Chromium,
    chromium,
    needs_chromium,
    overflow_px,
    serious_faults,
)
from tests.support.commands import PERSONAL
from tests.support.console import Browser, new_link
from tests.support.daemon import Premblyd

pytestmark = needs_chromium
PAGES = {
    "overview": "/?since=7d",
    "events": "/events",
    "event": "/events/1",
    "dead": "/dead",
    "deliveries": "/deliveries",
    "rejections": "/rejections",
    "actions": "/actions",
    "operators": "/operators",
}


@pytest.fixture(scope="module", name="chromium")
def run_chromium(own: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    with chromium(own, tmp_path_factory.mktemp("screenshots")) as running:
        yield running


def test_a_link_signs_in_by_one_click(chromium: Chromium, daemon: Premblyd) -> None:
    link = f"{new_link(daemon)}&next=/events"
    with chromium.window(signed_in=False) as page:
        page.goto("/events/1")
        expect(page).to_have_url(re.compile(r"/sign-in\?next=/events/1$"))
        chromium.picture(page, "sign-in")
        page.goto(link)
        page.get_by_role("button", name="Sign in").click()
        expect(page.get_by_role("navigation", name="Pages")).to_be_visible()
        page.get_by_role("button", name="Sign out").click()
        expect(page).to_have_url(re.compile("/sign-in$"))
        page.go_back()
        expect(page).to_have_url(re.compile("/sign-in"))
        assert "Sign out" not in page.content(), "a page is shown from the browser's memory"


def test_a_filter_shows_what_was_asked_for(chromium: Chromium) -> None:
    with chromium.window() as page:
        page.goto("/events")
        page.get_by_label("Outcome").select_option("not_verified")
        page.get_by_role("button", name="Filter").click()
        expect(page).to_have_url(re.compile("outcome=not_verified"))
        outcomes = page.locator("td[data-label=Outcome]").all_inner_texts()
        assert set(outcomes) == {"not verified"}
        page.get_by_label("Since").fill("yesterday or so")
        page.get_by_label("Since").press("Enter")
        expect(page.get_by_label("Since")).to_have_attribute("aria-invalid", "true")
        expect(page.get_by_text("should be a time such as")).to_be_visible()


def test_reveal_shows_personal_data_and_is_on_record(chromium: Chromium, daemon: Premblyd) -> None:
    count = "SELECT count(*) FROM operator_action WHERE action = 'reveal' AND event_id = 1"
    ((before,),) = daemon.rows(count)
    with chromium.window() as page:
        page.goto("/events")
        page.locator("tr[data-id='1'] th a").click()
        assert not [text for text in PERSONAL if text in page.content()]
        assert daemon.rows(count) == [(before,)]
        page.get_by_role("button", name="Reveal personal data").click()
        expect(page.get_by_text("It is on record that you looked")).to_be_visible()
        assert [text for text in PERSONAL if text in page.content()]
        chromium.picture(page, "revealed")
    assert daemon.rows(count) == [(before + 1,)]


@pytest.mark.parametrize("name", PAGES)
def test_every_page_is_readable(chromium: Chromium, name: str) -> None:
    """On a desk by day and on a phone by night; for a screen reader, too."""
    with chromium.window() as page:
        for width, scheme in SCREENS:
            chromium.resize(page, width, scheme)
            page.goto(PAGES[name])
            expect(page.get_by_role("heading", level=1)).to_be_visible()
            chromium.picture(page, f"{name}-{width}-{scheme}")
            assert overflow_px(page) == 0
            assert serious_faults(page) == []


def test_every_page_works_without_javascript(chromium: Chromium, daemon: Premblyd) -> None:
    with chromium.window(width=PHONE, javascript=False) as page:
        for name, path in PAGES.items():
            page.goto(path)
            expect(page.get_by_role("heading", level=1)).to_be_visible()
            chromium.picture(page, f"{name}-plain")
