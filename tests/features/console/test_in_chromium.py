"""The console in a real browser: what people do there, and how it looks."""

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.support.chromium import SCREENS, Chromium, needs_chromium, overflow_px, serious_faults
from tests.support.commands import ACTIONS, record
from tests.support.console import CONSOLE, new_link
from tests.support.daemon import Premblyd
from tests.support.http_server import serving

pytestmark = [needs_chromium, pytest.mark.browser]
MENDED = {"name": "notify-crm", "command": ["true"], "response_codes": ["98"]}
DIE = """
INSERT INTO delivery
    (event_id, action, state, attempts_left, created_at_ms, finished_at_ms, last_error)
SELECT id, 'notify-crm', 'dead', 0, received_at_ms, received_at_ms, 'exit status 1' FROM event
"""
NAMES = ("events", "events/1", "dead", "deliveries", "rejections", "actions", "operators")
PAGES = ["/?since=7d", *(f"/{name}" for name in (*NAMES, "sessions", "days"))]


@pytest.fixture(scope="module", name="daemon")
def run_daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Premblyd]:
    """A daemon that these tests change: each event has a dead delivery of MENDED, too."""
    folder = tmp_path_factory.mktemp("console")
    record(folder)
    with Premblyd(folder, actions=[*ACTIONS, MENDED], console=CONSOLE) as daemon:
        with closing(sqlite3.connect(daemon.database)) as connection, connection:
            connection.execute(DIE)
        yield daemon.start()


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


@pytest.mark.parametrize("javascript", [True, False], ids=["with", "without"])
def test_chosen_dead_letters_are_replayed(
    chromium: Chromium, daemon: Premblyd, javascript: bool
) -> None:
    dead = "SELECT count(*) FROM delivery WHERE state = 'dead' AND action = 'notify-crm'"
    ((before,),) = daemon.rows(dead)
    with chromium.window(javascript=javascript) as page:
        page.goto("/dead?action=notify-crm")
        boxes = page.get_by_role("checkbox", name="Choose delivery")
        for number in (0, 2):
            boxes.nth(number).check()
        count = " (2)" if javascript else ""
        page.get_by_role("button", name=f"Replay the chosen{count}", exact=True).click()
        expect(page).to_have_url(re.compile("/dead$"))
    daemon.wait_for_rows([(before - 2,)], dead)


def test_what_comes_is_there_without_a_reload(chromium: Chromium, daemon: Premblyd) -> None:
    with chromium.window() as page, chromium.window() as overview:
        for each, path in ((page, "/events"), (overview, "/")):
            each.goto(path)
            each.evaluate("window.isTheSame = true")
        rows = page.locator("tbody tr")
        count, newest = rows.count(), page.locator("tbody th a").first.inner_text()
        figure = overview.get_by_role("link", name=newest, exact=True)
        expect(figure).to_be_visible()
        daemon.send(b'{"response_code":"07","detail":"Record not found today"}')
        expect(rows.first).to_contain_text("Record not found today")
        expect(rows).to_have_count(min(count + 1, 50))
        expect(figure).to_be_hidden()
        for each in (page, overview):
            assert each.evaluate("window.isTheSame")


HIDE = """
Object.defineProperty(document, "hidden", {configurable: true, get: () => %s});
document.dispatchEvent(new Event("visibilitychange"));
"""


def test_a_tab_asks_again_while_it_is_seen_also_after_a_restart(
    chromium: Chromium, daemon: Premblyd
) -> None:
    with chromium.window(expected=("console: ",)) as page:
        page.clock.install()
        page.goto("/events")
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.evaluate(HIDE % "true")
        page.clock.run_for(60_000)
        assert not [url for url in asked if "/static/" not in url]  # an icon comes when it likes
        daemon.send(b'{"response_code":"07","detail":"Record not found while hidden"}')
        page.evaluate(HIDE % "false")
        expect(page.locator("tbody tr").first).to_contain_text("while hidden")
        page.route("**/events", lambda route: route.abort())  # as while it restarts
        page.clock.run_for(5_000)
        expect(page.get_by_text("Not live")).to_be_visible()
        daemon.send(b'{"response_code":"07","detail":"Record not found meanwhile"}')
        page.unroute_all()
        page.clock.run_for(5_000)
        expect(page.locator("tbody tr").first).to_contain_text("meanwhile")
        expect(page.get_by_text("Live", exact=True)).to_be_visible()


def test_what_somebody_works_on_stays_as_it_is(chromium: Chromium, daemon: Premblyd) -> None:
    """A list that moved under the mouse would have another delivery replayed."""
    with chromium.window() as page:
        page.goto("/dead")
        expect(page.get_by_text("Live", exact=True)).to_be_visible()
        page.get_by_role("checkbox", name="Choose delivery").first.check()
        first = page.locator("tbody tr").first.inner_text()
        dead = "SELECT count(*) FROM delivery WHERE state = 'dead'"
        ((count,),) = daemon.rows(dead)
        with page.expect_response("**/dead"):
            daemon.send(
                b'{"response_code":"00","verification":{"status":"VERIFIED","reference":"later"}}'
            )
            daemon.wait_for_rows([(count + 1,)], dead)
        expect(page.locator("#dead strong").first).not_to_have_text(str(count))
        assert page.locator("tbody tr").first.inner_text() == first
        expect(page.get_by_role("checkbox", name="Choose delivery").first).to_be_checked()


def test_another_site_can_do_nothing_in_the_same_browser(
    chromium: Chromium, daemon: Premblyd
) -> None:
    """From this machine too, where browsers send even strict cookies to every port."""
    kept = daemon.rows("SELECT count(*) FROM operator_action")
    evil = Path(__file__).with_name("another_site.html").read_text()
    evil = evil.replace("CONSOLE", chromium.url)
    with serving(
        lambda handler: handler.reply(body=evil.encode(), Content_Type="text/html")
    ) as server:
        for site in (server.url, server.url.replace("127.0.0.1", "localhost")):
            with chromium.window(expected=("request: ", "console: ")) as page:
                page.goto(site)
                results = page.evaluate("attack()")
                shown = [frame.url for frame in page.frames if chromium.url in frame.url]
            assert shown == []
            assert results == {"read": [], "framed": [], "scripts": 0}
    assert daemon.rows("SELECT count(*) FROM operator_action") == kept


def test_every_page_is_readable_and_reached_by_keyboard(chromium: Chromium) -> None:
    """On a desk by day and on a phone by night; for a screen reader, too."""
    with chromium.window() as page:
        for number, path in enumerate(PAGES):
            for width, scheme in SCREENS:
                chromium.resize(page, width, scheme)
                page.goto(path)
                expect(page.get_by_role("heading", level=1)).to_be_visible()
                chromium.picture(page, f"{path.strip('/?=').replace('/', '-')}-{width}-{scheme}")
                assert overflow_px(page) == 0
            if number % 3 == 0:  # it takes its time
                assert serious_faults(page) == []
        page.keyboard.press("Tab")
        expect(page.get_by_role("link", name="Skip to content")).to_be_focused()
        page.keyboard.press("Enter")
        expect(page.locator("main")).to_be_focused()
