"""Every page has a limit of time that holds for all its work, and a scrape has one too."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.console import CONSOLE, Browser, signed_in
from tests.support.daemon import Premblyd

# Writing JSON takes 0.8 s, and so does reading how the actions fare; for metrics it has no end.
# The limit is read from a file: what is to be within it has more time than a busy machine takes.
SLOW = """
import pathlib, time
from premblyd import jsontext
from premblyd.engines.readers import Readers
from premblyd.record import statistics

def slowly(work, seconds):
    def do(*arguments, **more):
        until = time.monotonic() + seconds(more)
        while time.monotonic() < until:
            time.sleep(0.01)
        return work(*arguments, **more)
    return do

jsontext.dumps = slowly(jsontext.dumps, lambda _: 0.8)
statistics.actions = slowly(
    statistics.actions, lambda asked: 30 if asked["since_ms"] == asked["now_ms"] else 0.8
)
limit = pathlib.Path({limit!r})
Readers.time_limit_s = property(lambda _: float(limit.read_text()), lambda *_: None)
"""
LONG, SHORT = "30", "1.4"
FEW = "3.8"


@pytest.fixture(scope="module", name="limit")
def make_limit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file that says how long a page may take, in seconds."""
    limit = tmp_path_factory.mktemp("slow") / "limit"
    limit.write_text(LONG)
    return limit


@pytest.fixture(scope="module", name="slow")
def run_slow(limit: Path) -> Iterator[Browser]:
    with Premblyd(limit.parent, console=CONSOLE) as daemon:
        daemon.start(before=SLOW.replace("{limit!r}", repr(str(limit))))
        assert daemon.send(b"{}").status == 200
        yield signed_in(daemon)


@pytest.mark.process
def test_what_a_page_reads_and_makes_has_one_limit(slow: Browser, limit: Path) -> None:
    limit.write_text(LONG)
    assert slow.get("/actions").status == 200
    assert slow.get("/events.json").status == 200
    limit.write_text(SHORT)
    page = slow.get("/actions.json")
    assert page.status == 503
    assert "That took too long" in page.text
    limit.write_text(LONG)
    assert slow.get("/events.json").status == 200, "the next page has its own"


def test_a_record_that_takes_too_long_for_a_scrape_leaves_the_counts(
    slow: Browser, limit: Path
) -> None:
    limit.write_text(FEW)
    page = slow.get("/metrics")
    assert page.status == 200
    assert 'premblyd_webhooks_total{endpoint="prembly",result="received"} 1.0' in page.text
    assert "premblyd_record_readable 0.0" in page.text
    assert "premblyd_dead_deliveries" not in page.text
