"""The console's page of days: a record of its own, with some that were compared."""

from collections.abc import Iterator

import pytest

from premblyd.ground.times import DAY_MS, day
from tests.support.console import CONSOLE, Browser
from tests.support.daemon import Premblyd
from tests.support.database import changing

pytestmark = pytest.mark.process

DAYS = 33
FIRST_MS = 20_454 * DAY_MS  # 2026-01-01
LAST_MS = FIRST_MS + (DAYS - 1) * DAY_MS
FOUND = {LAST_MS: "", LAST_MS - DAY_MS: "nothing_to_compare"}


@pytest.fixture(scope="module", name="daemon")
def run_daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Premblyd]:
    """A daemon: who may see the page, and what it shows, its console decides."""
    with Premblyd(tmp_path_factory.mktemp("days"), console=CONSOLE) as daemon:
        daemon.start()
        insert = "INSERT INTO day (day_ms, read_at_ms, is_complete, reasons, counts) VALUES"
        with changing(daemon.place) as connection:
            for day_ms in range(FIRST_MS, FIRST_MS + DAYS * DAY_MS, DAY_MS):
                reasons = FOUND.get(day_ms, "missing")
                values = f"{day_ms}, {day_ms + DAY_MS}, {not reasons}, '{reasons}'"
                connection.execute(f"""{insert} ({values}, '{{"missing": 2}}')""")
        yield daemon


def test_the_last_thirty_days_are_listed_with_why_they_are_not_complete(own: Browser) -> None:
    listed = own.get("/days.json").json["days"]
    assert [each["day"] for each in listed] == [day(LAST_MS - back * DAY_MS) for back in range(30)]
    assert [each["complete"] for each in listed] == [True] + [False] * 29
    assert [each["reasons"] for each in listed[:3]] == [[], ["nothing_to_compare"], ["missing"]]
    page = own.get("/days").text
    assert page.count("2 missing") == page.count("not complete") == 28
    assert page.count("nothing to compare") == 1
