"""Whatever a sender, a hook or a colleague wrote is text on every page, and the page is usable."""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from typing import Any
from urllib.parse import urlencode

import pytest
from playwright.sync_api import Page, expect

from tests.support.chromium import PHONE, Chromium, needs_chromium, overflow_px
from tests.support.configuration import ONCE, shell
from tests.support.console import CONSOLE
from tests.support.daemon import Premblyd

pytestmark = pytest.mark.browser

HOSTILE = (
    "<script>alert(1)</script>\"'><img src=x onerror=alert(2)></script><svg onload=alert(3)>"
    "<style>*{display:none}</style><base href=//evil.example>{{1+1}}{% raw x %}<!--"
    "javascript:alert(4)\u202egnp.exe\u2066\u200f\x07\x1b[31m\x00\u2028💥&lt;"
)
LONG = HOSTILE + "A" * 5_000_000
# What the pages show of a body, and the names under which they look for it.
NAMES = (
    "response_code", "status", "detail", "message", "event", "type", "source", "kind", "reference",
    "user_ref", "session_id", "verification_id", "completed_at", "photo", "confidence",
)  # fmt: skip
PAGES = "/ /overview /events /dead /deliveries /rejections /actions /operators /days".split()
MAX_PAGE = 1_000_000  # characters: a phone shows it at once
LOOK = """() => {
  const all = [...document.querySelectorAll("*")];
  const isAway = (address) => new URL(address, location).origin !== location.origin;
  const away = all.filter((each) => ["href", "src", "action", "formaction"].some((name) =>
    each.hasAttribute(name) && isAway(each.getAttribute(name))));
  const own = "script[src='/static/console.js'], link, meta[charset], meta[name], noscript";
  const shown = document.documentElement.cloneNode(true); // but what somebody typed
  shown.querySelectorAll("input, textarea").forEach((each) => each.remove());
  return {
    strange: all.filter((each) => each.matches(
      "script, style, base, meta, link, img, iframe, object, embed, video, audio, math, svg")
      && !each.matches(own) && !each.matches("svg.chart")).map((each) => each.outerHTML),
    handlers: all.filter((each) => [...each.attributes].some(
      ({name}) => name.startsWith("on") || name === "style")).map((each) => each.outerHTML),
    away: away.map((each) => each.outerHTML),
    hidden: shown.outerHTML.match(
      /[\\u0000-\\u0008\\u000b\\u000c\\u000e-\\u001f\\u007f-\\u009f\\u200e\\u200f\\u202a-\\u202e\\u2066-\\u2069]/g),
  };
}"""
NOTHING: dict[str, list[str] | None] = {"strange": [], "handlers": [], "away": [], "hidden": None}


def filled(text: str) -> dict[str, Any]:
    """Return a body that has `text` wherever something of it is shown."""
    inner = dict.fromkeys(NAMES, text)
    return {
        **inner,
        "data": {**inner, text[:300]: text, "list": [text, {text[:300]: [text]}]},
        "verification": {"status": text, "reference": text},
        "face_data": {"status": text, "confidence": text},
        "widget_info": {"user_ref": text, "email": text},
    }


def deep(levels: int, inside: str) -> bytes:
    return b'{"a":' * levels + json.dumps(inside).encode() + b"}" * levels


BODIES = {
    "every field": json.dumps(filled(HOSTILE)).encode(),
    "5 MB": json.dumps({"detail": LONG, "reference": LONG, "data": {"firstName": LONG}}).encode(),
    "10,000 keys": json.dumps({f"{HOSTILE} {n}": {HOSTILE: n} for n in range(10_000)}).encode(),
    "deep": deep(150, HOSTILE),
    "too deep": deep(100_000, HOSTILE),
    "huge numbers": b'{"detail":1E400,"reference":-1e-400,"data":{"n":%s,"f":%s}}'
    % (b"9" * 20_000, b"0." + b"1" * 20_000),
    "surrogates": b'{"detail":"\\ud800 \\udc00 \\ud83d","reference":"\\udfff","data":["\\ud83d"]}',
    "no JSON": HOSTILE.encode() + b"\xff\xfe\x00\x80",
    "a form": urlencode(filled(HOSTILE)).encode(),
}


@pytest.fixture(scope="module", name="daemon")
def run_daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Premblyd]:
    folder = tmp_path_factory.mktemp("hostile")
    (folder / "printed").write_bytes(HOSTILE.encode() + b"\xff\xfe")
    prints = shell("crm", f"cat {folder}/printed; cat {folder}/printed >&2; exit 1", retry=ONCE)
    with Premblyd(folder, actions=[prints], console=CONSOLE) as daemon:
        daemon.start()
        headers = {"User_Agent": HOSTILE[:80], "X_Forwarded_For": "192.0.2.1, <script>"}
        for body in BODIES.values():
            assert daemon.send(body, **headers).status == 200
        assert daemon.send(b"{}", x_prembly_signature=HOSTILE[:40], **headers).status == 401
        daemon.wait_for_rows([(len(BODIES),)], "SELECT count(*) FROM delivery WHERE state = 'dead'")
        assert daemon.stop() == 0
        _write_everywhere(daemon)
        yield daemon.start()


def _write_everywhere(daemon: Premblyd) -> None:
    """Put it into each column of text of the first row of each table, as no sender could: where it
    is not one of a few words, and not where it is said which schema this is."""
    columns = """SELECT t.name, c.name FROM sqlite_schema AS t, pragma_table_info(t.name) AS c
        WHERE t.type = 'table' AND t.name NOT LIKE 'sqlite%' AND c.type LIKE 'TEXT%' AND c.pk = 0
        AND t.name NOT IN ('console_token', 'record', 'schema_part')"""
    with closing(sqlite3.connect(daemon.database)) as connection, connection:
        for table, column in connection.execute(columns).fetchall():
            change = f"UPDATE OR IGNORE {table} SET {column} = ? WHERE rowid = 1"
            connection.execute(change, (HOSTILE,))


def looked_at(page: Page) -> None:
    """Assert that nothing on a page is but text, and that it is of use."""
    page.wait_for_load_state()  # with its style
    assert page.evaluate(LOOK) == NOTHING, page.url
    assert len(page.content()) < MAX_PAGE
    assert overflow_px(page) == 0, page.url
    expect(page.get_by_role("heading", level=1)).to_be_visible()


@needs_chromium
def test_no_page_runs_what_somebody_wrote(chromium: Chromium, daemon: Premblyd) -> None:
    names = ("find", "reference", "since", "outcome", "action", "reason", "remote_ip")
    asked = [f"{path}?{urlencode(dict.fromkeys(names, HOSTILE))}" for path in PAGES]
    with chromium.window(width=PHONE) as page:
        for path in [*PAGES, *asked, "/nothing/<script>alert(1)</script>"]:
            page.goto(path)
            looked_at(page)
        for number in range(1, len(BODIES) + 1):
            page.goto(f"/events/{number}")
            looked_at(page)
            page.get_by_role("button", name="Reveal personal data").click()
            expect(page.get_by_text("This was recorded:")).to_be_visible()
            looked_at(page)


@needs_chromium
def test_the_sign_in_page_takes_what_a_link_says(chromium: Chromium) -> None:
    with chromium.window(width=PHONE, signed_in=False) as page:
        page.goto(f"/sign-in?{urlencode({'link': HOSTILE, 'next': 'javascript:alert(1)'})}")
        looked_at(page)
        page.get_by_role("button", name="Sign in").click()
        looked_at(page)
