"""Every page has a limit of time that holds for all its work, and a scrape has one too."""

from pathlib import Path

import pytest

from tests.support.console import CONSOLE, signed_in
from tests.support.daemon import Premblyd

# While the file is there, which says the limit: writing JSON takes 0.8 s, and so does reading how
# the actions fare; for metrics it has no end.
SLOW = """
import os, time
from premblyd.ground import jsontext
from premblyd.store.readers import Readers
from premblyd.features.statistics import shown as statistics
from premblyd.features.watch import families

def is_slow():
    return os.path.exists({slow!r})

def slowly(work, seconds):
    def do(*arguments, **more):
        until = time.monotonic() + seconds(more)
        while is_slow() and time.monotonic() < until:
            time.sleep(0.01)
        return work(*arguments, **more)
    return do

jsontext.dumps = slowly(jsontext.dumps, lambda _: 0.8)
statistics.attempts_of = slowly(statistics.attempts_of, lambda _: 0.8)
families.read = slowly(families.read, lambda _: 30)
Readers.time_limit_s = property(
    lambda _: float(open({slow!r}).read()) if is_slow() else 30, lambda *_: None
)
"""


@pytest.mark.process
def test_what_a_page_reads_and_makes_has_one_limit_and_a_scrape_that_is_too_slow_leaves_the_counts(
    tmp_path: Path,
) -> None:
    slow = tmp_path / "slow"
    with Premblyd(tmp_path, console=CONSOLE) as daemon:
        daemon.start(before=SLOW.replace("{slow!r}", repr(str(slow))))
        assert daemon.send(b"{}").status == 200
        own = signed_in(daemon)
        slow.write_text("1.4")
        page = own.get("/overview.json")
        assert (page.status, "That took too long" in page.text) == (503, True)
        slow.write_text("3.8")  # more than a busy machine takes for the counts
        page = own.get("/metrics")
        slow.unlink()
        assert own.get("/overview.json").status == 200, "the next page has its own"
    assert page.status == 200
    assert 'premblyd_webhooks_total{endpoint="prembly",result="received"} 1.0' in page.text
    assert "premblyd_record_readable 0.0" in page.text
    assert "premblyd_dead_deliveries" not in page.text
