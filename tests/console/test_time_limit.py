"""Every page has a limit of time that holds for all its work, and a scrape has one too."""

from collections.abc import Iterator

import pytest

from tests.support.console import CONSOLE, Browser, signed_in
from tests.support.daemon import Premblyd

# Writing JSON takes 0.8 s, and so does reading how the actions fare; for metrics it has no end. To
# find a session takes 0.2 s, and a stream does that for each line.
SLOW = """
import time
from premblyd import jsontext
from premblyd.console import live
from premblyd.engines.readers import Readers
from premblyd.record import access, statistics

def slowly(work, seconds):
    def do(*arguments, **more):
        until = time.monotonic() + seconds(more)
        while time.monotonic() < until:
            time.sleep(0.01)
        return work(*arguments, **more)
    return do

jsontext.dumps = slowly(jsontext.dumps, lambda _: 0.8)
access.find_session = slowly(access.find_session, lambda _: 0.2)
statistics.actions = slowly(
    statistics.actions, lambda asked: 30 if asked["since_ms"] == asked["now_ms"] else 0.8
)
live._message = lambda pulse: b"data: 1\\n\\n"
live.SESSION_EVERY, live.EVERY_S = 1, 0.01
Readers.__init__.__kwdefaults__["time_limit_s"] = 1.4
"""


@pytest.fixture(scope="module", name="slow")
def run_slow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Premblyd(tmp_path_factory.mktemp("slow"), console=CONSOLE) as daemon:
        daemon.start(before=SLOW)
        assert daemon.send(b"{}").status == 200
        yield signed_in(daemon)


def test_what_a_page_reads_and_makes_has_one_limit(slow: Browser) -> None:
    assert slow.get("/actions").status == 200
    assert slow.get("/events.json").status == 200
    page = slow.get("/actions.json")
    assert page.status == 503
    assert "That took too long" in page.text
    assert slow.get("/events.json").status == 200, "the next page has its own"


def test_a_record_that_takes_too_long_for_a_scrape_leaves_the_counts(slow: Browser) -> None:
    page = slow.get("/metrics")
    assert page.status == 200
    assert 'premblyd_webhooks_total{endpoint="prembly",result="received"} 1.0' in page.text
    assert "premblyd_record_readable 0.0" in page.text
    assert "premblyd_dead_deliveries" not in page.text


def test_a_stream_has_the_limit_for_each_look_at_its_session(slow: Browser) -> None:
    with slow.stream("/live") as lines:
        assert [next(lines) for _ in range(8)] == [1] * 8
